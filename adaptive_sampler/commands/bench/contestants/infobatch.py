"""InfoBatch as its authors publish it. The import patches torch's DataLoader, in this process only."""

from typing import Any

from adaptive_sampler.commands.bench.base import BATCH, Turn
from adaptive_sampler.commands.bench.data import losses


def batches(n: int) -> Turn:
    """InfoBatch's epochs, each pruned anew by the same losses."""
    import torch
    from infobatch import InfoBatch

    dataset = InfoBatch(range(n), num_epochs=10**6, prune_ratio=0.5)
    dataset.scores = torch.from_numpy(losses(n))
    sampler = dataset.sampler
    return lambda: _by_hand(sampler)


def _by_hand(sampler: Any) -> None:
    """Make lists of 256 in a plain loop: torch's BatchSampler calls iter() for each batch, which restarts this sampler."""
    batch = []
    for row in sampler:
        batch.append(row)
        if len(batch) == BATCH:
            batch = []
