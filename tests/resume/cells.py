"""The cells of the matrix of resuming: what a loop over a loader can be made of, and which combinations there are."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from itertools import product

from allpairspy import AllPairs

AXES: dict[str, tuple[object, ...]] = {
    "loader": ("plain", "stateful", "stateful, every 4", "nodes", "nodes, restarting", "accelerate", "shards"),
    "workers": ("none", "two", "persistent"),
    "batches": (False, True),  # sampler=, or batch_sampler=sampler.batches()
    "drop_last": (False, True),
    "ranks": (1, 2),
    "plan": ("each epoch", "once", "blocks", "second stage", "second stage, frozen"),
    "told": (False, True),  # set_epoch
    "watched": (True, False),
}


@dataclass(frozen=True)
class Cell:
    """A combination of the axes."""

    loader: str
    workers: str
    batches: bool
    drop_last: bool
    ranks: int
    plan: str
    told: bool
    watched: bool

    def __str__(self) -> str:
        words = [
            f"{name}" if value is True else str(value) for name, value in zip(AXES, astuple(self), strict=True) if value
        ]
        return "; ".join(words)


def possible(cell: Cell) -> bool:
    """Whether there is such a combination. What is not here is refused by the package, or is no combination at all."""
    own_state = cell.loader.split(",")[0] in ("stateful", "nodes", "shards")
    return not any(
        (
            cell.plan == "blocks"
            and not (cell.batches and cell.ranks == 1),  # plans of blocks count batches, of one rank
            cell.plan == "blocks" and cell.loader.startswith("nodes"),  # they draw rows, not batches
            cell.loader.startswith("nodes") and (cell.batches or cell.workers == "persistent"),
            cell.loader == "shards" and (cell.batches or cell.plan == "blocks"),  # a stream draws by itself
            cell.loader.startswith(("accelerate", "nodes")) and cell.told,  # they tell the epoch themselves
            cell.loader == "accelerate" and not cell.watched,  # its helper asks for `delivered`
            cell.batches and cell.ranks == 2 and cell.loader != "accelerate",  # ranks share out rows
            not cell.watched and not own_state and cell.workers != "none",  # then nobody knows what was delivered
        )
    )


def every() -> list[Cell]:
    """All combinations."""
    return [cell for values in product(*AXES.values()) if possible(cell := Cell(*values))]  # type: ignore[arg-type]  # each of its axis


def covering() -> list[Cell]:
    """A few of them, in which any two values of two axes that can come together do."""
    names = len(fields(Cell))

    def kept(values: list[object]) -> bool:
        return len(values) < names or possible(Cell(*values))  # type: ignore[arg-type]  # as above

    found = [Cell(*values) for values in AllPairs(list(AXES.values()), filter_func=kept)]
    return found + list(_missed(found))


def _missed(found: list[Cell]) -> Iterator[Cell]:
    """For each pair of values that no cell of `found` has, a cell that does."""
    seen = {pair for cell in found for pair in pairs(cell)}
    for cell in every():
        if not pairs(cell) <= seen:
            seen |= pairs(cell)
            yield cell


def pairs(cell: Cell) -> set[tuple[int, object, int, object]]:
    """Any two values of a cell, with their axes."""
    values = astuple(cell)
    return {(i, values[i], j, values[j]) for i in range(len(values)) for j in range(i)}
