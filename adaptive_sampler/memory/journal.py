"""What one rank observed and has not yet shared: kept in order, folded by every rank at the next sync."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from adaptive_sampler.errors import StoreError
from adaptive_sampler.plan import MadeFrom


class JournalEntry(NamedTuple):
    """One update: `rows` (batch,) int64, `values` (scores, batch) float32 of the scores that `mask` has bits for."""

    rows: np.ndarray
    mask: int
    values: np.ndarray
    epoch: int


class Journal:
    """The updates of one rank since the last sync, and the state of the scores that all ranks had then.

    `version` and `next`: the numbers of the last commit and of the next one, which the first rank writes and every rank
    returns; `sync` fixes them, so that a commit asks nobody.
    """

    def __init__(self, names: tuple[str, ...], made_from: MadeFrom, next_version: int) -> None:
        self.names, self.synced = names, made_from
        self.version, self.next = made_from.commit, next_version
        self.entries: list[JournalEntry] = []
        self.torn = False  # a sync broke off: what this rank holds in memory is no longer what others hold
        self.tally: VisitTally | None = None

    def committed(self) -> None:
        """The first rank has written a version."""
        self.version, self.next = self.next, self.next + 1

    def append(self, rows: np.ndarray, names: tuple[str, ...], values: np.ndarray, epoch: int) -> None:
        """Note checked values (scores, batch) and the rows, which a later step may overwrite in place."""
        if not len(rows):
            return
        bits = [self.names.index(name) for name in names]
        self.entries.append(JournalEntry(rows.copy(), sum(1 << bit for bit in bits), values[np.argsort(bits)], epoch))

    def named(self, mask: int) -> list[str]:
        """The scores that a mask has bits for."""
        return [name for bit, name in enumerate(self.names) if mask >> bit & 1]

    def settled(self, wanted: str) -> MadeFrom:
        """The state of the scores on every rank. Raises `StoreError` where this rank knows more than the others."""
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
    """How often each row may still be folded in an epoch: what the plan visits, so that padding counts once.

    `occurrences`: (n,) integers, the visits left in the epoch of `key`.
    """

    def __init__(self, key: tuple[str, int, int], occurrences: np.ndarray) -> None:
        self.key = key
        self._occurrences = occurrences
        self._left: dict[str, np.ndarray] = {}

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """(batch,) bool: which of `rows` are visits of the plan, in the order given; they are used up."""
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
    """Rounds of (rank, update, start, stop) that cover updates of these lengths, (ranks, updates), in (update, rank) order.

    No rank sends more than `limit` rows in a round.
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
