"""What a table can be: files, folders of them, and whatever speaks the Arrow C interface. Read in batches with their places."""

import os
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
from pyarrow import csv, parquet

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.tables.arrow.runs import Run, batches_made, runs_made

AT_ONCE = 1 << 17  # lines of a batch
ENDINGS = (".parquet", ".feather", ".arrow", ".csv")


class TableLines(NamedTuple):
    """Some lines of a table. `where`: the file and, in Parquet, the row group; `start`: the number of the first line there."""

    where: str
    start: int
    lines: Any  # pyarrow.RecordBatch


class Piece(Protocol):
    """One file, or one table in memory.

    `name`: what messages call it; `schema`: the pyarrow.Schema; `typed`: whether that has more than names. A piece can be
    pickled.
    """

    name: str
    typed: bool
    schema: Any

    @property
    def path(self) -> Path | None:
        """The file; None for a table in memory."""

    def batches(self, kinds: Mapping[str, Any]) -> Iterator[TableLines]:
        """The columns named in `kinds`, some lines at a time.

        `kinds`: their types, for a file that has none. Texts of a Parquet file come as a dictionary where that is their type
        here: they mostly lie in the file as one.
        """


class CountedPiece(Piece, Protocol):
    """A piece that tells how many lines it has."""

    def count(self) -> int:
        """How many lines there are. A CSV file is read for it."""


def pieces(source: Any) -> list[CountedPiece]:
    """The files or tables that `source` is made of, in order; those of a folder by their names.

    `source`: the path of a .parquet, .feather, .arrow or .csv file, or of a folder with such files; an object with
    `__arrow_c_stream__` or `__arrow_c_array__`, as tables of PyArrow, pandas and Polars have; or a list of these. Raises
    `InvalidValue` for anything else and for a file that is none, and OSError for one that cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return _files(Path(source))
    if isinstance(source, list | tuple):
        found = [piece for one in source for piece in pieces(one)]
        if not found:
            raise InvalidValue(f"source={source!r}: there is no table in it. Pass a path or a table.")
        return found
    return [ArrowTable(source)]


def _files(path: Path) -> list[CountedPiece]:
    if path.is_dir():
        _check_flat(path)
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)
        if not files:
            raise InvalidValue(f"{path}: the folder has no file that ends with {', '.join(ENDINGS)}. Name the files.")
        return [_file(file) for file in files]
    return [_file(path)]


def _check_flat(folder: Path) -> None:
    """Raise `InvalidValue` for a folder within the folder that has tables, too. Names that begin with _ or . are others' own."""
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        has_tables = inner.name[0] not in "_." and any(file.suffix.lower() in ENDINGS for file in inner.rglob("*"))
        if has_tables or inner.suffix.lower() in ENDINGS:
            raise InvalidValue(f"{inner} is a folder within a folder. Pass a list of the folders that have the files.")


def _file(path: Path) -> CountedPiece:
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InvalidValue(f"{path}: a table is a file that ends with {', '.join(ENDINGS)}, or a folder of such files.")
    try:
        if ending == ".parquet":
            return ParquetFile(path)
        return CsvFile(path) if ending == ".csv" else IpcFile(path)
    except pa.ArrowException as error:
        raise InvalidValue(
            f"{path} is no {ending} file, or a damaged one: {str(error).rstrip('.')}. Write it again, or leave it out."
        ) from error


