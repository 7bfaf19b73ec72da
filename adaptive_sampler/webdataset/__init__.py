"""Planned shards in WebDataset pipelines: only what a plan keeps is read, or at least decoded."""

try:
    import torch  # noqa: F401
    import webdataset  # noqa: F401
except ImportError as error:
    raise ImportError(
        'adaptive_sampler.webdataset needs PyTorch and WebDataset: pip install "adaptive-sampler[webdataset]"',
        name=error.name,
    ) from error

from adaptive_sampler.webdataset.planned import PlannedShards
from adaptive_sampler.webdataset.selected import selected

__all__ = ["PlannedShards", "selected"]
