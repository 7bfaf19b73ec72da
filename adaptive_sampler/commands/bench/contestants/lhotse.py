"""Lhotse's weighted sampler, which holds and yields cuts of audio."""

from adaptive_sampler.commands.bench.base import BATCH, Turn
from adaptive_sampler.commands.bench.data import drain, losses


def weighted_batches(n: int) -> Turn:
    """WeightedSimpleCutSampler: n/2 of n cuts of one second each, drawn without replacement, 256 per batch."""
    from lhotse import CutSet, MonoCut
    from lhotse.dataset.sampling.weighted_simple import WeightedSimpleCutSampler

    cuts = CutSet.from_cuts(MonoCut(id=str(i), start=0, duration=1.0, channel=0) for i in range(n))
    walk = WeightedSimpleCutSampler(cuts, losses(n).tolist(), num_samples=n // 2, max_cuts=BATCH)
    return lambda: drain(walk)
