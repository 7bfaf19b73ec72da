"""Grain's IndexSampler, which is asked for one position at a time."""

from itertools import count

from adaptive_sampler.commands.bench.base import BATCH, Turn


def batches(n: int) -> Turn:
    """The record keys of an epoch in lists of 256. Positions continue from one epoch to the next."""
    from grain.python import IndexSampler

    sampler = IndexSampler(n, shuffle=True, seed=0)
    epochs = count()

    def turn() -> None:
        first = next(epochs) * n
        for start in range(first, first + n, BATCH):
            [sampler[i].record_key for i in range(start, min(start + BATCH, first + n))]

    return turn
