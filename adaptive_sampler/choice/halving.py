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

    @property
    def cost(self) -> float:
        """In full trainings."""
        return self.size * self.share * len(self.seeds)


def rounds(
    size: int, baseline: str, *, seeds: int, finalists: int, first_share: float, budget: float | None
) -> tuple[Round, ...]:
    """The rounds that bring `size` candidates down to `finalists`, each half as many for twice as long as before.

    Every candidate that is left trains on the same seeds in every round (so that a training may go on from where it was), as
    many as the budget has room for, up to `seeds`; they are no seeds of the last comparison, which has 0 … seeds − 1. `budget`:
    as for `choose`. Raises `InvalidValue` if it has no room for one.
    """
    sizes = [size]
    while sizes[-1] > finalists:
        sizes.append(max(finalists, -(-sizes[-1] // 2)))
    shares = [max(first_share, 0.5 ** (len(sizes) - 1 - number)) for number in range(len(sizes) - 1)]
    once = math.fsum(some * share for some, share in zip(sizes, shares, strict=False))
    last = (sizes[-1] + 1) * seeds
    if budget is None:
        budget = max(0.5 * (size + 1) * seeds, last + 2 * once)
    if budget < last + once:
        raise InvalidValue(
            f"budget={budget:g} full trainings: {baseline!r} and {sizes[-1]} finalists take {last} at seeds={seeds}, and one "
            f"seed of the rounds before {once:g}. Allow {last + once:g} or more, or take fewer seeds, finalists or candidates."
        )
    number = min(int((budget - last) / once + 1e-9), seeds) if once else 0
    each = range(seeds, seeds + number)
    return tuple(
        Round(some, kept, share, each) for some, kept, share in zip(sizes, sizes[1:], shares, strict=False)
    )
