"""The plan of a table: which of its lines one epoch visits, how often, with what loss weight; kept as cuts, not as lines."""

import contextlib
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection.base import describe
from adaptive_sampler.selection.following import at_epoch
from adaptive_sampler.tables.arrow.sources import Piece
from adaptive_sampler.tables.planning import writing
from adaptive_sampler.tables.planning.by_name import engine_of
from adaptive_sampler.tables.planning.engines import TableShare, cores
from adaptive_sampler.tables.planning.fates import (
    ComposedFate,
    Fate,
    StretchFate,
    ThresholdFate,
    VisitCounts,
    Visits,
    thresholds,
)
from adaptive_sampler.tables.planning.lines import AskedColumns, LineBatch, keys_are_text, lines_of
from adaptive_sampler.tables.planning.partitions import Partitions, TablePass, joined
from adaptive_sampler.tables.planning.policies import PlanningOf, count_visits, planned
from adaptive_sampler.tables.planning.ranks import ByScore
from adaptive_sampler.tables.planning.twice import check_twice, check_wanted


class TablePlan:
    """What one epoch visits of a table. `plan_table` makes it; nothing changes it.

    `num_lines`: lines of the table; `num_samples`: visits. `policy` (as data), `seed`,
    `epoch` and `key` say how the plan was made. It holds no lines: `rows`, `lines` and `write` read the table again, and raise
    `InvalidValue` if a file is no longer what it was when the plan was made.
    """

    def __init__(
        self, table: Partitions, fate: Fate, asked: AskedColumns, told: dict[str, Any], counts: VisitCounts
    ) -> None:
        self._table, self._fate, self._asked, self._told = table, fate, asked, told
        self.num_lines, self._rows, self.num_samples = counts.lines, counts.rows, counts.samples

    def __repr__(self) -> str:
        rows = "some" if self._rows is None else self._rows
        visits = f"{rows} of {self.num_lines} lines, {self.num_samples} samples"
        return f"TablePlan({self.id}: {visits}, epoch {self._told['epoch']}, {self._told['policy']})"

    @property
    def num_rows(self) -> int:
        """How many lines are visited. Of a draw with replacement it is counted, by a pass over the table, when it is first
        asked for.
        """
        if self._rows is None:
            self._rows = count_visits(self._fate, self._table, self._asked.key or "", self._asked.text).rows
        assert self._rows is not None
        return self._rows

    @property
    def id(self) -> str:
        """16 hex digits, a digest of policy, seed, epoch, number of lines and cuts, whatever the partitions are."""
        content = json.dumps([self._told, self.num_lines, self._fate.told], sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    @property
    def partitions(self) -> list[str]:
        """What the partitions are called, in order: files by their paths."""
        return [*self._table.names]

    @property
    def threshold(self) -> Any:
        """The score at the cut: of the first line, in ascending order, that is not below it.

        With two cuts the pair (low, high); None where no cut goes by a score; with `per_group` a dict of these by group; of a
        composed policy a tuple of its parts'.
        """
        return _by_part(self._fate, 0)

    @property
    def ties(self) -> Any:
        """How many lines have the score at the cut, in the form of `threshold`."""
        return _by_part(self._fate, 1)

    @property
    def passes(self) -> tuple[TablePass, ...]:
        """The passes over the whole table so far: (`name`, `seconds`, `received`), what each did, how long it took, and how many
        bytes came to this process from the workers of a cluster, pickled.
        """
        return tuple(self._table.passes)

    def rows(self, partition: int) -> Any:
        """The visited lines of a partition in their order, a pyarrow.Table.

        Its columns: `key`, large_string or int64; `repeats`, uint32, how often the line is visited; `weight`, float32, its loss
        weight. Raises `InvalidValue` for a partition that is none.
        """
        schema = writing.schema_of(self._asked.text)
        with self._piece(partition) as piece:
            return pa.Table.from_batches(_visited(piece, self._fate, self._asked), schema)

    def tables(self) -> Iterator[Any]:
        """What `rows` returns of each partition, in their order. Those ahead are read meanwhile, one on each core: so many, and two
        more, are in memory at a time. Raises as `rows` does.
        """
        threads = cores()
        with ThreadPoolExecutor(threads) as pool:
            ahead: deque[Future[Any]] = deque()
            try:
                for number in range(len(self._table)):
                    ahead.append(pool.submit(self.rows, number))
                    if len(ahead) > threads:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:  # also where nobody wants the others
                for one in ahead:
                    one.cancel()

    def lines(self, partition: int) -> np.ndarray:
        """The numbers of the visited lines in a partition, int64, ascending from 0: one that is visited k times k times."""
        found, before = [np.empty(0, np.int64)], 0
        with self._piece(partition) as piece:
            for batch, visits in _decided(piece, self._fate, self._asked):
                places = np.arange(before, before + batch.length)
                found.append(np.repeat(places, visits.repeats.astype(np.int64)))
                before += batch.length
        return np.concatenate(found)

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write the visited lines: a Parquet file for each partition with the columns of `rows`, and manifest.json.

        The folder appears whole or not at all; what a killed writer left beside it is deleted. Raises `InvalidValue` if there is
        one that is not empty, and OSError where it cannot be written.
        """
        if not isinstance(folder, str | os.PathLike):
            raise InvalidValue(f"folder={folder!r}: the path of the folder to write, such as 'kept'.")
        path = Path(folder).absolute()  # workers of a cluster may be in another folder
        with writing.new_folder(path) as unfinished:
            written = self._table.run(_write, (self._fate, self._asked, unfinished), joined, whole=True)
            files = [told for _, told in sorted(written, key=lambda one: one[0])]
            self._rows = sum(told["rows"] for told in files)
            writing.write_manifest(unfinished, self._manifest(files))

    def _manifest(self, files: list[dict[str, int]]) -> dict[str, Any]:
        partitions = [
            {"name": name, "file": writing.file_of(number), **files[number], **(state._asdict() if state else {})}
            for number, (name, state) in enumerate(zip(self._table.names, self._table.states, strict=True))
        ]
        totals = {"lines": self.num_lines, "rows": self.num_rows, "samples": self.num_samples}
        return {"id": self.id} | self._told | totals | {"partitions": partitions}

    @contextlib.contextmanager
    def _piece(self, partition: int) -> Iterator[Piece]:
        """A partition, whose file is what it was when the block begins and when it ends."""
        number = whole_number("partition", partition, 0, most=len(self._table) - 1, what="the number of a partition")
        self._table.check([number])
        try:
            yield self._table.pieces[number]
        finally:
            self._table.check([number])


def plan_table(
    source: Any, policy: Any, *, key: str, seed: int, epoch: int, engine: Any, check_keys: bool | None
) -> TablePlan:
    """As `adaptive_sampler.tables.plan_table`."""
    check_wanted(check_keys)
    seed, epoch = whole_number("seed", seed, 0), whole_number("epoch", epoch, 0)
    policy, table = at_epoch(policy, epoch), Partitions(source, engine_of(engine))
    of = PlanningOf(table, key, keys_are_text(table.pieces[0], key), seed, epoch)
    of.asked()
    fate, counts = planned(policy, of)
    asked = AskedColumns(fate.scores, fate.groups, key, of.text)
    check_twice(table, key, of.text, counts.lines, check_keys)
    _check_some(policy, counts)
    told = {"policy": describe(policy), "seed": seed, "epoch": epoch, "key": key}
    return TablePlan(table, fate, asked, told, counts)


def _check_some(policy: Any, counts: VisitCounts) -> None:
    """Raise `InvalidValue` for a plan that visits no line."""
    if not counts.lines:
        raise InvalidValue("the table has no line, and an epoch without samples is none. Give it one line or more.")
    parts = zip(getattr(policy, "parts", ()), counts.parts, strict=True)
    if counts.rows == 0 or not all(counts.parts):
        each = "".join(f"; {part!r} keeps {rows}" for part, rows in parts)
        raise InvalidValue(
            f"{policy!r} keeps none of {counts.lines} lines{each}, and an epoch without samples is none. Keep more."
        )


def _by_part(fate: Fate, which: int) -> Any:
    if isinstance(fate, ComposedFate):
        return tuple(_by_part(part, which) for part in fate.parts)
    if isinstance(fate, ThresholdFate):
        return None if which else float(fate.policy.value)
    if not isinstance(fate, StretchFate) or not isinstance(fate.ranks, ByScore):
        return None
    found = thresholds(fate.stretches)[which]
    return found if fate.group else found[None]


# -- tasks --------------------------------------------------------------------------------------------------------------


def _decided(piece: Piece, fate: Fate, asked: AskedColumns) -> Iterator[tuple[LineBatch, Visits]]:
    for batch in lines_of([piece], asked):
        yield batch, fate.visits(batch)


def _visited(piece: Piece, fate: Fate, asked: AskedColumns) -> Iterator[Any]:
    """The visited lines of a partition, as record batches."""
    schema = writing.schema_of(asked.text)
    once = (
        np.ones(0, np.uint32),
        np.ones(0, np.float32),
    )  # that batches share, as most lines of most plans are visited once
    for batch, visits in _decided(piece, fate, asked):
        places = np.flatnonzero(visits.repeats)
        if len(places) > len(once[0]):
            once = np.ones(len(places), np.uint32), np.ones(len(places), np.float32)
        repeats, weights = (ones[: len(places)] for ones in once)
        if visits.repeats.dtype != np.bool_:
            repeats = visits.repeats[places].astype(np.uint32)
        if visits.weights is not None:
            weights = visits.weights[places].astype(np.float32)
        assert batch.names is not None
        yield pa.record_batch([batch.names.column(places), pa.array(repeats), pa.array(weights)], schema)


def _write(share: TableShare, fate: Fate, asked: AskedColumns, folder: Path) -> list[tuple[int, dict[str, int]]]:
    """Write the partitions of a share; returns their numbers and what was written."""
    schema, found = writing.schema_of(asked.text), []
    for number, piece in enumerate(share.pieces, share.first):
        path = folder / writing.file_of(number)
        found.append((number, writing.write_lines(path, _visited(piece, fate, asked), schema)))
    return found
