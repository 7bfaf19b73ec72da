"""The lines of a table as a plan reads them: scores, groups and names, some lines at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import tally
from adaptive_sampler.tables.arrow import columns as arrow
from adaptive_sampler.tables.arrow.sources import ArrowTable, Piece, check_columns
from adaptive_sampler.tables.names import ROW
from adaptive_sampler.tables.planning.line_names import NAMES, NUMBERS, LineNames


class AskedColumns(NamedTuple):
    """Which columns a pass reads. `text`: whether the keys are texts, else row numbers; None for no key: not read."""

    scores: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    key: str | None = None
    text: bool = False

    def kinds(self) -> dict[str, arrow.ColumnKind]:
        """What each column holds."""
        found = dict.fromkeys(self.scores, SCORES)
        found |= {name: replace(LABELS, convert=LabelReader()) for name in self.groups}
        if self.key is not None:
            found[self.key] = NAMES if self.text else NUMBERS
        return found


class LineGroups(NamedTuple):
    """The group of each line: `codes`, (lines,) integers, are positions in `labels`, which are all different."""

    codes: np.ndarray
    labels: list[Any]


class LineBatch(NamedTuple):
    """Some lines. `scores`: column -> (lines,) float32, NaN where never observed; `names`: None if no key was asked for."""

    where: str
    start: int
    length: int
    scores: dict[str, np.ndarray]
    groups: dict[str, LineGroups]
    names: LineNames | None
    joined: tuple[ArrowTable, ...] = ()  # that `where` stands for

    def place(self, position: int) -> str:
        """Where one of the lines stands, in words."""
        where, line = self.where, self.start + position
        for piece in self.joined:
            where = piece.name
            if line < len(piece):
                break
            line -= len(piece)
        return f"{where}, line {line} {arrow.FIRST_IS_0}"


def lines_of(pieces: Sequence[Piece], asked: AskedColumns) -> Iterator[LineBatch]:
    """The lines of these partitions, one after the other. Small tables in memory are read as one.

    Raises as `columns.read` does.
    """
    kinds = asked.kinds()
    if len(pieces) > 1 and all(isinstance(piece, ArrowTable) for piece in pieces):
        tables = [piece for piece in pieces if isinstance(piece, ArrowTable)]
        try:
            for lines in _lines([ArrowTable.joined(tables, [*kinds])], kinds, asked):
                yield lines._replace(joined=tuple(tables))
        except InvalidValue:
            for _ in _lines(pieces, kinds, asked):  # raises with the place, which the joined table no longer tells
                pass
            raise
    else:
        yield from _lines(pieces, kinds, asked)


def _lines(pieces: Sequence[Piece], kinds: dict[str, arrow.ColumnKind], asked: AskedColumns) -> Iterator[LineBatch]:
    for chunk in arrow.read(pieces, kinds):
        scores = {name: chunk.columns[name] for name in asked.scores}
        groups = {name: chunk.columns[name] for name in asked.groups}
        names = None if asked.key is None else chunk.columns[asked.key]
        yield LineBatch(chunk.where, chunk.start, chunk.length, scores, groups, names)


def check_asked(pieces: Sequence[Piece], asked: AskedColumns, known: set[str]) -> None:
    """Raise `InvalidValue` unless every partition has these columns, of one type, which can hold what is asked.

    `known`: columns that were found in every partition before; what is found now is added.
    """
    kinds = asked.kinds()
    named = [*asked.scores, *asked.groups, *([] if asked.key is None else [asked.key])]
    for name in kinds:
        if named.count(name) > 1:
            raise InvalidValue(
                f"column {name!r} cannot be two of a score, the groups and the key. Add it to the table again by another name, "
                f"such as {name + '_again'!r}, and name that one."
            )
    check_columns(pieces, [name for name in kinds if name not in known])
    known |= {*kinds}
    for name, kind in kinds.items():
        held = pieces[0].schema.field(name).type
        if pieces[0].typed and not kind.fits(held):
            raise InvalidValue(f"{pieces[0].name}: column {name!r} is {held}: {kind.words}.")


def keys_are_text(piece: Piece, key: str) -> bool:
    """Whether the column `key` has texts, else row numbers. A CSV file, which has no types, has them in the column "row".

    Raises `InvalidValue` for a column that is not there or has neither.
    """
    if not isinstance(key, str):
        raise InvalidValue(f"key={key!r}: the name of the column that names the lines, as a str such as 'id'.")
    check_columns([piece], [key])
    held = piece.schema.field(key).type
    if not piece.typed:
        return key != ROW
    if not NAMES.fits(held) and not NUMBERS.fits(held):
        raise InvalidValue(
            f"{piece.name}: column {key!r} is {held}: keys are text, or row numbers as integers. Cast the column."
        )
    return NAMES.fits(held)


# -- kinds of columns ---------------------------------------------------------------------------------------------------


def _scores(array: Any) -> np.ndarray:
    """As `SCORE` converts, without a copy where nothing is to be converted."""
    if pa.types.is_float32(array.type) and not array.null_count:
        values: np.ndarray = array.to_numpy()
        return values
    return arrow.SCORE.convert(array)  # type: ignore[no-any-return]


def _is_label(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind)) or NAMES.fits(kind)


class LabelReader:
    """The labels of some lines, those that a line has. Raises `Fault` for a null.

    It keeps the dictionary that it read last: the next lines mostly have the same one.
    """

    def __init__(self) -> None:
        self._dictionary: Any = None
        self._labels: list[Any] = []
        self._different = 0

    def __call__(self, array: Any) -> LineGroups:
        if pa.types.is_integer(array.type) and len(array) and not array.null_count:
            found = _dense(array.to_numpy())
            if found is not None:
                return found
        encoded = array if pa.types.is_dictionary(array.type) else pc.dictionary_encode(array)
        if self._dictionary is None or not encoded.dictionary.equals(self._dictionary):
            self._dictionary, self._labels = encoded.dictionary, encoded.dictionary.to_pylist()
            self._different = len({*self._labels} - {None})
        labels = self._labels
        if encoded.indices.null_count or (self._different < len(labels) and None in labels):
            _raise_for_null(array)
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        seen = np.zeros(len(labels), np.bool_)
        tally.seen(codes, seen)
        used = np.flatnonzero(seen)
        if len(used) == len(labels) == self._different:
            return LineGroups(codes, labels)
        places, different = np.zeros(len(labels), np.int32), dict[Any, int]()
        for code in used.tolist():  # of a dictionary, which may hold labels that no line has, and a label twice
            places[code] = different.setdefault(labels[code], len(different))
        return LineGroups(places[codes], [*different])


def _raise_for_null(array: Any) -> None:
    for position, label in enumerate(array.to_pylist()):
        if label is None:
            raise arrow.Fault(position, "is null: every line has a group. Give lines without one a group of their own.")


def _dense(values: np.ndarray) -> LineGroups | None:
    """The groups of integers that lie close together; None of others."""
    lowest, highest = int(values.min()), int(values.max())
    if highest - lowest >= _CLOSE or highest >= 1 << 62:
        return None
    places, labels = np.zeros(highest - lowest + 1, np.int32), np.empty(highest - lowest + 1, np.int64)
    codes, different = tally.as_codes(values, lowest, places, labels)
    return LineGroups(codes, labels[:different].tolist())


_CLOSE = (
    1 << 16
)  # how far labels may lie apart that are looked up in an array of all between the lowest and the highest
SCORES = arrow.ColumnKind("scores are numbers. Cast the column", pa.float64(), arrow.SCORE.fits, _scores)
LABELS = arrow.ColumnKind(
    "groups are texts, integers or booleans. Cast the column; of floats, number the ranges that they fall into",
    pa.dictionary(pa.int32(), pa.string()),
    _is_label,
    LabelReader(),
)
