"""Write blocks of lines to Parquet, Feather and Arrow files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from adaptive_sampler.disk import whole_file
from adaptive_sampler.memory.body import Body
from adaptive_sampler.plan import Plan
from adaptive_sampler.tables.blocks import Block, FileColumn, Texts
from adaptive_sampler.tables.names import KEY, ROW, about

GROUP = 1 << 20  # lines of a row group of Parquet, and of a batch of the others; the last may have fewer


def in_memory(columns: list[FileColumn], lines: Iterator[Block], metadata: Mapping[bytes, bytes]) -> Any:
    """`lines` as a table of PyArrow, whose schema has `metadata`."""
    schema = pa.schema([_field(column) for column in columns], metadata)
    return pa.Table.from_batches((_batch(columns, block, schema) for block in lines), schema)


def write(path: Path, columns: list[FileColumn], lines: Iterator[Block], body: Body, plan: Plan | None) -> None:
    """Write `lines` to `path`, whose ending says in which format. Arguments and errors are those of `export`."""
    fields = [_field(column) for column in columns]
    schema = pa.schema(fields, about(body, None if plan is None else plan.id))
    with whole_file(path) as file, _writer(path, file, schema, columns) as writer:
        for group in in_groups(_batch(columns, block, schema) for block in lines):
            writer.write_table(pa.Table.from_batches(group, schema), GROUP)


def _writer(path: Path, file: BinaryIO, schema: Any, columns: list[FileColumn]) -> Any:
    if path.suffix != ".parquet":
        return pa.ipc.new_file(file, schema)
    varied = [c.name for c in columns if c.score or c.name in (ROW, KEY)]  # a dictionary of different values is no gain
    return parquet.ParquetWriter(file, schema, use_dictionary=[c.name for c in columns if c.name not in varied])


def _field(column: FileColumn) -> Any:
    kind = pa.large_string() if column.dtype == "str" else pa.from_numpy_dtype(np.dtype(column.dtype))
    return pa.field(column.name, kind, nullable=column.score)


def _batch(columns: list[FileColumn], block: Block, schema: Any) -> Any:
    """A block of lines as a record batch: the NaN of a score that was never observed becomes a null."""
    arrays = []
    for column in columns:
        values = block[column.name]
        if isinstance(values, Texts):
            arrays.append(_strings(values))
        else:
            arrays.append(pa.array(values, mask=np.isnan(values) if column.score else None))
    return pa.record_batch(arrays, schema)


def _strings(texts: Texts) -> Any:
    """Texts as an Arrow array: their bytes without the NULs between them, and where each begins."""
    text, ends = texts.of.arrays().values()
    inside = np.ones(len(text), np.bool_)
    inside[ends] = False
    offsets = np.zeros(len(ends) + 1, np.int64)
    offsets[1:] = ends - np.arange(len(ends))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text[inside])]
    whole = pa.Array.from_buffers(pa.large_string(), len(ends), buffers)
    return whole if np.array_equal(texts.picks, np.arange(len(ends))) else whole.take(pa.array(texts.picks))


def in_groups(batches: Iterator[Any]) -> Iterator[list[Any]]:
    """The batches in groups of `GROUP` lines or a little more: a batch is not cut."""
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if sum(len(b) for b in group) >= GROUP:
            yield group
            group = []
    if group:
        yield group
