"""Read a plan of a table, some lines at a time: the one that `plan_table` returned, or a folder that it was written to."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from adaptive_sampler.errors import InvalidValue, StoreDamaged
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.tables.names import KEY
from adaptive_sampler.tables.planned.folder import COLUMNS, PlanFolder


@runtime_checkable
class PartitionedPlan(Protocol):
    """A plan whose visited lines are read partition by partition: what `plan_table` returns, or a `PlanFolder`."""

    @property
    def id(self) -> str:
        """A digest: equal plans have equal ids."""

    @property
    def num_samples(self) -> int:
        """How many visits there are in all."""

    @property
    def partitions(self) -> Sequence[str]:
        """The names of the partitions."""

    def tables(self) -> Iterator[Any]:
        """The visited lines of each partition, in their order: pyarrow.Tables with the columns key, repeats and weight."""


class PlanPart(NamedTuple):
    """Some lines of a plan. `keys`: their keys, or their row numbers as (lines,) int64.

    `repeats`: how often each is visited, (lines,) uint32, 1 or more; `weights`: its loss weight, (lines,) float32.
    """

    keys: KeyMap | np.ndarray
    repeats: np.ndarray
    weights: np.ndarray


def plan_of(source: Any) -> PartitionedPlan:
    """The plan that `source` is, or that lies in the folder of this path. Raises as `PlanFolder` does."""
    if isinstance(source, str | os.PathLike):
        return PlanFolder(source)
    if not isinstance(source, PartitionedPlan):
        raise InvalidValue(
            f"{source!r} is no plan of a table: pass what plan_table returned, or the folder that plan.write(folder) made."
        )
    return source


def parts(plan: PartitionedPlan) -> Iterator[PlanPart]:
    """The lines of all partitions, in order. Memory stays bounded; for what `plan_table` returned by a few partitions.

    Raises `StoreDamaged` for lines that no plan has, and for a partition whose keys are of another kind than the first's.
    """
    kind: Any = None
    for number, piece in enumerate(plan.pieces() if isinstance(plan, PlanFolder) else _in_memory(plan)):
        this = _kind(piece)
        if kind not in (None, this):
            raise StoreDamaged(
                f"{piece.name}: its keys are {piece.schema.field(KEY).type}, and those of the partitions before it are not. Write "
                "the plan again, from a table whose keys are all text, or all row numbers."
            )
        kind, found = this, _lines(piece, this)
        yield from plan.counted(number, found, lambda part: part.repeats) if isinstance(plan, PlanFolder) else found


def _lines(piece: Any, kind: Any) -> Iterator[PlanPart]:
    from adaptive_sampler.tables.arrow import columns as arrow

    kinds = dict(zip(COLUMNS, (kind, arrow.exactly("uint32"), arrow.exactly("float32")), strict=True))
    for chunk in arrow.read([piece], kinds):
        part = PlanPart(*(chunk.columns[name] for name in COLUMNS))
        _check(part, f"{chunk.where}, from line {chunk.start} on")
        yield part


def _kind(piece: Any) -> Any:
    """What the keys of a partition are: text, or row numbers."""
    from adaptive_sampler.tables.arrow import columns as arrow  # needs PyArrow, which only the extra `tables` installs

    return arrow.ROW if arrow.ROW.fits(piece.schema.field(KEY).type) else arrow.KEYS


def _in_memory(plan: PartitionedPlan) -> Iterator[Any]:
    from adaptive_sampler.tables.arrow.sources import ArrowTable

    for name, table in zip(plan.partitions, plan.tables(), strict=True):
        piece = ArrowTable(table)
        piece.name = f"the plan of {name}"
        yield piece


def _check(part: PlanPart, where: str) -> None:
    wrong = "a line that is visited 0 times" if (part.repeats == 0).any() else ""
    wrong = wrong or ("" if np.isfinite(part.weights).all() else "a loss weight that is not finite")
    if isinstance(part.keys, np.ndarray) and (part.keys < 0).any():
        wrong = f"row {part.keys.min()}, which is negative"
    if wrong:
        raise StoreDamaged(f"{where}: {wrong}, which no plan has. Write the plan again.")
