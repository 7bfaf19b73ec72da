"""Shards in WebDataset pipelines: only samples that a plan keeps are read (`PlannedShards`) or decoded (`selected`)."""

try:
    import torch  # noqa: F401 - only to see whether it is installed
    import webdataset  # noqa: F401 - as above
except ImportError as error:
    raise ImportError(
        'adaptive_sampler.webdataset needs PyTorch and WebDataset: pip install "adaptive-sampler[webdataset]"',
        name=error.name,
    ) from error

from adaptive_sampler.webdataset.planned import PlannedShards
from adaptive_sampler.webdataset.selected import selected

__all__ = ["PlannedShards", "selected"]
