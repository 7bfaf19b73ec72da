"""torchdata's samplers. Its weighted sampler has no case here, because it chooses among data sets, not among rows."""

from adaptive_sampler.commands.bench.base import BATCH, Turn
from adaptive_sampler.commands.bench.data import drain


def stateful_batches(n: int) -> Turn:
    """The RandomSampler and BatchSampler that StatefulDataLoader makes."""
    from torchdata.stateful_dataloader.sampler import BatchSampler, RandomSampler

    walk = BatchSampler(RandomSampler(range(n)), BATCH, False)
    return lambda: drain(walk)


def node_batches(n: int) -> Turn:
    """A pipeline of nodes around torch's RandomSampler."""
    from torch.utils.data import RandomSampler
    from torchdata.nodes import Batcher, Loader, SamplerWrapper

    walk = Loader(Batcher(SamplerWrapper(RandomSampler(range(n))), BATCH, drop_last=False))
    return lambda: drain(walk)
