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

    Of each piece, (pieces,) int64: its `rank` and `size`, where it lies in what that sent, its `mask` and `epoch`, and in `nth`
    its pass, as of `Journal.passes_of`.
    """

    rows: np.ndarray
    values: np.ndarray
    rank: np.ndarray
    size: np.ndarray
    rows_at: np.ndarray
    values_at: np.ndarray
    mask: np.ndarray
    epoch: np.ndarray
    nth: np.ndarray


def runs(pieces: JournalPieces, *, by_batches: bool) -> Iterator[tuple[JournalEntry, int, int]]:
    """Join pieces of the same scores, epoch and pass that follow each other -> these, how many each is made of, and its pass.

    Their rows keep their order, so folding a run gives what folding its pieces one after another does, in fewer calls.
    `by_batches`: a fold may tell the difference, so every piece stays by itself.
    """
    number, mask, told = len(pieces.rank), pieces.mask, np.stack([pieces.mask, pieces.epoch, pieces.nth])
    starts = np.ones(number + 1, np.bool_)
    if not by_batches:
        starts[1:number] = (told[:, 1:] != told[:, :-1]).any(0)
    bounds = np.flatnonzero(starts).tolist()
    for first, stop in pairwise(bounds):
        where = [of[first:stop] for of in (pieces.rank, pieces.size, pieces.rows_at, pieces.values_at)]
        scores, length = int(mask[first]), int(where[1].sum())
        rows, values = np.empty(length, np.int64), np.empty((scores.bit_count(), length), np.float32)
        kernels.join(pieces.rows, pieces.values, *where, rows, values)
        nth = int(pieces.nth[first])
        yield JournalEntry(rows, scores, values, int(pieces.epoch[first]), nth < 0), stop - first, nth


def visits_taken(rows: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Which of `rows`, in the order given, are visits of which some are `left`, (n,); these are taken from it. (batch,) bool."""
    mine = np.empty(len(rows), np.bool_)
    kernels.take_visits(rows, left, mine)
    return mine


class Passes:
    """The passes of one sampler over its epochs: the one that the last sync ended with, and those that were begun since.

    A row counts once a visit in each pass, so a pass must be told from the next one though both walk the same epoch, as in a
    loop that calls `set_epoch(0)` every time. An epoch is also begun without being walked: Lightning, Composer and Accelerate
    call `iter` twice, and a script may look at a first batch on one rank only. Therefore it is a new pass only once something
    was observed since the last beginning. Neither who begins it matters, nor why: what one process would count counts.

    `begun`: how many training updates the journal had had when each pass was begun, rising; `starts`: the positions in the epoch
    at which they were begun. `tally`: what may still be counted in the first of them; None if no sync has counted any yet.
    """

    def __init__(self, begun: int, start: int, tally: Any = None) -> None:
        self.begun, self.starts, self.tally = [begun], [start], tally

    def begin(self, updates: int, start: int) -> None:
        """Note that the epoch is begun at `start` when the journal has had so many `updates` of training epochs."""
        if updates > self.begun[-1]:
            self.begun.append(updates)
            self.starts.append(start)
        self.starts[-1] = start

    def ended(self, nth: int, tally: Any) -> None:
        """Note that a sync ended with pass `nth` on some rank, and its `tally`; this rank may not have come as far."""
        gone = min(nth, len(self.begun) - 1)
        self.begun, self.starts, self.tally = self.begun[gone:], self.starts[gone:], tally


class Journal:
    """The updates of one rank since the last sync, and the state of the scores that all ranks had then.

    `version` and `next`: the numbers of the last commit and of the next one, which the first rank writes and every rank
    returns. `sync` sets them on all ranks, so that a commit needs no communication. `next_version`: what the first rank says
    of the next one, as a number is left out after a commit whose answer was lost. `kept`: what the last commit keeps of the
    samplers' walks, as of `walks`; every rank knows it by itself, as it opened the same version or commits alike.
    """

    def __init__(
        self, names: tuple[str, ...], made_from: MadeFrom, next_version: Callable[[], int], walks: list[Any]
    ) -> None:
        self.names, self.synced, self.next_version = names, made_from, next_version
        self.version, self.next = made_from.commit, next_version()
        self.kept = walks
        self.entries: list[JournalEntry] = []
        self.torn = False  # whether a sync broke off: this rank's scores may then differ from those of the others
        self.apart = False  # whether what is observed now is no part of a training epoch
        self.trained = 0  # how many updates of training epochs it has had, with those that were folded
        self.passes: WeakKeyDictionary[Any, Passes] = WeakKeyDictionary()  # of each sampler

    def committed(self, version: int | None) -> None:
        """Note that the first rank has written a version, which only itself knows for sure: a number may be left out."""
        self.version = self.next if version is None else version
        self.next, self.kept = self.version + 1, self.walks()

    def append(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, epoch: int) -> None:
        """Add an update of checked `values`, (scores, batch), one line for each of `names`.

        The rows are copied, because a later step may overwrite them in place.
        """
        if not len(rows):
            return
        bits = [self.names.index(name) for name in names]
        mask = sum(1 << bit for bit in bits)
        self.entries.append(JournalEntry(rows.copy(), mask, values[np.argsort(bits)], epoch, self.apart))
        self.trained += not self.apart

    def begin_pass(self, sampler: Any) -> None:
        """Note that `sampler` begins an epoch, maybe one that it has begun before."""
        self.passes_by(sampler).begin(self.trained, sampler.start)

    def go_on(self, sampler: Any, tally: Any) -> None:
        """Note how often rows may still be counted in the pass that `sampler` begins, or has just begun, amid an epoch."""
        self.passes[sampler] = Passes(self.trained, sampler.start, tally)

    def passes_by(self, sampler: Any) -> Passes:
        """The passes of `sampler`, which from now on are noted."""
        if sampler not in self.passes:
            self.passes[sampler] = Passes(self.trained, sampler.start)
        return self.passes[sampler]

    def passes_of(self, sampler: Any | None) -> np.ndarray:
        """Of each update that waits, the pass of `sampler` that it is part of and where that was begun, (updates, 2) int64.

        A pass is 0 if it is the one that the last sync ended with, then 1, and so on; below 0 for what is no part of one: what is
        apart, or was observed before the sampler's first pass.
        """
        trained = np.array([not entry.apart for entry in self.entries], np.int64)
        passes = self.passes.get(sampler) if sampler is not None else None
        if passes is None:
            return np.stack([trained - 1, trained * 0], axis=1)
        before = self.trained - int(trained.sum()) + np.cumsum(trained) - trained  # training updates before each
        nth = np.where(trained, np.searchsorted(passes.begun, before, side="right"), 0) - 1
        return np.stack([nth, np.array(passes.starts)[np.maximum(nth, 0)]], axis=1)

    def walks(self) -> list[Any]:
        """Of each sampler, what a commit keeps of its walk; of one that has begun anew since the last sync, nothing: a
        resume may count all of it.
        """
        return [
            passes.tally.told for passes in self.passes.values() if passes.tally is not None and len(passes.begun) == 1
        ]

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
