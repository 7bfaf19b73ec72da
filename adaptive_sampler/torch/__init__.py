"""Drop-in samplers, loss hooks and gradient scores for PyTorch."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError('adaptive_sampler.torch needs PyTorch: pip install "adaptive-sampler[torch]"') from error

from adaptive_sampler.torch.check import check
from adaptive_sampler.torch.dataset import IndexedDataset
from adaptive_sampler.torch.distributed import DistributedAdaptiveSampler
from adaptive_sampler.torch.hook import LossHook
from adaptive_sampler.torch.merge import distributed_store, sync
from adaptive_sampler.torch.observe import observe
from adaptive_sampler.torch.samplers import JTTSampler, L2RWSampler, PrunedSampler, SlidingWindowSampler

__all__ = [
    "DistributedAdaptiveSampler",
    "IndexedDataset",
    "JTTSampler",
    "L2RWSampler",
    "LossHook",
    "PrunedSampler",
    "SlidingWindowSampler",
    "check",
    "distributed_store",
    "observe",
    "sync",
]
