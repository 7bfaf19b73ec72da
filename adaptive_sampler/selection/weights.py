"""How scores become loss weights: the functions that `Weigh` takes by the names of the literature."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.checks import is_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection.base import exactly
from adaptive_sampler.selection.following import Following, Varying

# (m,) float32 scores of rows, an array for each score -> their weights, (m,)
Weights = Callable[..., Any]


@dataclass(frozen=True)
class Focal(Following):
    """(1 − p)^`gamma` of a probability p: what the model is sure of counts little (Lin et al. 2017, Focal Loss, equation 4).

    For `by="confidence"`, the probability of the label: of p = 0.9 and γ = 2 the weight is 0.01. Here p is the recorded score,
    so that the weight is a constant for the gradient; in the paper's loss it is the p of this very step. `gamma`: 0 or more.
    """

    gamma: Varying = 2.0
    takes: ClassVar[str] = "probabilities, 0 to 1, such as those of 'confidence'"

    def __post_init__(self) -> None:
        if not is_number(self.gamma) or self.gamma < 0:
            raise InvalidValue(f"gamma={self.gamma!r}: the exponent of 1 − p, a finite number, 0 or more.")

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[Any]:
        """(m,) probabilities -> (m,) weights; NaN for what is no probability. A mean of ones may be 1 but for rounding."""
        known = (scores >= 0) & (scores <= 1 + 1e-5)
        return np.where(known, np.maximum(1 - scores, 0) ** np.float32(self.gamma), np.float32(np.nan))


@dataclass(frozen=True)
class Proportional(Following):
    """In proportion to the score, 1 on average: s / mean(s), what `Draw` does by visits.

    `floor`: the share that is equal for all, (1 − floor)·s/mean(s) + floor, so that a score of 0 keeps a weight. If all scores
    are 0, all weights are 1 with a `floor`, and 0 without.
    """

    floor: Varying = 0.0
    takes: ClassVar[str] = "finite scores that are not negative"

    def __post_init__(self) -> None:
        if not is_number(self.floor) or not 0 <= self.floor <= 1:
            raise InvalidValue(f"floor={self.floor!r}: the share of equal weights, 0 <= floor <= 1.")

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[Any]:
        """(m,) scores -> (m,) weights; NaN for a score that is negative or infinite."""
        mean = scores.mean(dtype=np.float64)
        if mean == 0 and not scores.any():
            return np.full_like(scores, self.floor > 0)
        weights = (1 - self.floor) * (scores / mean) + self.floor
        return np.where((scores >= 0) & np.isfinite(scores), weights, np.nan)


@dataclass(frozen=True)
class Exponential(Following):
    """exp(s / `temperature`), 1 on average: for a loss the weights of KL-regularised robust optimisation.

    They are those of tilted empirical risk minimisation with t = 1 / `temperature` (Li et al. 2021): the closer the
    temperature is to 0, the more the highest scores count. A negative one turns that round, against outliers.
    """

    temperature: Varying = 1.0
    takes: ClassVar[str] = "finite scores"

    def __post_init__(self) -> None:
        if not is_number(self.temperature) or self.temperature == 0:
            raise InvalidValue(
                f"temperature={self.temperature!r}: the difference of scores that makes a factor of e, a finite number but 0."
            )

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[Any]:
        """(m,) scores -> (m,) weights, none of which overflows."""
        tilted = scores.astype(np.float64) / self.temperature
        weights: NDArray[Any] = np.exp(tilted - tilted.max())
        weights /= weights.mean()
        return weights


@dataclass(frozen=True)
class Clip(Following):
    """Bring in the ends: of m values, the ⌊`lowest`·m⌋ lowest and ⌊`highest`·m⌋ highest become the nearest that is left.

    That is winsorising, a clip at two quantiles. Before another step it clips scores, after it weights:
    `Weigh("loss", ["exponential", Clip(highest=0.01)])`. `lowest`, `highest`: shares, below 1 together.
    """

    lowest: Varying = 0.0
    highest: Varying = 0.0

    def __post_init__(self) -> None:
        shares = {"lowest": self.lowest, "highest": self.highest}
        for name, share in shares.items():
            if not is_number(share) or not 0 <= share < 1:
                raise InvalidValue(f"{name}={share!r}: the share of values to bring in, 0 <= {name} < 1.")
        if not 0 < exactly(self.lowest) + exactly(self.highest) < 1:
            told = " and ".join(f"{name}={share}" for name, share in shares.items())
            raise InvalidValue(f"{told}: bring in a part of the values, more than 0 and less than 1.0 in all.")

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(m,) values -> (m,) values, in the same order."""
        first = math.floor(exactly(self.lowest) * len(values))
        last = len(values) - 1 - math.floor(exactly(self.highest) * len(values))
        ranked = np.partition(values, [first, last])
        return np.clip(values, ranked[first], ranked[last])


@dataclass(frozen=True)
class Ratio:
    """The first score over the second, w / q: importance weights, for samples that come by q and should count by w.

    `Weigh(["target", "proposal"], Ratio())`. With `Draw("proposal")` beside it the expected loss is that of the target, if both
    scores have the same sum. For data that were collected by q, give `Weigh` the argument `normalize=True`.
    """

    takes: ClassVar[str] = "two finite scores that are not negative, the second above 0"

    def __call__(self, target: NDArray[np.float32], proposal: NDArray[np.float32]) -> NDArray[Any]:
        """(m,) and (m,) scores -> (m,) weights; NaN where either is no density, or the second is 0."""
        known = (target >= 0) & (proposal > 0) & np.isfinite(target) & np.isfinite(proposal)
        return np.where(known, target / proposal, np.float32(np.nan))


BY_NAME: dict[str, Weights] = {
    "focal": Focal(),
    "linear": Proportional(),
    "exponential": Exponential(),
    "ratio": Ratio(),
}
