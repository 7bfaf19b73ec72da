"""Numbers that follow the epoch: linear, by a root, by a cosine, in steps, by a factor."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from fractions import Fraction
from typing import Any

from adaptive_sampler.checks import is_number, is_whole, whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection.base import exactly


class Schedule(ABC):
    """A number for each epoch, `schedule(epoch)`; epochs count from 0, those of a warm-up too."""

    @property
    def last(self) -> int | None:
        """From which epoch on the number stays the same; None: that is not known."""
        return None

    @abstractmethod
    def __call__(self, epoch: int) -> float:
        """The number at `epoch`, 0 or more."""


@dataclass(frozen=True)
class _Between(Schedule):
    """From `start` in epoch 0 to `end` in epoch `epochs`, and from then on `end`."""

    start: float
    end: float
    _: KW_ONLY
    epochs: int

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            _check_number(name, getattr(self, name))
        whole_number("epochs", self.epochs, 1, what="how many epochs it takes from start to end")

    @property
    def last(self) -> int:
        """As `Schedule.last`."""
        return int(self.epochs)

    def __call__(self, epoch: int) -> float:
        """The number at `epoch`."""
        if epoch <= 0 or epoch >= self.epochs:
            return float(self.start if epoch <= 0 else self.end)
        low, high = sorted([float(self.start), float(self.end)])
        return min(max(self._at(Fraction(int(epoch), int(self.epochs))), low), high)  # whatever was rounded

    def _at(self, part: Fraction) -> float:
        """The number after this part of the way, between 0 and 1."""
        raise NotImplementedError


@dataclass(frozen=True)
class Linear(_Between):
    """start + (end − start) · t / epochs in epoch t, and from epoch `epochs` on `end`.

    The linear competence of Platanios et al. 2019 (equation 6) with end=1.0. It is computed exactly from the decimals that the
    numbers are written as: `Linear(0.3, 1.0, epochs=10)` is 0.37 in epoch 1.
    """

    def _at(self, part: Fraction) -> float:
        return float(exactly(self.start) + (exactly(self.end) - exactly(self.start)) * part)


@dataclass(frozen=True)
class Root(_Between):
    """√(start² + (end² − start²) · t / epochs) in epoch t, and from epoch `epochs` on `end`: fast at first, then slower.

    The square-root competence of Platanios et al. 2019 (equation 7) with end=1.0: what is added to the data per epoch shrinks
    with the data. `start`, `end`: 0 or more.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("start", "end"):
            if getattr(self, name) < 0:
                raise InvalidValue(f"{name}={getattr(self, name)!r}: the root is of its square: 0 or more.")

    def _at(self, part: Fraction) -> float:
        square = exactly(self.start) ** 2
        return math.sqrt(square + (exactly(self.end) ** 2 - square) * part)


@dataclass(frozen=True)
class Cosine(_Between):
    """end + (start − end) · (1 + cos(π t / epochs)) / 2 in epoch t, and from epoch `epochs` on `end`: slow at both ends.

    Rounded to twelve digits, so that no machine's cosine makes another plan.
    """

    def _at(self, part: Fraction) -> float:
        return float(f"{self.end + (self.start - self.end) * (1 + math.cos(math.pi * part)) / 2:.12g}")


@dataclass(frozen=True)
class Steps(Schedule):
    """Numbers from some epochs on: `Steps({0: 0.2, 5: 0.5, 8: 1.0})` is 0.2 up to epoch 4 and 1.0 from epoch 8 on.

    The two stages of Bengio et al. 2009, and single-step pacing of Hacohen & Weinshall 2019, are two entries. `values`: epoch ->
    number, with one for epoch 0. Whole numbers stay whole, so that counts can be given.
    """

    values: Any

    def __post_init__(self) -> None:
        pairs = tuple(self.values.items()) if isinstance(self.values, Mapping) else self.values
        paired = isinstance(pairs, (tuple, list)) and all(
            isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs
        )
        given = dict(pairs) if paired and all(is_whole(epoch) for epoch, _ in pairs) else {}
        if not given or len(given) < len(pairs):
            raise InvalidValue(
                f"values={self.values!r}: a dict of numbers by epoch is needed, such as {{0: 0.3, 5: 1.0}}."
            )
        if 0 not in given:
            raise InvalidValue(f"values={self.values!r} says nothing of epoch 0. Give it a number too.")
        for epoch, value in given.items():
            _check_number(f"the number from epoch {epoch} on", value)
        object.__setattr__(self, "values", tuple((int(epoch), given[epoch]) for epoch in sorted(given)))

    @property
    def last(self) -> int:
        """As `Schedule.last`."""
        return int(self.values[-1][0])

    def __call__(self, epoch: int) -> float:
        """The number at `epoch`."""
        return next(value for first, value in reversed(self.values) if first <= max(epoch, 0))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Geometric(Schedule):
    """start · factor^⌊t / every⌋ in epoch t, as far as `end`, which lies on that way; None: without end.

    With end=1.0 the fixed exponential pacing of Hacohen & Weinshall 2019. Without, the growing threshold of self-paced learning
    (Kumar et al. 2010). Computed exactly from the decimals that the numbers are written as; beyond all floats it is inf.
    """

    start: float
    factor: float
    _: KW_ONLY
    every: int = 1
    end: float | None = None

    def __post_init__(self) -> None:
        for name in ("start", "factor", "end"):
            if getattr(self, name) is not None or name != "end":
                _check_number(name, getattr(self, name))
        if self.factor <= 0:
            raise InvalidValue(f"factor={self.factor!r}: what the number is multiplied by, above 0.")
        whole_number("every", self.every, 1, what="after how many epochs it is multiplied")
        if self.end is not None and (self.end < self.start if self._rises else self.end > self.start):
            raise InvalidValue(
                f"end={self.end!r}: from start={self.start!r} the factor {self.factor!r} leads away from it. Pass an end that is "
                f"{'higher' if self._rises else 'lower'}, or None."
            )

    @property
    def _rises(self) -> bool:
        return (self.factor >= 1) == (self.start >= 0)

    def __call__(self, epoch: int) -> float:
        """The number at `epoch`."""
        try:
            value = float(exactly(self.start) * exactly(self.factor) ** (max(int(epoch), 0) // int(self.every)))
        except OverflowError:
            value = math.copysign(math.inf, self.start)
        if self.end is None:
            return value
        return min(value, float(self.end)) if self._rises else max(value, float(self.end))


def _check_number(name: str, value: Any) -> None:
    if not is_number(value):
        raise InvalidValue(f"{name}={value!r}: a finite number is needed.")
