"""The cells of the matrix of resuming: what a training can be made of, and which combinations there are."""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from itertools import product
from typing import Any


@dataclass(frozen=True)
class Axes:
    """A matrix: the values of each field of a cell, and whether there is such a combination."""

    cell: type
    values: dict[str, tuple[Any, ...]]
    possible: Callable[[Any], bool]

    def every(self) -> list[Any]:
        """All combinations."""
        return [cell for values in product(*self.values.values()) if self.possible(cell := self.cell(*values))]

    def covering(self, given: list[Any]) -> list[Any]:
        """A few of them, in which any two values of two axes that can come together do: those that are given, and more."""
        left, chosen = {cell: pairs(cell) for cell in self.every()}, [*given]
        missing = set().union(*left.values()) - set().union(*map(pairs, given))
        while missing:
            best = max(left, key=lambda cell: len(left[cell] & missing))
            missing -= left[best]
            chosen.append(best)
        return chosen


def pairs(cell: Any) -> set[tuple[int, object, int, object]]:
    """Any two values of a cell, with their axes."""
    values = astuple(cell)
    return {(i, values[i], j, values[j]) for i in range(len(values)) for j in range(i)}


def named(cell: Any) -> str:
    """A cell in words."""
    return "; ".join(name if value is True else str(value) for name, value in vars(cell).items() if value)


# -- a loop over a loader ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A loop over a loader."""

    loader: str
    workers: str
    batches: bool  # sampler=, or batch_sampler=sampler.batches()
    drop_last: bool
    ranks: int
    plan: str
    told: bool  # set_epoch
    watched: bool


def possible(cell: Cell) -> bool:
    """Whether there is such a combination. What is not here is refused by the package, or is no combination at all."""
    own_state = cell.loader.split(",")[0] in ("stateful", "nodes", "shards")
    return not any(
        (
            cell.plan == "blocks" and not (cell.batches and cell.ranks == 1),  # they count batches, of one rank
            cell.plan == "blocks" and cell.loader.startswith("nodes"),  # these draw rows, not batches
            cell.loader.startswith("nodes") and (cell.batches or cell.workers == "persistent"),
            cell.loader == "shards" and (cell.batches or cell.plan == "blocks"),  # a stream draws by itself
            cell.loader.startswith(("accelerate", "nodes")) and cell.told,  # they tell the epoch themselves
            cell.loader in ACCELERATE and not cell.watched,  # its helper asks for `delivered`
            not cell.watched and not own_state and cell.workers != "none",  # nobody knows what was delivered
        )
    )


ACCELERATE = ("accelerate", "accelerate, stateful")
LOOPS = Axes(
    Cell,
    {
        "loader": ("plain", "stateful", "stateful, every 4", "nodes", "nodes, restarting", *ACCELERATE, "shards"),
        "workers": ("none", "two", "persistent"),
        "batches": (False, True),
        "drop_last": (False, True),
        "ranks": (1, 2),
        "plan": ("each epoch", "once", "blocks", "second stage", "second stage, frozen"),
        "told": (False, True),
        "watched": (True, False),
    },
    possible,
)
# Each of them failed once.
FAILED = [
    Cell("plain", "none", False, True, 1, "each epoch", False, True),
    Cell("stateful", "two", True, True, 1, "each epoch", True, True),
    Cell("nodes", "none", False, False, 1, "each epoch", False, True),
    Cell("shards", "none", False, False, 2, "second stage", True, False),
    Cell("shards", "persistent", False, True, 1, "second stage, frozen", False, True),
    Cell("accelerate", "two", False, False, 2, "each epoch", False, True),
    Cell("stateful, every 4", "persistent", True, False, 2, "once", False, False),
]


# -- Lightning -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """A fit by Lightning."""

    saved: str  # after each step, epoch or validation
    workers: str
    batches: bool
    drop_last: bool
    ranks: int
    limit: int | None  # limit_train_batches
    validate: float | None  # val_check_interval
    accumulate: int
    late: bool  # the store and the sampler are made in `setup`


FITS = Axes(
    Fit,
    {
        "saved": ("step", "epoch", "validation"),
        "workers": ("none", "two", "persistent"),
        "batches": (False, True),
        "drop_last": (False, True),
        "ranks": (1, 2),
        "limit": (None, 3),
        "validate": (None, 1.0, 0.5),
        "accumulate": (1, 2),
        "late": (False, True),
    },
    # a checkpoint among batches whose gradients are accumulated has none of these gradients
    lambda cell: (
        not (
            (cell.saved == "validation" and cell.validate == 0.5 and cell.accumulate > 1)
            or (cell.saved == "validation" and cell.validate is None)
            or (cell.batches and cell.ranks == 2)
        )
    ),
)


# -- Hugging Face's Trainer ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tuned:
    """A training by the Trainer."""

    saved: str  # after each step or epoch
    workers: str
    drop_last: bool
    ranks: int
    plan: str
    accumulate: int


TUNINGS = Axes(
    Tuned,
    {
        "saved": ("steps", "epoch"),
        "workers": ("none", "two", "persistent"),
        "drop_last": (False, True),
        "ranks": (1, 2),
        "plan": ("each epoch", "once", "second stage", "second stage, frozen"),
        "accumulate": (1, 2),
    },
    lambda cell: True,
)
