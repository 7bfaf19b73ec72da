"""Leave out the ends of a ranking: the rows that look mislabelled, or those that are learned already."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import (
    Scores,
    Ties,
    check_by,
    check_choice,
    check_max_age,
    check_share,
    cut,
    exactly,
)
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.selection.per_group import settle_groups
from adaptive_sampler.selection.ranked import plan_stretch
from adaptive_sampler.selection.sizes import Start


@dataclass(frozen=True, eq=False)
class Exclude(Composable):
    """Leave out the rows with the `lowest` and the `highest` scores `by`, and keep the others.

    `Prune(0.5, "el2n") & Exclude("margin", lowest=0.02)` keeps what is hard but for the 2 % with the lowest margin, which are
    most likely to be mislabelled. Shares are fractions (float) or counts (int) of all rows. They are cut where those of
    `Window` are, so that `Exclude(by, lowest=f, highest=g)` keeps what `Window(1 - f - g, f, by)` keeps. Rows never observed
    are not left out, nor are rows older than `max_age`, in epochs. `ties`: as for `Prune`. `per_group`,
    `per_class`: as for `Prune`; the shares then apply within each group, of which none may be left.
    """

    by: str
    _: KW_ONLY
    lowest: Varying = None
    highest: Varying = None
    ties: Ties = "random"
    per_class: Any = None
    max_age: Varying = None
    per_group: Any = None

    def __post_init__(self) -> None:
        check_by(self.by)
        shares = {name: share for name in ("lowest", "highest") if (share := getattr(self, name)) is not None}
        if not shares:
            raise InvalidValue(f"Exclude({self.by!r}) leaves out nothing: pass lowest= or highest=, or both.")
        for name, share in shares.items():
            check_share(name, share, zero=True)
        fractions = [share for share in shares.values() if isinstance(share, (float, np.floating))]
        if sum(fractions) >= 1:
            told = " + ".join(f"{name}={share}" for name, share in shares.items())
            raise InvalidValue(f"{told} leaves out every row. Leave out less than 1.0 in all.")
        check_choice("ties", self.ties, ("random", "row"))
        check_max_age(self.max_age)
        settle_groups(self)

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """Every row if no row was observed yet, else the rows between the ends.

        Raises `InvalidValue` if the ends are all rows of the store, or counts above their number.
        """
        return plan_stretch(self, store, epoch, seed)

    def stretch(self, n: int) -> tuple[int, Start]:
        """As `Ranked.stretch`: the rows between the ends. Raises `InvalidValue` for counts above `n`."""
        low, high = self._ends(n)
        return max(high - low, 0), lambda ranked, number: min(low, ranked - number)

    def _ends(self, n: int) -> tuple[int, int]:
        """The ranks between which `n` rows are kept: from the first one up to before the second one."""
        low = 0 if self.lowest is None else cut({"lowest": self.lowest}, n)
        if self.highest is None:
            return low, n
        if isinstance(self.highest, (int, np.integer)):
            return low, n - cut({"highest": self.highest}, n)
        return low, math.floor((1 - exactly(self.highest)) * n + exactly(0.5))
