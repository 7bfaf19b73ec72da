"""The partitions of a table: dealt into shares that are worth a call, and held to what they were when the plan began."""

import os
import time
from collections.abc import Sequence, Sized
from typing import Any, NamedTuple

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.tables.arrow.sources import ParquetFile, Piece
from adaptive_sampler.tables.planning.engines import Engine, Found, Merge, TableShare, Task

LEAST, MOST = 1 << 20, 1 << 28  # bytes of a share: at least and at most, but for a partition that has more itself
SHARES = 256  # about as many, so that the results of many small partitions are not merged one by one
PARTS = 16  # that a table of one file is read in, so that all threads have something to do


class FileState(NamedTuple):
    """What a file was when the plan began: its size in bytes and when it was changed, in ns."""

    size: int
    mtime_ns: int


class TablePass(NamedTuple):
    """A pass over a table: what was done, how many seconds it took, and how many bytes came to this process from the workers of
    a cluster meanwhile, pickled.
    """

    name: str
    seconds: float
    received: int


class Partitions:
    """The partitions of a table, and the passes over them.

    `names`: what messages call each; `states`: of each, None for a table in memory; `columns`: those that were found in all;
    `passes`: those that there were, in order; `size`: about how many bytes it has.
    Raises as `pieces` does.
    """

    def __init__(self, source: Any, engine: Engine) -> None:
        self.pieces = engine.pieces(source)
        for number, piece in enumerate(self.pieces):
            if piece.path is None:
                piece.name = f"{piece.name} (partition {number})"
            if isinstance(piece, ParquetFile):
                piece.runs = {}
        self.names = [piece.name for piece in self.pieces]
        self.states = [_state(piece) for piece in self.pieces]
        self.columns: set[str] = set()
        self.passes: list[TablePass] = []
        self._engine = engine
        sizes = [_size(piece, state) for piece, state in zip(self.pieces, self.states, strict=True)]
        self.size = sum(sizes)
        self._whole = _shares(self.pieces, sizes)
        self._shares = _shares(*_parts(self.pieces, sizes))

    def __len__(self) -> int:
        return len(self.pieces)

    def run(self, task: Task[Found], arguments: tuple[Any, ...], merge: Merge[Found], whole: bool = False) -> Found:
        """A pass over all partitions: see `Engine.run`. Raises `InvalidValue` if a file is no longer what it was.

        `whole`: whether each call gets whole partitions, and their numbers; else a large file may be read in parts.
        """
        return self._pass(task, arguments, merge, self._whole if whole else self._shares)

    def _pass(
        self, task: Task[Found], arguments: tuple[Any, ...], merge: Merge[Found], shares: Sequence[TableShare]
    ) -> Found:
        begun = time.perf_counter()
        try:
            found = self._engine.run(task, shares, arguments, merge)
        finally:
            self.check()
        name = task.__name__.strip("_").replace("_", " ")
        self.passes.append(TablePass(name, time.perf_counter() - begun, self._engine.received[-1]))
        return found

    def sample(self, task: Task[Found], arguments: tuple[Any, ...], merge: Merge[Found], shares: int) -> Found | None:
        """A look at so many shares that lie far from each other; None where there is one share: there is little to be spared."""
        if len(self._shares) < 2:
            return None
        some = self._shares[:: -(-len(self._shares) // shares)]
        return self._pass(task, arguments, merge, some)

    def check(self, numbers: Sequence[int] | None = None) -> None:
        """Raise `InvalidValue` if the file of one of these partitions (None: of any) is no longer what it was."""
        for number in range(len(self.pieces)) if numbers is None else numbers:
            then, now = self.states[number], _state(self.pieces[number])
            if then != now:
                what = _difference(then, now)
                raise InvalidValue(
                    f"{self.names[number]} changed while a plan was made of it or used: {what}. Let nothing write to the table "
                    "meanwhile, and plan again."
                )


def _difference(then: FileState | None, now: FileState | None) -> str:
    if then is None or now is None:
        return "the file is gone"
    if then.size != now.size:
        return f"it had {then.size} bytes and now has {now.size}"
    return f"it was last changed at {then.mtime_ns} ns, now at {now.mtime_ns} ns"


def _state(piece: Piece) -> FileState | None:
    if piece.path is None:
        return None
    try:
        found = os.stat(piece.path)
    except FileNotFoundError:
        return None
    return FileState(found.st_size, found.st_mtime_ns)


def _parts(found: Sequence[Piece], sizes: Sequence[int]) -> tuple[list[Piece], list[int]]:
    """The partitions, large files in parts; and the sizes of these."""
    enough = min(max(sum(sizes) // PARTS, LEAST), MOST)
    parts: list[Piece] = []
    of_parts: list[int] = []
    for piece, size in zip(found, sizes, strict=True):
        more = piece.parts(size // enough) if isinstance(piece, ParquetFile) and size >= 2 * enough else [piece]
        parts += more
        of_parts += [size // len(more)] * len(more)
    return parts, of_parts


def _shares(found: Sequence[Piece], sizes: Sequence[int]) -> list[TableShare]:
    """Neighbouring partitions together, so that there are not many more than `SHARES` shares, unless they are large."""
    enough = min(max(sum(sizes) // SHARES, LEAST), MOST)
    shares: list[TableShare] = []
    first, size = 0, 0
    for number, more in enumerate(sizes):
        if number > first and size + more > enough:
            shares.append(TableShare(first, tuple(found[first:number])))
            first, size = number, 0
        size += more
    return [*shares, TableShare(first, tuple(found[first:]))]


def _size(piece: Piece, state: FileState | None) -> int:
    if isinstance(piece, Sized):  # in memory
        return len(piece) * len(piece.schema) * 8  # about: to add up what it takes is slow for many small tables
    return state.size if state else 0


def joined(a: list[Any], b: list[Any]) -> list[Any]:
    """A merge: one list after the other."""
    return a + b
