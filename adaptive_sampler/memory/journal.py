"""The journal of one rank: its updates since the last sync, in order, which every rank folds at the next sync."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from adaptive_sampler.errors import StoreError
from adaptive_sampler.kernels import fold as kernels
from adaptive_sampler.memory.table import Update
from adaptive_sampler.plan import MadeFrom


class JournalEntry(NamedTuple):
    """One update: `rows`, (batch,) int64, and `values`, (scores, batch) float32, of the scores whose bits `mask` sets.

    `apart`: whether it is no part of a training epoch, such as a scoring pass, so that none of its rows is padding.
    """

    rows: np.ndarray
    mask: int
    values: np.ndarray
    epoch: int
    apart: bool = False


class JournalPieces(NamedTuple):
    """Pieces of updates, one after another, as they lie in what the ranks sent: `rows`, (ranks, …) int64, and `values`, (ranks,
    …) float32, those of a piece line by line.

    Of each piece, (pieces,) int64: its `rank` and `size`, where it lies in what that sent, and its `mask`, `epoch` and `apart`.
    """

    rows: np.ndarray
    values: np.ndarray
    rank: np.ndarray
    size: np.ndarray
    rows_at: np.ndarray
    values_at: np.ndarray
    mask: np.ndarray
    epoch: np.ndarray
    apart: np.ndarray


def runs(pieces: JournalPieces, *, by_batches: bool) -> Iterator[tuple[JournalEntry, int]]:
    """Join pieces of the same scores and epoch, and alike `apart`, that follow each other -> these, and how many each is made of.

    Their rows keep their order, so folding a run gives what folding its pieces one after another does, in fewer calls.
    `by_batches`: a fold may tell the difference, so every piece stays by itself.
    """
    number, mask, told = len(pieces.rank), pieces.mask, np.stack([pieces.mask, pieces.epoch, pieces.apart])
    starts = np.ones(number + 1, np.bool_)
    if not by_batches:
        starts[1:number] = (told[:, 1:] != told[:, :-1]).any(0)
    bounds = np.flatnonzero(starts).tolist()
    for first, stop in pairwise(bounds):
        where = [of[first:stop] for of in (pieces.rank, pieces.size, pieces.rows_at, pieces.values_at)]
        scores, length = int(mask[first]), int(where[1].sum())
        rows, values = np.empty(length, np.int64), np.empty((scores.bit_count(), length), np.float32)
        kernels.join(pieces.rows, pieces.values, *where, rows, values)
        yield JournalEntry(rows, scores, values, int(pieces.epoch[first]), bool(pieces.apart[first])), stop - first


def visits_taken(rows: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Which of `rows`, in the order given, are visits of which some are `left`, (n,); these are taken from it. (batch,) bool."""
    mine = np.empty(len(rows), np.bool_)
    kernels.take_visits(rows, left, mine)
    return mine


class Journal:
    """The updates of one rank since the last sync, and the state of the scores that all ranks had then.

    `version` and `next`: the numbers of the last commit and of the next one, which the first rank writes and every rank
    returns. `sync` sets them on all ranks, so that a commit needs no communication. `next_version`: what the first rank says
    of the next one, as a number is left out after a commit whose answer was lost.
    """

    def __init__(self, names: tuple[str, ...], made_from: MadeFrom, next_version: Callable[[], int]) -> None:
        self.names, self.synced, self.next_version = names, made_from, next_version
        self.version, self.next = made_from.commit, next_version()
        self.entries: list[JournalEntry] = []
        self.torn = False  # whether a sync broke off: this rank's scores may then differ from those of the others
        self.apart = False  # whether what is observed now is no part of a training epoch
        # Of each sampler, how often rows may still be counted; `sync` makes these, and goes on with them within an epoch.
        self.tallies: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def committed(self, version: int | None) -> None:
        """Note that the first rank has written a version, which only itself knows for sure: a number may be left out."""
        self.version = self.next if version is None else version
        self.next = self.version + 1

    def append(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, epoch: int) -> None:
        """Add an update of checked `values`, (scores, batch), one line for each of `names`.

        The rows are copied, because a later step may overwrite them in place.
        """
        if not len(rows):
            return
        bits = [self.names.index(name) for name in names]
        mask = sum(1 << bit for bit in bits)
        self.entries.append(JournalEntry(rows.copy(), mask, values[np.argsort(bits)], epoch, self.apart))

    @contextmanager
    def kept_apart(self) -> Iterator[None]:
        """What is added meanwhile is no part of a training epoch; see `JournalEntry.apart`."""
        before, self.apart = self.apart, True
        try:
            yield
        finally:
            self.apart = before

    def append_all(self, parts: Iterable[Update], epoch: int) -> None:
        """Add many parts of checked values, the parts of each group of scores as one update."""
        together: dict[tuple[str, ...], list[Update]] = {}
        for part in parts:
            together.setdefault(part.names, []).append(part)
        for names, some in together.items():
            values = np.concatenate([part.values for part in some], axis=1)
            self.append(np.concatenate([part.rows for part in some]), names, values, epoch)

    def named(self, mask: int) -> tuple[str, ...]:
        """The scores whose bits `mask` sets."""
        return tuple(name for bit, name in enumerate(self.names) if mask >> bit & 1)

    def settled(self, wanted: str) -> MadeFrom:
        """The state of the scores, which is the same on every rank; `wanted` begins the message of an error.

        Raises `StoreError` if this rank has updates that the others have not, or if a sync broke off.
        """
        if self.torn:
            raise StoreError(
                f"{wanted}, but a sync broke off: this rank's scores are not those of the others. The last commit is whole: "
                "start the processes again and open it."
            )
        if self.entries:
            raise StoreError(
                f"{wanted} while {len(self.entries)} updates of this rank are not shared: ranks would differ. Call "
                "sync(store, sampler) on every rank first."
            )
        return self.synced
