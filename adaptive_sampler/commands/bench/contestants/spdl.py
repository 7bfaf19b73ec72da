"""SPDL's DistributedRandomSampler as the only rank."""

from adaptive_sampler.commands.bench.base import Turn
from adaptive_sampler.commands.bench.contestants.torch import batched
from adaptive_sampler.commands.bench.data import losses


def batches(n: int) -> Turn:
    """An epoch, shuffled anew each time."""
    from spdl.source import DistributedRandomSampler
    from spdl.source.utils import embed_shuffle

    return batched(embed_shuffle(DistributedRandomSampler(n, rank=0, world_size=1)))


def weighted_batches(n: int) -> Turn:
    """n draws with replacement by the losses."""
    from spdl.source import DistributedRandomSampler
    from spdl.source.utils import embed_shuffle

    return batched(embed_shuffle(DistributedRandomSampler(n, rank=0, world_size=1, weights=losses(n).tolist())))
