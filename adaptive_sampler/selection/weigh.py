"""Keep every row and weigh its loss by its score: focal weights, robust optimisation, importance weights."""

import inspect
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, check_by, check_choice, describe
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.made import make
from adaptive_sampler.selection.schedules import Schedule
from adaptive_sampler.selection.weights import BY_NAME, Weights


@dataclass(frozen=True)
class Weigh(Composable):
    """Visit every row once, with a loss weight that `how` makes of its score `by`.

    `how`: "focal", "linear", "exponential", "ratio", or `Focal(gamma)`, `Proportional(floor)`, `Exponential(temperature)`,
    `Ratio()`, `Clip(lowest, highest)`, which say what each is; or a function of your own, called with the (m,) float32 scores
    of the rows that were observed (an array of its own, in the order of the rows), which returns (m,) weights; or a list of
    these, each of which gets what the one before it made: `["exponential", Clip(highest=0.01)]`. `by` may be a list of names;
    `how`, or the first in its list, is then called with an array for each, of the rows observed for all of them.

    Rows never observed have the weight 1. `normalize`: divide the weights by their mean over the observed rows; otherwise they
    are what `how` made. Weights of 0 are allowed, unless all are; such rows are still visited. Pass the sampler to `LossHook`,
    which applies the weights; the value that it returns is divided by what the unweighted loss is divided by.

    A plan names a function by its module and name. Raises `InvalidValue` for what is none of these, for what a plan cannot
    name, and for a function that does not take as many arrays as `by` has names.
    """

    by: str | Sequence[str]
    how: Any
    _: KW_ONLY
    normalize: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.by, (list, tuple)) and self.by:
            object.__setattr__(self, "by", tuple(self.by))
        for name in self._names:
            check_by(name)
        several = isinstance(self.how, (list, tuple))
        steps = tuple(map(_step, self.how)) if several else (_step(self.how),)
        if not steps:
            raise InvalidValue("how=[] makes no weights of the scores: give it one step or more.")
        object.__setattr__(self, "how", steps if several else steps[0])
        check_choice("normalize", self.normalize, (True, False))
        _check_takes(steps[0], len(self._names), f"by={self.by!r}")
        for step in steps[1:]:
            _check_takes(step, 1, f"what {_told(steps[0])} returns")
        describe(self)  # raises for what a plan cannot name

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """Every row with its weight; with weight 1 as long as no row was observed.

        Raises `InvalidValue`, naming row, score and value, for a weight that is negative, NaN or inf; if a function does not
        return one number for each score; and if every weight is 0.
        """
        scores = [store[name] for name in self._names]
        seen = ~np.isnan(scores[0])
        for more in scores[1:]:
            seen &= ~np.isnan(more)
        weights = np.ones(len(store), np.float32)
        if seen.any():
            weights[seen] = self._of([score[seen] for score in scores], seen)
        return make(store, self, epoch, seed, weights=weights)

    def _of(self, scores: list[NDArray[np.float32]], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The weights of the observed rows, (m,) float32, from their scores, (m,) float32 each; `seen`: (n,), the rows."""
        steps = self.how if isinstance(self.how, tuple) else (self.how,)
        values = [score.copy() for score in scores]  # a function may change what it gets
        with np.errstate(all="ignore"):  # what comes of it is looked at below
            for step in steps:
                values = [_numbers(step, step(*values), len(scores[0]))]
                self._check(np.isnan(values[0]), step, values[0], scores, seen)
        weights = values[0]
        self._check(~(np.isfinite(weights) & (weights >= 0)), steps[-1], weights, scores, seen)
        mean = weights.mean(dtype=np.float64)
        if self.normalize and mean > 0:
            weights = (weights / mean).astype(np.float32)
        return weights

    def _check(
        self,
        bad: NDArray[np.bool_],
        step: Weights,
        made: NDArray[np.float32],
        scores: list[NDArray[np.float32]],
        seen: NDArray[np.bool_],
    ) -> None:
        """Raise `InvalidValue` if any value that a step made is `bad`, all (m,); one of an infinite score is named first."""
        if not bad.any():
            return
        infinite = bad & ~np.logical_and.reduce([np.isfinite(score) for score in scores])
        i = int(np.argmax(infinite if infinite.any() else bad))
        told = " and ".join(f"{name!r} {score[i]:g}" for name, score in zip(self._names, scores, strict=True))
        takes = getattr(step, "takes", None)
        rule = f"It takes {takes}" if takes else "A loss weight is a finite number, 0 or more"
        raise InvalidValue(
            f"row {np.flatnonzero(seen)[i]} has {told}, and {_told(step)} makes {made[i]:g} of it. {rule}. Weigh by another "
            "score, or by a function that takes it."
        )

    @property
    def _names(self) -> tuple[Any, ...]:
        return self.by if isinstance(self.by, tuple) else (self.by,)


def _step(how: Any) -> Weights:
    """`how`, or what its name stands for. Raises `InvalidValue` for what is neither."""
    if isinstance(how, str):
        check_choice("how", how, tuple(BY_NAME))
        return BY_NAME[how]
    if isinstance(how, type):
        raise InvalidValue(f"how={how.__name__} is a class: pass one of it, {how.__name__}().")
    if isinstance(how, Schedule):
        raise InvalidValue(
            f"how={how!r}: a number for each epoch, and no weights of scores. Pass it within, as Exponential({how!r})."
        )
    if not callable(how):
        raise InvalidValue(
            f"how={how!r}: one of {', '.join(map(repr, BY_NAME))}, a function from scores (m,) to weights (m,), or a list of these."
        )
    return how  # type: ignore[no-any-return]  # callable, as was just asked


def _check_takes(step: Weights, number: int, what: str) -> None:
    """Raise `InvalidValue` unless a function may be called with `number` arrays, as far as it tells what it takes."""
    try:
        signature = inspect.signature(step)
    except (TypeError, ValueError):  # one written in C may not tell
        return
    try:
        signature.bind(*[None] * number)
    except TypeError as error:
        raise InvalidValue(
            f"{_told(step)} cannot be called with {what}, {'one array' if number == 1 else f'{number} arrays'} of scores: "
            f"{error}. by takes a name for each array that the function takes."
        ) from error


def _numbers(step: Weights, returned: Any, m: int) -> NDArray[np.float32]:
    """What a step returned, as (m,) float32. Raises `InvalidValue` for anything but one real number for each score."""
    values = to_host(returned)
    if values.shape != (m,) or values.dtype.kind not in "fiub":
        raise InvalidValue(
            f"{_told(step)} returns {type(returned).__name__} of shape {values.shape} and dtype {values.dtype} for {m} scores: one "
            f"real number for each is needed, ({m},)."
        )
    return np.array(values, np.float32)


def _told(step: Weights) -> str:
    """A step, for messages: how it is written."""
    name = getattr(step, "__name__", None)  # all that a ufunc has before NumPy 2.2
    return getattr(step, "__qualname__", None) or name or repr(step)
