"""Keep a window of the ranking: if the data has wrong labels, these rows are at the very top, which a window leaves out."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

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
)
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.selection.per_group import settle_groups
from adaptive_sampler.selection.ranked import plan_stretch
from adaptive_sampler.selection.sizes import Start, check_size


@dataclass(frozen=True, eq=False)
class Window(Composable):
    """Rank the rows by score `by`, ascending, skip `offset` and keep the next `keep` (Paul et al. 2021, section 4).

    Both are fractions f (float), rounded to floor(f·n + ½) rows in such a way that adjacent windows neither overlap nor
    leave a gap, or counts (int). Rows never observed and rows older than `max_age` are kept first, as with `Prune`; the
    window is then taken from the ranking of the other rows. `ties`: as for `Prune`. `per_group`, `per_class`: as for
    `Prune`; both shares then apply within each group, and a window may hold none of a small one, because adjacent windows
    share its rows. `size`: as for `Prune`; both shares are then of all units, and adjacent windows share no row either.
    """

    keep: Varying
    offset: Varying
    by: str
    _: KW_ONLY
    ties: Ties = "random"
    per_class: Any = None
    max_age: Varying = None
    per_group: Any = None
    size: str | None = None

    def __post_init__(self) -> None:
        check_by(self.by)
        check_share("keep", self.keep)
        check_share("offset", self.offset, zero=True)
        check_choice("ties", self.ties, ("random", "row"))
        check_max_age(self.max_age)
        check_size(self.size)
        settle_groups(self)
        fractions = [s for s in (self.keep, self.offset) if isinstance(s, float)]
        if len(fractions) == 2 and sum(fractions) > 1 + 1e-9:
            raise InvalidValue(
                f"offset={self.offset} + keep={self.keep} is {sum(fractions):g}: the window ends past the last row. "
                f"Keep at most {1 - self.offset:g} at this offset."
            )

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """Every row if no row was observed yet, else the window."""
        return plan_stretch(self, store, epoch, seed, size=self.size)

    def stretch(self, n: int) -> tuple[int, Start]:
        """As `Ranked.stretch`: the window."""
        offset = cut({"offset": self.offset}, n)
        # The rows that come before the ranking shorten it and the window equally, so the window stays inside it.
        return cut({"offset": self.offset, "keep": self.keep}, n) - offset, lambda ranked, number: offset
