"""Columns of a table as NumPy arrays, checked value by value: a fault is told with its file, its row group and its line."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.user_column import UserColumn
from adaptive_sampler.tables.arrow.sources import CountedPiece, Piece, check_columns

FIRST_IS_0 = "(the first is 0)"


class Fault(Exception):
    """A value that a column may not have: its position in the batch, and what is wrong with it."""

    def __init__(self, position: Any, words: str) -> None:
        super().__init__(words)
        self.position, self.words = int(position), words


@dataclass(frozen=True)
class ColumnKind:
    """What a column holds. `words`: for messages; `csv`: the type in which a CSV file, which has none, is read.

    `fits`: whether a column of a type can hold it; `convert`: the array of a batch as NumPy. It raises `Fault`.
    """

    words: str
    csv: Any
    fits: Callable[[Any], bool]
    convert: Callable[[Any], Any]


class Chunk(NamedTuple):
    """Some lines of a table. `columns`: name -> what its kind makes of it, (length,)."""

    where: str
    start: int
    length: int
    columns: dict[str, Any]

    def at(self, position: Any) -> str:
        """Where a line of it stands, in words."""
        return f"{self.where}, line {self.start + int(position)} {FIRST_IS_0}"


class Places:
    """Where the lines stand of which a table was put together."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._firsts: list[int] = []
        self.lines = 0

    def add(self, chunk: Chunk) -> None:
        """Note the next lines."""
        self._chunks.append(chunk._replace(columns={}))
        self._firsts.append(self.lines)
        self.lines += chunk.length

    def at(self, line: int) -> str:
        """Where a line stands, in words."""
        index = bisect_right(self._firsts, line) - 1
        return self._chunks[index].at(line - self._firsts[index])


def read(found: Sequence[Piece], kinds: Mapping[str, ColumnKind]) -> Iterator[Chunk]:
    """The columns of all pieces, one after the other, some lines at a time.

    Raises `InvalidValue` for columns that are missing or of another type, before anything is read, and for a value that a
    column of its kind may not have, with the place where it stands.
    """
    check(found, kinds)
    for piece in found:
        with _told(piece, kinds):
            for batch in piece.batches({name: kind.csv for name, kind in kinds.items()}):
                columns = {}
                for name, kind in kinds.items():
                    array = batch.lines.column(name)
                    if not kind.fits(array.type):
                        raise _changed(piece, f"column {name!r} is {array.type}")
                    try:
                        columns[name] = kind.convert(array)
                    except Fault as fault:
                        line = batch.start + fault.position
                        raise InvalidValue(f"{batch.where}, line {line} {FIRST_IS_0}: {name} {fault.words}") from fault
                yield Chunk(batch.where, batch.start, len(batch.lines), columns)


def count(found: Sequence[CountedPiece], kinds: Mapping[str, ColumnKind]) -> int:
    """How many lines `read` will yield. Raises as it does."""
    check(found, kinds)
    lines = 0
    for piece in found:
        with _told(piece, kinds):
            lines += piece.count()
    return lines


def check(found: Sequence[Piece], kinds: Mapping[str, ColumnKind]) -> None:
    """Raise `InvalidValue` for columns that are missing or of another type."""
    check_columns(found, [*kinds])
    for piece in found:
        for name, kind in kinds.items():
            held = piece.schema.field(name).type
            if piece.typed and not kind.fits(held):
                raise InvalidValue(f"{piece.name}: column {name!r} is {held}: {kind.words}.")


def _changed(piece: Piece, what: str) -> InvalidValue:
    return InvalidValue(
        f"{piece.name}: {what}, other than when it was looked at. Was it changed while it was read? Read it again."
    )


@contextmanager
def _told(piece: Piece, kinds: Mapping[str, ColumnKind]) -> Iterator[None]:
    """Name the file in what PyArrow raises."""
    try:
        yield
    except KeyError as error:
        raise _changed(piece, str(error.args[0])) from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not of what the file holds
            raise
        raise InvalidValue(f"{piece.name} cannot be read as the columns {', '.join(kinds)}: {error}") from error


# -- numbers ------------------------------------------------------------------------------------------------------------


def _is_number(kind: Any) -> bool:
    types = pa.types
    plain = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return bool(plain or types.is_decimal(kind) or types.is_null(kind))


