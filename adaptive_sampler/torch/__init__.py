"""Drop-in samplers, loss hooks and gradient scores for PyTorch."""

try:
    import torch as _torch  # noqa: F401 - imported only to find out whether it is installed
except ImportError as error:
    raise ImportError('adaptive_sampler.torch needs PyTorch: pip install "adaptive-sampler[torch]"') from error

from adaptive_sampler.torch.check import check
from adaptive_sampler.torch.data.dataset import IndexedDataset
from adaptive_sampler.torch.data.samplers import (
    AdaptiveSampler,
    JTTSampler,
    L2RWSampler,
    PrunedSampler,
    SlidingWindowSampler,
)
from adaptive_sampler.torch.gradients.alignment import alignment
from adaptive_sampler.torch.gradients.barrier import error_barrier
from adaptive_sampler.torch.gradients.grand import grand, grand_last_layer
from adaptive_sampler.torch.gradients.influence import influence
from adaptive_sampler.torch.gradients.l2rw import L2RWLoss, l2rw_weights
from adaptive_sampler.torch.gradients.ntk import ntk_velocity
from adaptive_sampler.torch.hook.hook import LossHook
from adaptive_sampler.torch.hook.miners import OHEM, Miner, SelectiveBackprop
from adaptive_sampler.torch.hook.parts import PartsLoss
from adaptive_sampler.torch.observe import observe
from adaptive_sampler.torch.ranks.sampler import DistributedAdaptiveSampler
from adaptive_sampler.torch.ranks.sync import distributed_store, sync
from adaptive_sampler.torch.teacher.kept import KeptBatches
from adaptive_sampler.torch.teacher.teacher import Teacher, sooner
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from adaptive_sampler.torch.worst_group import WorstGroup, worst_group

__all__ = [
    "OHEM",
    "AdaptiveSampler",
    "DistributedAdaptiveSampler",
    "IndexedDataset",
    "JTTSampler",
    "KeptBatches",
    "L2RWLoss",
    "L2RWSampler",
    "LossHook",
    "Miner",
    "PartsLoss",
    "PrunedSampler",
    "SelectiveBackprop",
    "SlidingWindowSampler",
    "Teacher",
    "TokenLossHook",
    "WorstGroup",
    "alignment",
    "check",
    "distributed_store",
    "error_barrier",
    "grand",
    "grand_last_layer",
    "influence",
    "l2rw_weights",
    "ntk_velocity",
    "observe",
    "sooner",
    "sync",
    "worst_group",
]
