"""Draw as many samples of a small group as of a large one: class- and group-balanced draws."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

from adaptive_sampler.checks import is_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.selection.group_shares import How, plan_shares, settle_shared
from adaptive_sampler.selection.per_group import ranking


@dataclass(frozen=True, eq=False)
class Balanced(Composable):
    """Give each of the `groups` a share of the draws, or of the loss, in proportion to its number of rows to the `power`.

    power 0: every group is equally likely, whatever its size; each row has the weight 1 / (rows of its group). power 1: groups
    as they are. Between them, as languages are drawn (Conneau & Lample 2019, section 3.1, α); with `power=Geometric(1.0, 0.9)` from
    the data as they are towards balance.

    `groups`: the name of a column of the store, or (n,) labels, such as classes. `how`: "draw", `num_samples` rows with
    replacement, as for `Draw`; or "weigh", every row once with a loss weight, 1 on average. It goes by no score.
    """

    groups: Any
    _: KW_ONLY
    power: Varying = 0.0
    how: How = "draw"
    num_samples: Varying = None

    def __post_init__(self) -> None:
        settle_shared(self)
        if not is_number(self.power) or not 0 <= self.power <= 1:
            raise InvalidValue(f"power={self.power!r}: 0 for balance, 1 for groups as they are, or between them.")

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """The draw, or every row with its weight."""
        groups = ranking(self, store)
        shares = groups.numbers**self.power
        return plan_shares(self, store, groups, shares / shares.sum(), epoch, seed)