def _floats(array: Any) -> np.ndarray:
    """Numbers as float32 or wider, NaN where the array has a null."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    elif pa.types.is_decimal(array.type) or pa.types.is_null(array.type):
        array = array.cast(pa.float64())
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _score(array: Any) -> np.ndarray:
    """Scores, float32; NaN, always of the same bits, where the array has a null or a NaN. They may be infinite."""
    lacking = array.null_count and pa.types.is_integer(array.type)
    # Integers with nulls would become float64 first, and be rounded twice, which those of another batch are not.
    given = _floats(array.fill_null(0) if lacking else array)
    with np.errstate(all="ignore"):
        values = np.asarray(given.astype(np.float32))
    if lacking:
        values[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
    beyond = np.flatnonzero(np.isinf(values) & np.isfinite(given))
    if len(beyond):
        raise Fault(beyond[0], f"{given[beyond[0]]} does not fit float32, in which scores are kept. Scale the column.")
    values[np.isnan(values)] = np.nan
    return values


def _measured(array: Any) -> np.ndarray:
    values = _score(array)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise Fault(
            infinite[0], f"is {values[infinite[0]]}: a value is finite. Null or NaN says that nothing was observed."
        )
    return values


def _whole(array: Any) -> np.ndarray:
    if array.null_count:
        raise Fault(np.flatnonzero(array.is_null())[0], "is null: a whole number is needed in every line.")
    values: np.ndarray = array.to_numpy(zero_copy_only=False)
    if values.dtype == np.uint64 and len(values) and values.max() > np.iinfo(np.int64).max:
        raise Fault(int(values.argmax()), f"{values.max()} does not fit int64.")
    return values.astype(np.int64, copy=False)


VALUE = ColumnKind("values that were measured are numbers", pa.float64(), _is_number, _measured)
SCORE = ColumnKind("scores are numbers", pa.float64(), _is_number, _score)
ROW = ColumnKind("row numbers are integers", pa.int64(), pa.types.is_integer, _whole)


def exactly(dtype: str) -> ColumnKind:
    """A column of a store, in which every line has a value of this very dtype."""
    kind = np.dtype(dtype)

    def convert(array: Any) -> np.ndarray:
        given = _floats(array) if kind.kind == "f" else _whole(array)
        with np.errstate(all="ignore"):
            values: np.ndarray = given.astype(kind)
        wrong = np.flatnonzero((values != given) & (given == given))
        if len(wrong):
            raise Fault(wrong[0], f"{given[wrong[0]]} does not fit {dtype}, which store.export wrote. Export it again.")
        return values

    words = f"store.export wrote {dtype}"
    if kind.kind == "f":
        return ColumnKind(words, pa.float64(), _is_number, convert)
    return ColumnKind(words, pa.int64(), pa.types.is_integer, convert)


# -- keys ---------------------------------------------------------------------------------------------------------------


def _is_text(kind: Any) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def texts_of(array: Any) -> Any:
    """Keys as a large_string array. Raises `Fault` for a null, and for bytes that are no text."""
    if array.null_count:
        raise Fault(np.flatnonzero(array.is_null())[0], "is null: every line has a key. Leave lines without one out.")
    if pa.types.is_dictionary(array.type):  # PyArrow 26 does not look up string_view, which Polars has in categories
        array = pa.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(pa.large_string()))
    array = array.cast(pa.large_string())
    try:
        array.validate(full=True)
    except pa.ArrowException:
        raise Fault(*_first_that_is_no_text(array)) from None
    if array.null_count:  # of the dictionary
        return texts_of(array)
    return array


def _keys(array: Any) -> KeyMap:
    array = texts_of(array)
    offsets = np.frombuffer(array.buffers()[1] or b"", np.int64)[array.offset : array.offset + len(array) + 1]
    if not len(array):
        return KeyMap(np.empty(0, np.uint8), np.empty(0, np.int64))
    ends = offsets[1:] - offsets[0] + np.arange(len(array))
    text = np.zeros(ends[-1] + 1, np.uint8)
    inside = np.ones(len(text), np.bool_)
    inside[ends] = False
    text[inside] = np.frombuffer(array.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    return KeyMap(text, ends)


def _first_that_is_no_text(array: Any) -> tuple[int, str]:
    for position, octets in enumerate(array.cast(pa.large_binary()).to_pylist()):
        if octets.decode(errors="ignore").encode() != octets:
            return position, f"{octets!r} is no UTF-8: keys are text."
    raise AssertionError("every key is text")


def _texts(array: Any) -> UserColumn:
    """Texts, each different one once."""
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    if array.null_count:
        raise Fault(np.flatnonzero(array.is_null())[0], f"is null: {_NO_NULL}")
    codes = array.indices.to_numpy(zero_copy_only=False)
    try:
        return UserColumn.of_codes(codes.astype(np.int64), _keys(array.dictionary))
    except Fault as fault:
        lines = np.flatnonzero(codes == fault.position)
        if not len(lines):  # no line here has it, and others may be as bad
            return _texts(_with_what_lines_have(array))
        null = not array.dictionary[fault.position].is_valid
        raise Fault(lines[0], f"is null: {_NO_NULL}" if null else fault.words.replace("keys are", "this is")) from None


def _with_what_lines_have(array: Any) -> Any:
    """A dictionary array without the entries that no line has."""
    used, codes = np.unique(array.indices.to_numpy(zero_copy_only=False), return_inverse=True)
    entries = array.dictionary.cast(pa.large_binary()).take(pa.array(used))
    return pa.DictionaryArray.from_arrays(codes, entries.cast(pa.large_string(), safe=False))


def _own(array: Any) -> UserColumn:
    """Values of a column of the user's own, in the type that they have here."""
    if _is_text(array.type):
        return _texts(array)
    if array.null_count and not pa.types.is_floating(array.type):
        raise Fault(np.flatnonzero(array.is_null())[0], f"is null: {_NO_NULL}")
    values = array.to_numpy(zero_copy_only=False)
    return UserColumn(values.dtype.name, len(values), values)


def _is_own(kind: Any) -> bool:
    types = pa.types
    return bool(_is_text(kind) or types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind))


_NO_NULL = "only floats may lack a value. Give it one of its own, such as 'unknown' or -1"
OWN = ColumnKind("a column of your own holds texts, truth values or numbers. Cast it", pa.string(), _is_own, _own)
KEYS = ColumnKind("keys are text. Cast the column, as the store's keys were made", pa.string(), _is_text, _keys)