class ParquetFile:
    """A Parquet file, read one row group after the other.

    `runs`: (column, row group) -> its first value, of integers that were read before and each are one more than the one before,
    as row numbers mostly are: they are made, not read again. None: nothing is remembered. A dict is for who reads a file several
    times and looks whether it has changed.
    """

    typed = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        with parquet.ParquetFile(path) as file:
            self.schema = file.schema_arrow
            self._all = self._groups = range(file.num_row_groups)
        self.path = path
        self.runs: dict[tuple[str, int], int] | None = None

    def parts(self, number: int) -> "list[ParquetFile]":
        """The file as up to so many parts, each of neighbouring row groups."""
        groups = len(self._groups)
        number = max(1, min(number, groups))
        found = [copy(self) for _ in range(number)]
        for i, part in enumerate(found):
            part._groups = self._groups[i * groups // number : (i + 1) * groups // number]
        return found

    def count(self) -> int:
        with parquet.ParquetFile(self.path) as file:
            return sum(file.metadata.row_group(group).num_rows for group in self._groups)

    def batches(self, kinds: Mapping[str, Any]) -> Iterator[TableLines]:
        encoded = [
            name for name, kind in kinds.items() if isinstance(kind, pa.DictionaryType)
        ]  # of no effect but for texts
        with parquet.ParquetFile(self.path, read_dictionary=encoded) as file:
            if file.num_row_groups != len(self._all):  # else row groups that it has now would be left out
                raise InvalidValue(
                    f"{self.name} changed after it was opened: it had {len(self._all)} row groups and now has "
                    f"{file.num_row_groups}. Let nothing write to the table meanwhile, and read it again."
                )
            for group in self._groups:
                where, start = f"{self.name}, row group {group}", 0
                for lines in self._of_group(file, group, [*kinds]):
                    yield TableLines(where, start, lines)
                    start += len(lines)

    def _of_group(self, file: Any, group: int, names: list[str]) -> Iterator[Any]:
        """The columns of a row group, as record batches."""
        if self.runs is None:  # nobody reads it twice
            yield from file.iter_batches(AT_ONCE, row_groups=[group], columns=names)
            return
        runs = self.runs
        made = {name: runs[name, group] for name in names if (name, group) in runs}
        read = [name for name in names if name not in made]
        if not read:
            yield from batches_made(made, file.metadata.row_group(group).num_rows, AT_ONCE)
            return
        found = {name: Run() for name in read if self.schema.field(name).type == pa.int64()}
        start = 0
        for lines in file.iter_batches(AT_ONCE, row_groups=[group], columns=read):
            for name, run in found.items():
                run.add(lines.column(name))
            columns = runs_made(made, start, start + len(lines)) | dict(zip(read, lines.columns, strict=True))
            yield pa.record_batch({name: columns[name] for name in names}) if made else lines
            start += len(lines)
        runs |= {(name, group): run.first for name, run in found.items() if run.first is not None}


class IpcFile:
    """A Feather or Arrow file, which is memory-mapped."""

    typed = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        with pa.memory_map(str(path)) as file:
            self.schema = pa.ipc.open_file(file).schema
        self.path = path

    def count(self) -> int:
        from pyarrow import dataset, fs  # slow to import

        file = dataset.IpcFileFormat().make_fragment(str(self.path), fs.LocalFileSystem())
        return int(file.count_rows())  # from the headers of its batches alone

    def batches(self, kinds: Mapping[str, Any]) -> Iterator[TableLines]:
        with pa.memory_map(str(self.path)) as file:
            whole = pa.ipc.open_file(file)
            for number in range(whole.num_record_batches):
                yield from _cut(f"{self.name}, batch {number}", whole.get_batch(number).select([*kinds]))


class CsvFile:
    """A CSV file, whose first line names the columns. Its schema has names alone: every column is text until it is read."""

    typed = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        with csv.open_csv(path, parse_options=QUOTED) as file:
            self.schema = pa.schema([(name, pa.string()) for name in file.schema.names])
        self.path = path

    def count(self) -> int:
        return sum(len(lines.lines) for lines in self.batches({self.schema.names[0]: pa.binary()}))

    def batches(self, kinds: Mapping[str, Any]) -> Iterator[TableLines]:
        convert = csv.ConvertOptions(column_types=kinds, include_columns=[*kinds], strings_can_be_null=False)
        # By one thread: only then does an error name its line.
        with csv.open_csv(self.path, csv.ReadOptions(use_threads=False), QUOTED, convert) as file:
            start = 0
            for lines in file:
                yield TableLines(self.name, start, lines)
                start += len(lines)


QUOTED = csv.ParseOptions(newlines_in_values=True)  # a key may hold one


class ArrowTable:
    """A table in memory, by the Arrow C interface. A stream, which can be read once, is read here."""

    typed = True

    def __init__(self, source: Any) -> None:
        self.name = f"the {type(source).__name__}"
        self.path: Path | None = None
        if not hasattr(source, "__arrow_c_stream__") and not hasattr(source, "__arrow_c_array__"):
            raise InvalidValue(
                f"source={source!r}: pass a path, or a table that speaks the Arrow C interface: of PyArrow, of Polars, of "
                "pandas 2.2 or newer."
            )
        try:
            self._table = source if isinstance(source, pa.Table) else pa.table(source)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InvalidValue(
                f"{self.name} is no Arrow table: {'; '.join(map(str, error.args))}. A column has values of one type."
            ) from error
        self.schema = self._table.schema

    @classmethod
    def joined(cls, tables: "Sequence[ArrowTable]", columns: Sequence[str]) -> "ArrowTable":
        """These columns of several tables, one after the other, as one table without the seams."""
        # One table may allow nulls and another not; and indices must have room for all dictionaries together.
        schema = pa.schema([(name, _roomy(tables[0].schema.field(name).type)) for name in columns])
        each = [one._table.select([*columns]) for one in tables]
        return cls(pa.concat_tables(each, promote_options="default").cast(schema).combine_chunks())

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def count(self) -> int:
        return len(self)

    def batches(self, kinds: Mapping[str, Any]) -> Iterator[TableLines]:
        start = 0
        for lines in self._table.select([*kinds]).to_batches(max_chunksize=AT_ONCE):
            yield TableLines(self.name, start, lines)
            start += len(lines)


def _roomy(kind: Any) -> Any:
    """A type that holds what columns of this type hold together."""
    if not pa.types.is_dictionary(kind):
        return kind
    return pa.dictionary(pa.int64(), kind.value_type, kind.ordered)


def _cut(where: str, lines: Any) -> Iterator[TableLines]:
    for start in range(0, len(lines), AT_ONCE):
        yield TableLines(where, start, lines.slice(start, AT_ONCE))


def check_columns(found: Sequence[Piece], wanted: Sequence[str]) -> None:
    """Raise `InvalidValue` unless every piece has these columns, each once and of the type that it has in the first piece."""
    first = found[0]
    for piece in found:
        for name in wanted:
            places = piece.schema.get_all_field_indices(name) if isinstance(name, str) else []
            if len(places) != 1:
                has = ", ".join(piece.schema.names)
                count = "no column" if not places else f"{len(places)} columns"
                raise InvalidValue(f"{piece.name} has {count} {name!r}: it has {has}. Name one that is there once.")
            kind, of_first = piece.schema.field(name).type, first.schema.field(name).type
            if kind != of_first:
                raise InvalidValue(
                    f"{piece.name}: column {name!r} is {kind}, in {first.name} it is {of_first}. The files of one table have "
                    "the same types: write them with one schema, or read them one after the other."
                )
