"""Which trainings there will be: the rounds of successive halving, and what they and the last comparison cost."""

import math
from dataclasses import dataclass

from adaptive_sampler.errors import InvalidValue


@dataclass(frozen=True)
class Round:
    """One round: `size` candidates train on each of `seeds` for `share` of a training, and the best `kept` go on."""

    size: int
    kept: int
    share: float
    seeds: range


def rounds(
    size: int, baseline: str, *, seeds: int, finalists: int, first_share: float, budget: float | None
) -> tuple[Round, ...]:
    """The rounds that bring `size` candidates down to `finalists`, in each half as many for twice as long as in the one before.

    Every candidate that is left trains on the same seeds in every round (so that a training may go on from where it was), as
    many as the budget has room for, up to `seeds`; they are no seeds of the last comparison, which has 0 … seeds − 1. `budget`:
    as for `choose`. Raises `InvalidValue` if it has no room for one.
    """
    steps = _steps(size, finalists, first_share)
    once = math.fsum(some * share for some, _, share in steps)
    last = (min(size, finalists) + 1) * seeds
    if budget is None:
        budget = max(0.5 * (size + 1) * seeds, last + 2 * once)
    if budget < last + once:
        raise InvalidValue(
            f"budget={budget:g} full trainings: {baseline!r} and {min(size, finalists)} finalists take {last} at seeds={seeds}, "
            f"and one seed of the rounds before {once:g}. Allow {last + once:g} or more, or take fewer seeds, finalists or "
            "candidates."
        )
    number = min(int((budget - last) / once + 1e-9), seeds) if once else 0
    return tuple(Round(*step, range(seeds, seeds + number)) for step in steps)


def _steps(size: int, finalists: int, first_share: float) -> list[tuple[int, int, float]]:
    """(size, kept, share) of each round. A second round of the same share would learn nothing new, and is one with the first."""
    sizes = [size]
    while sizes[-1] > finalists:
        sizes.append(max(finalists, -(-sizes[-1] // 2)))
    steps: list[tuple[int, int, float]] = []
    for number, kept in enumerate(sizes[1:], 1):
        share = max(first_share, 0.5 ** (len(sizes) - number))
        before = steps.pop() if steps and steps[-1][2] == share else (sizes[number - 1], kept, share)
        steps.append((before[0], kept, share))
    return steps
