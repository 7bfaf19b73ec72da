"""Keep the rows with the highest or the lowest scores: data pruning, as with EL2N, GraNd or forgetting."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import (
    Order,
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
from adaptive_sampler.selection.per_group import grouped, settle_groups
from adaptive_sampler.selection.ranked import plan_stretch
from adaptive_sampler.selection.sizes import Start, check_size


@dataclass(frozen=True, eq=False)
class Prune(Composable):
    """Keep a share of the rows: those with the highest or the lowest score `by`, as `order` says.

    Paul et al. 2021, section 3, keep the highest. `keep`: a fraction f (float), which gives floor(f·n + ½) rows, or a
    count (int). Rows never observed are kept first; the plan is larger than `keep` only if there are more of them.
    `max_age`: next come the rows whose score is older than this many epochs, the oldest first. `ties`: rows with equal
    scores are ordered by their numbers ("row", as a stable argsort does) or by a hash of (seed, epoch, row) ("random"),
    of its key where the store has keys.
    `per_group`: the name of a column of the store, or (n,) labels; `keep` then applies within each group, of which at least
    one row stays. `per_class`: the same for (n,) labels of classes.
    `size`: the name of a column of the store, or of a score, such as "tokens": `keep` is then a share, or a number, of all units
    of the rows together. In ascending order a row belongs to the part in which its first unit lies.
    """

    keep: Varying
    by: str
    _: KW_ONLY
    order: Order = "highest"
    ties: Ties = "random"
    per_class: Any = None
    max_age: Varying = None
    per_group: Any = None
    size: str | None = None

    def __post_init__(self) -> None:
        check_by(self.by)
        check_share("keep", self.keep)
        check_choice("order", self.order, ("highest", "lowest"))
        check_choice("ties", self.ties, ("random", "row"))
        check_max_age(self.max_age)
        check_size(self.size)
        settle_groups(self)

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """Every row if no row was observed yet, else the share of best scores."""
        return plan_stretch(
            self, store, epoch, seed, size=self.size, never_none=self.size is not None and grouped(self)
        )

    def stretch(self, n: int) -> tuple[int, Start]:
        """As `Ranked.stretch`: the end of the ascending ranking, or its beginning."""
        return cut({"keep": self.keep}, n, least=1 if grouped(self) else 0), self._start

    def _start(self, ranked: int, number: int) -> int:
        return ranked - number if self.order == "highest" else 0
