"""The two seams of scoring: what a score is, what a fold is, and how either is written down as data."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np

from adaptive_sampler.arrays import Array
from adaptive_sampler.errors import InvalidValue

State = dict[str, np.ndarray]  # column name -> (n,) array
Inputs = tuple[tuple[str, ...], ...]  # alternatives, the preferred first: names an observation must bring
LOGITS_AND_LABELS: Inputs = (("logits", "labels"),)

BOOKKEEPING: Mapping[str, "Column"]  # the two columns that every score has


@dataclass(frozen=True)
class Column:
    """One array of a score's state: its dtype, and what stands in it before the first observation."""

    dtype: str
    fill: float


BOOKKEEPING = {"count": Column("uint32", 0), "last_seen": Column("int32", -1)}


@runtime_checkable
class Fold(Protocol):
    """How a row's values over time become one number.

    `state` holds the fold's own `columns` by name; `fold` updates them in place, row by row in the order given, so that
    a row that comes twice counts twice. The store counts observations itself, in the two columns of `BOOKKEEPING`.
    """

    @property
    def columns(self) -> Mapping[str, Column]:
        """The fold's own columns, by name."""

    def fold(self, state: State, rows: np.ndarray, values: np.ndarray, before: np.ndarray) -> None:
        """Take `values` (batch,) float32, finite, for `rows` (batch,) int64, in range, into `state`.

        `before` (batch,) uint32: how many observations of that row came before this one, in the batch too.
        """

    def read(self, state: State) -> np.ndarray:
        """The score of each row of `state` (any slice of the columns) as float32, NaN where never observed.

        Here `state` holds the two columns of `BOOKKEEPING` too.
        """

    def begin_run(self, state: State) -> None:
        """Close what belongs to one training run alone, in any slice of the columns."""


@runtime_checkable
class ScoreLike(Protocol):
    """What every score is: a name, the inputs it takes, a pure measure of them, and a fold of the measured values."""

    @property
    def name(self) -> str:
        """The score's name in its store."""

    @property
    def fold(self) -> Fold:
        """How its values are kept."""

    @property
    def inputs(self) -> Inputs:
        """The alternatives of observation names that `measure` takes."""

    @property
    def measure(self) -> Callable[..., Array]:
        """Arrays with a leading batch axis, by name -> (batch,)."""


class Named:
    """Gives a built-in score its own name where none is asked for."""

    kind: ClassVar[str]
    name: str

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.kind)


@dataclass(frozen=True)
class Score:
    """A score of your own.

    `measure` takes observation arrays by the names of its parameters and returns one value a sample, (batch,); a
    parameter with a default is passed only where the observation has it. It should be pure, and may run on any
    framework's arrays. A store never imports code: `ScoreStore.open(path, scores=[...])` is given the score again.
    """

    name: str
    measure: Callable[..., Array]
    fold: Fold

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise InvalidValue(f"score name {self.name!r} must be an identifier such as 'my_score': it names a column.")
        if not callable(self.measure):
            raise InvalidValue(f"score {self.name!r}: measure {self.measure!r} must be callable.")
        if isinstance(self.fold, type) or not isinstance(self.fold, Fold):
            raise InvalidValue(f"score {self.name!r}: fold {self.fold!r} must be a Fold such as Mean() or Last().")
        if not self.inputs[0]:
            raise InvalidValue(
                f"score {self.name!r}: measure {self.measure!r} has no parameter without a default, so nothing says which "
                "observations it takes. Name one, such as measure(logits, labels)."
            )

    @property
    def inputs(self) -> Inputs:
        """The parameters of `measure` that have no default."""
        return (self._parameters(optional=False),)

    @property
    def optional(self) -> tuple[str, ...]:
        """The parameters of `measure` that have a default."""
        return self._parameters(optional=True)

    def _parameters(self, *, optional: bool) -> tuple[str, ...]:
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        parameters = inspect.signature(self.measure).parameters.values()
        return tuple(p.name for p in parameters if p.kind in named and (p.default is not p.empty) == optional)


REGISTRY: dict[str, Any] = {}  # kind -> dataclass
C = TypeVar("C", bound=type)


def register(kind: str) -> Callable[[C], C]:
    """Make a dataclass restorable from a store under the name `kind`."""

    def keep(cls: C) -> C:
        cls.kind = kind  # type: ignore[attr-defined]
        REGISTRY[kind] = cls
        return cls

    return keep


def describe(part: Any) -> dict[str, Any]:
    """A score or fold as JSON data: its registered kind and arguments. Custom parts are named, not restorable."""
    kind = getattr(part, "kind", None)
    if REGISTRY.get(str(kind)) is not type(part):
        custom = {"kind": "custom", "type": f"{type(part).__module__}.{type(part).__qualname__}"}
        if isinstance(part, ScoreLike):
            custom |= {"name": part.name, "fold": describe(part.fold)}  # type: ignore[dict-item]
        return custom
    fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    return {"kind": kind} | {k: describe(v) if isinstance(v, Fold) else v for k, v in fields.items()}


def restore(description: Mapping[str, Any]) -> Any:
    """The score or fold that `describe` wrote down.

    Only registered kinds are made, from plain values. Raises `InvalidValue` for anything else.
    """
    arguments = dict(description)
    cls = REGISTRY.get(str(arguments.pop("kind", None)))
    known = {f.name for f in dataclasses.fields(cls)} if cls else set()
    if cls is None or not set(arguments) <= known:
        raise InvalidValue(
            f"{dict(description)!r} describes no built-in score or fold of this version. Those are "
            f"{', '.join(sorted(REGISTRY))}; pass your own by open(..., scores=[...])."
        )
    return cls(**{k: restore(v) if isinstance(v, Mapping) else v for k, v in arguments.items()})
