"""Twins of the miners, on plain lists."""

import math
from collections.abc import Sequence


def ohem(losses: Sequence[float], number: int) -> list[int]:
    """The positions of the highest losses, NaN as inf; of equal ones the first."""
    heights = [math.inf if math.isnan(loss) else loss for loss in losses]
    return sorted(sorted(range(len(losses)), key=lambda i: (-heights[i], i))[:number])


def selective_probabilities(before: Sequence[float], losses: Sequence[float], beta: float, history: int) -> list[float]:
    """F(loss)^beta over the last `history` losses (Jiang et al. 2019), those of the batch included; 1 for NaN and inf."""
    recent = [loss for loss in [*before, *losses] if math.isfinite(loss)][-history:]
    shares = [sum(other <= loss for other in recent) / max(len(recent), 1) for loss in losses]
    return [
        s**beta if math.isfinite(loss) else float(loss != -math.inf) for s, loss in zip(shares, losses, strict=True)
    ]
