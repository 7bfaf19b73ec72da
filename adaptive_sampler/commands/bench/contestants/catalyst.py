"""Catalyst's samplers. DynamicBalanceClassSampler has no case here, because its epochs become shorter and shorter."""

from adaptive_sampler.commands.bench.base import Turn
from adaptive_sampler.commands.bench.contestants.torch import batched
from adaptive_sampler.commands.bench.data import CLASSES, labels


def mini_epochs(n: int) -> Turn:
    """MiniEpochSampler with mini epochs of all n rows."""
    from catalyst.data.sampler import MiniEpochSampler

    return batched(MiniEpochSampler(n, n, shuffle="per_epoch"))


def balanced_batches(n: int) -> Turn:
    """BalanceClassSampler: n draws, a tenth of them from each of ten classes of very different sizes."""
    from catalyst.data.sampler import BalanceClassSampler

    return batched(BalanceClassSampler(labels(n).tolist(), mode=n // CLASSES))
