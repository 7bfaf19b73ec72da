"""The two interfaces of scoring, score and fold, and how scores and folds are written down as data."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np

from adaptive_sampler.arrays import Array
from adaptive_sampler.errors import InvalidValue

State = dict[str, np.ndarray]  # column name -> (n,) array
Inputs = tuple[tuple[str, ...], ...]  # alternatives, the preferred one first: the names that an observation must have
LOGITS_AND_LABELS: Inputs = (("logits", "labels"),)

BOOKKEEPING: Mapping[str, "Column"]  # the two columns that every score has


@dataclass(frozen=True)
class Column:
    """One array of a score's state. `dtype`: NumPy's name of it; `fill`: the value before the first observation."""

    dtype: str
    fill: float


BOOKKEEPING = {"count": Column("uint32", 0), "last_seen": Column("int32", -1)}


@runtime_checkable
class Fold(Protocol):
    """How the values of a row over time become one number.

    `state` holds the fold's own `columns` by name. `fold` updates them in place, row by row in the order given, so that a
    row that comes twice counts twice. The store itself counts observations, in the two columns of `BOOKKEEPING`.
    """

    @property
    def columns(self) -> Mapping[str, Column]:
        """The fold's own columns, by name."""

    def fold(self, state: State, rows: np.ndarray, values: np.ndarray, before: np.ndarray) -> None:
        """Update `state` with `values`, (batch,) float32, of `rows`, (batch,) int64. Both were checked: finite, in range.

        `before`: (batch,) uint32, how often each row was observed before this entry, earlier entries of the batch included.
        """

    def read(self, state: State) -> np.ndarray:
        """The score of each row of `state`, float32, NaN for a row that was never observed.

        `state` may be any slice of the columns. Here it also holds the two columns of `BOOKKEEPING`.
        """

    def begin_run(self, state: State) -> None:
        """End the current training run in `state`, any slice of the columns: settle what belongs to one run alone."""


class CannotMerge(Exception):
    """What `Mergeable.merge` raises for a row that it cannot combine. The store's `merge` names the score and the row.

    `position`: of the first such row in the arrays that `merge` was given. `why`: the reason and the remedy, in words.
    """

    def __init__(self, position: int, why: str) -> None:
        super().__init__(why)
        self.position, self.why = position, why


@runtime_checkable
class Mergeable(Protocol):
    """What a fold has, too, if scores that it keeps can be merged from several stores, by `ScoreStore.merge`.

    `relies_on` says what must be comparable between the stores: "epochs", where the fold asks which store observed a row
    last; "runs", where it keeps something of the current training run; "" for neither.
    """

    @property
    def relies_on(self) -> str:
        """ "epochs", "runs" or ""."""

    def merge(self, state: State, other: State) -> None:
        """Combine in `state` what it and `other` know of the same rows, as if one store had observed both.

        Both hold (m,) arrays: the fold's own columns, and the two of `BOOKKEEPING`, which stay as they are here. Every row
        was observed in both; what only one store observed is never asked for. Raises `CannotMerge`.
        """


@runtime_checkable
class ScoreLike(Protocol):
    """What every score has: a name, the inputs it takes, a pure measure of them, and a fold for the measured values."""

    @property
    def name(self) -> str:
        """The score's name in its store."""

    @property
    def fold(self) -> Fold:
        """How the measured values are kept."""

    @property
    def inputs(self) -> Inputs:
        """What `measure` takes: alternatives, the preferred one first, each a tuple of names of the observation."""

    @property
    def measure(self) -> Callable[..., Array]:
        """A pure function: arrays with a leading batch axis, passed by name -> one value per sample, (batch,)."""


class Named:
    """Base of the built-in scores: names a score after its kind if it was given no name."""

    kind: ClassVar[str]
    name: str

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.kind)


@dataclass(frozen=True)
class Score:
    """A score of your own.

    `measure` takes arrays of the observation by the names of its parameters, and returns one value per sample, (batch,).
    A parameter with a default is passed only if the observation has it. `measure` should be pure, and may work on the
    arrays of any framework. A store never imports code, so pass the score again: `ScoreStore.open(path, scores=[...])`.
    Raises `InvalidValue` for a name that is no identifier, and for a measure or fold that cannot be used.
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


REGISTRY: dict[str, Any] = {}  # kind -> dataclass of a built-in score or fold
C = TypeVar("C", bound=type)


def register(kind: str) -> Callable[[C], C]:
    """Make a dataclass restorable from a store under the name `kind`."""

    def keep(cls: C) -> C:
        cls.kind = kind  # type: ignore[attr-defined]  # a plain type has no `kind`
        REGISTRY[kind] = cls
        return cls

    return keep


def describe(part: Any) -> dict[str, Any]:
    """`part`, a score or fold, as JSON data: its registered kind and its arguments.

    Of a custom one, only the names of the class and the score are written; `restore` cannot make it again.
    """
    kind = getattr(part, "kind", None)
    if REGISTRY.get(str(kind)) is not type(part):
        custom = {"kind": "custom", "type": f"{type(part).__module__}.{type(part).__qualname__}"}
        if isinstance(part, ScoreLike):
            custom |= {"name": part.name, "fold": describe(part.fold)}  # type: ignore[dict-item]  # a dict, not a str
        return custom
    fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    return {"kind": kind} | {k: describe(v) if isinstance(v, Fold) else v for k, v in fields.items()}


def restore(description: Mapping[str, Any]) -> Any:
    """Make the score or fold whose `description` `describe` wrote.

    Makes only registered kinds, from plain values. Raises `InvalidValue` for anything else.
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
