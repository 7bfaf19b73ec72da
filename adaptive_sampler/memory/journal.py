"""The journal of one rank: its updates since the last sync, in order, which every rank folds at the next sync."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from adaptive_sampler.errors import StoreError
from adaptive_sampler.plan import MadeFrom


class JournalEntry(NamedTuple):
    """One update: `rows`, (batch,) int64, and `values`, (scores, batch) float32, of the scores whose bits `mask` sets."""

    rows: np.ndarray
    mask: int
    values: np.ndarray
    epoch: int


class Journal:
    """The updates of one rank since the last sync, and the state of the scores that all ranks had then.

    `version` and `next`: the numbers of the last commit and of the next one, which the first rank writes and every rank
    returns. `sync` sets them on all ranks, so that a commit needs no communication.
    """

    def __init__(self, names: tuple[str, ...], made_from: MadeFrom, next_version: int) -> None:
        self.names, self.synced = names, made_from
        self.version, self.next = made_from.commit, next_version
        self.entries: list[JournalEntry] = []
        self.torn = False  # whether a sync broke off: this rank's scores may then differ from those of the others
        self.tally: VisitTally | None = None

    def committed(self) -> None:
        """Note that the first rank has written a version."""
        self.version, self.next = self.next, self.next + 1

    def append(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, epoch: int) -> None:
        """Add an update of checked `values`, (scores, batch), one line for each of `names`.

        The rows are copied, because a later step may overwrite them in place.
        """
        if not len(rows):
            return
        bits = [self.names.index(name) for name in names]
        self.entries.append(JournalEntry(rows.copy(), sum(1 << bit for bit in bits), values[np.argsort(bits)], epoch))

    def named(self, mask: int) -> list[str]:
        """The scores whose bits `mask` sets."""
        return [name for bit, name in enumerate(self.names) if mask >> bit & 1]

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


class VisitTally:
    """How often each row may still be folded in an epoch: as often as the plan visits it, so that padding has no effect.

    `key`: the plan's id, the epoch, and the position at which it was begun. `occurrences`: (n,) integers, how often each
    row is visited from that position on.
    """

    def __init__(self, key: tuple[str, int, int], occurrences: np.ndarray) -> None:
        self.key = key
        self._occurrences = occurrences
        self._left: dict[str, np.ndarray] = {}

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Mark which of `rows` are visits that are left for the score `name`, (batch,) bool, and use these visits up.

        The rows are taken in the order given.
        """
        left = self._left.setdefault(name, self._occurrences.copy())
        order = np.argsort(rows, kind="stable")
        ranked = rows[order]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        nth = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
        mine = np.empty(len(rows), np.bool_)
        mine[order] = nth < left[ranked]
        np.subtract.at(left, rows[mine], 1)
        return mine


def pieces(lengths: np.ndarray, limit: int) -> Iterator[list[tuple[int, int, int, int]]]:
    """Divide the updates of all ranks into rounds, in which no rank sends more than `limit` rows.

    `lengths`: (ranks, updates), how many rows each update has. A round is a list of (rank, update, start, stop), rows
    `start` … `stop` − 1 of an update; the rounds cover all updates in (update, rank) order.
    """
    planned: list[tuple[int, int, int, int]] = []
    sent = np.zeros(len(lengths), np.int64)
    for update, rank in np.ndindex(lengths.shape[::-1]):
        start, length = 0, int(lengths[rank, update])
        while start < length:
            if sent[rank] == limit:
                yield planned
                planned, sent[:] = [], 0
            stop = min(start + limit - int(sent[rank]), length)
            planned.append((rank, update, start, stop))
            sent[rank] += stop - start
            start = stop
    if planned:
        yield planned
