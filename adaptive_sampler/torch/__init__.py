"""Drop-in samplers, loss hooks and gradient scores for PyTorch."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError('adaptive_sampler.torch needs PyTorch: pip install "adaptive-sampler[torch]"') from error

from adaptive_sampler.torch.alignment import alignment
from adaptive_sampler.torch.dataset import IndexedDataset
from adaptive_sampler.torch.grand import grand, grand_last_layer
from adaptive_sampler.torch.hook import LossHook
from adaptive_sampler.torch.influence import influence
from adaptive_sampler.torch.l2rw import L2RWLoss, l2rw_weights
from adaptive_sampler.torch.observe import observe
from adaptive_sampler.torch.samplers import JTTSampler, L2RWSampler, PrunedSampler, SlidingWindowSampler

__all__ = [
    "IndexedDataset",
    "JTTSampler",
    "L2RWLoss",
    "L2RWSampler",
    "LossHook",
    "PrunedSampler",
    "SlidingWindowSampler",
    "alignment",
    "grand",
    "grand_last_layer",
    "influence",
    "l2rw_weights",
    "observe",
]
