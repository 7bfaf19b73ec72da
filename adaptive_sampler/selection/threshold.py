"""Keep the rows on one side of a value, as for self-paced learning, confidence filters, or a cut-off that you know."""

from dataclasses import KW_ONLY, dataclass

import numpy as np

from adaptive_sampler.checks import is_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Order, Scores, check_by, check_choice, check_max_age, stale_age
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.selection.made import make


@dataclass(frozen=True)
class Threshold(Composable):
    """Keep the rows whose score `by` lies on one side of `value`.

    `order="highest"`: score >= `value`. `order="lowest"`: score < `value`, strictly (Kumar et al. 2010, equation 5). `value` is
    compared as float32, as scores are.
    Rows never observed are kept on either side, and so are rows whose score is older than `max_age` epochs.
    """

    value: Varying
    by: str
    _: KW_ONLY
    order: Order = "highest"
    max_age: Varying = None

    def __post_init__(self) -> None:
        check_by(self.by)
        check_choice("order", self.order, ("highest", "lowest"))
        check_max_age(self.max_age)
        infinite = isinstance(self.value, (float, np.floating)) and np.isinf(self.value)
        if not is_number(self.value) and not infinite:
            raise InvalidValue(f"value={self.value!r}: a number on the scale of the score {self.by!r} is needed.")

    def keeps(self, scores: np.ndarray) -> np.ndarray:
        """Which of (m,) float32 scores lie on the side that `order` names, or are NaN, (m,) bool."""
        with np.errstate(over="ignore"):  # beyond float32 lies infinity
            value = np.float32(self.value)
        kept: np.ndarray = scores >= value if self.order == "highest" else scores < value
        kept |= np.isnan(scores)
        return kept

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """The rows on the side that `order` names. Raises `InvalidValue` if there are none."""
        scores = store[self.by]
        kept = self.keeps(scores)
        age = stale_age(store, self.by, epoch, self.max_age)
        if age is not None:
            kept |= ~np.isnan(age)
        if not kept.any():
            side = "reaches" if self.order == "highest" else "is below"
            raise InvalidValue(
                f"no row's {self.by!r} {side} {self.value}: they lie in {scores.min():g} … {scores.max():g}, and an epoch "
                "without samples is none. Move the value."
            )
        return make(store, self, epoch, seed, kept=np.packbits(kept, bitorder="little"))
