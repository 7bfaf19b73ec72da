"""torch's own samplers."""

from typing import Any

from adaptive_sampler.commands.bench.base import BATCH, Turn
from adaptive_sampler.commands.bench.data import drain, kept_half, losses


def batched(sampler: Any) -> Turn:
    """An epoch of `sampler` in lists of 256, as torch's BatchSampler makes them."""
    from torch.utils.data import BatchSampler

    walk = BatchSampler(sampler, BATCH, False)
    return lambda: drain(walk)


def random_batches(n: int) -> Turn:
    """RandomSampler over n rows."""
    from torch.utils.data import RandomSampler

    return batched(RandomSampler(range(n)))


def random_half(n: int) -> Turn:
    """RandomSampler over half as many rows: the shuffle alone, without looking up which rows are kept."""
    return random_batches(n // 2)


def subset_batches(n: int) -> Turn:
    """SubsetRandomSampler over the kept half."""
    from torch.utils.data import SubsetRandomSampler

    return batched(SubsetRandomSampler(kept_half(n).tolist()))


def distributed_batches(n: int) -> Turn:
    """DistributedSampler as the only rank."""
    from torch.utils.data import DistributedSampler

    sampler: Any = DistributedSampler(range(n), num_replicas=1, rank=0)  # type: ignore[arg-type]  # only the length is asked for
    walk = batched(sampler)

    def turn() -> None:
        sampler.set_epoch(sampler.epoch + 1)
        walk()

    return turn


def first_batch(n: int) -> Turn:
    """RandomSampler up to the first batch."""
    from torch.utils.data import BatchSampler, RandomSampler

    walk = BatchSampler(RandomSampler(range(n)), BATCH, False)
    return lambda: next(iter(walk))


def weighted_batches(n: int, replacement: bool) -> Turn:
    """WeightedRandomSampler by the losses."""
    import torch
    from torch.utils.data import WeightedRandomSampler

    weights: Any = torch.from_numpy(losses(n))
    return batched(WeightedRandomSampler(weights, n if replacement else n // 2, replacement))


def multinomial(n: int, replacement: bool) -> Turn:
    """torch.multinomial, which WeightedRandomSampler calls, as one tensor."""
    import torch

    weights = torch.from_numpy(losses(n))
    return lambda: torch.multinomial(weights, n if replacement else n // 2, replacement)
