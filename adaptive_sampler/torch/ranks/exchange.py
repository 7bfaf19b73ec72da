"""What ranks send to one another: their updates, in rounds of bounded size, and numbers that must be equal."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from adaptive_sampler.errors import OutOfStep
from adaptive_sampler.memory.journal import JournalEntry, JournalPieces
from adaptive_sampler.torch.ranks.collective import Gathering, gather, gather_texts

T = TypeVar("T")


def together(act: Callable[[], T], group: Any) -> T:
    """Call `act` on every rank -> what it returned here.

    If it fails on one rank, all raise: that rank its own error, the others `OutOfStep`, also if a rank is gone.
    """
    result: Any = None
    failure: BaseException | None = None
    try:
        result = act()
    except Exception as error:
        failure = error
    said = gather_texts("" if failure is None else f"{type(failure).__name__}: {failure}", group)
    if failure is not None:
        raise failure
    failed = [(rank, text) for rank, text in enumerate(said) if text]
    if failed:
        raise OutOfStep(f"rank {failed[0][0]} failed, so this rank cannot go on: {failed[0][1]}")
    return result  # type: ignore[no-any-return]  # it is what act returned


def compare(gathered: torch.Tensor, names: list[str], remedy: str) -> None:
    """Raise `OutOfStep` if a column of `gathered`, (ranks, columns), differs among the ranks; `names`: the columns' names."""
    for column, name in enumerate(names):
        values = gathered[:, column].tolist()
        if len(set(values)) > 1:
            odd = [rank for rank, value in enumerate(values) if value != values[0]]
            raise OutOfStep(
                f"the ranks' {name} differ: rank {odd[0]} has another than rank 0 ({len(odd)} ranks do): {remedy}. What was "
                "committed is whole: start the processes again from there."
            )


def pieces(lengths: np.ndarray, limit: int) -> Iterator[np.ndarray]:
    """Divide the updates of all ranks into rounds, in which no rank sends more than `limit` rows.

    `lengths`: (ranks, updates), how many rows each update has. A round is (pieces, 4) int64, a line for each piece: rank, update,
    start, stop, for rows `start` … `stop` − 1 of an update; the rounds cover all updates in (update, rank) order.
    """
    # Lists of numbers: thousands of lists or tuples would have the garbage collector look through all that the process holds.
    planned: list[int] = []
    sent = [0] * len(lengths)
    for place, length in enumerate(lengths.T.ravel().tolist()):
        update, rank = divmod(place, len(lengths))
        start = 0
        while start < length:
            if sent[rank] == limit:
                yield np.array(planned).reshape(-1, 4)
                planned, sent = [], [0] * len(lengths)
            stop = min(start + limit - sent[rank], length)
            planned += rank, update, start, stop
            sent[rank] += stop - start
            start = stop
    if planned:
        yield np.array(planned).reshape(-1, 4)


def headers_of(entries: list[JournalEntry], passes: np.ndarray, group: Any) -> np.ndarray:
    """(ranks, updates, 5) int64: number of rows, mask of scores, epoch, pass, and its start, of each update; 0 rows if a rank
    has fewer.

    `passes`: of the `entries` of this rank, as of `Journal.passes_of`.
    """
    most = int(gather([len(entries)], group).max())
    ours = np.zeros((most, 5), np.int64)
    told = (
        (len(e.rows) for e in entries),
        (e.mask for e in entries),
        (e.epoch for e in entries),
    )
    for column, numbers in enumerate(told):
        ours[: len(entries), column] = np.fromiter(numbers, np.int64, len(entries))
    ours[: len(entries), 3:] = passes
    return gather(ours, group).numpy()


class ExchangeRound:
    """The pieces of one round, a line of `planned` each, on their way to all ranks.

    Rows travel in an int64 tensor of their own, never beside floats, which could not hold every row number.
    """

    def __init__(self, planned: np.ndarray, headers: np.ndarray, entries: list[JournalEntry], group: Any) -> None:
        self._rank, update, start, stop = np.ascontiguousarray(planned.T)
        self._size, (self._mask, self._epoch, self._nth) = stop - start, headers[self._rank, update, 1:4].T
        self._rows_at, most_rows = _places(self._rank, self._size)
        self._values_at, most_values = _places(self._rank, self._size * np.bitwise_count(self._mask))
        ours = planned[self._rank == dist.get_rank(group), 1:].tolist()
        rows = [entries[u].rows[a:b] for u, a, b in ours]
        values = [entries[u].values[:, a:b].reshape(-1) for u, a, b in ours]
        self._rows = Gathering(_padded(rows, most_rows, np.int64), group)
        self._values = Gathering(_padded(values, most_values, np.float32), group)

    def arrived(self) -> JournalPieces:
        """Wait for the pieces -> those of all ranks, in order."""
        rows, values = self._rows.arrived().numpy(), self._values.arrived().numpy()
        where = self._rank, self._size, self._rows_at, self._values_at
        return JournalPieces(rows, values, *where, self._mask, self._epoch, self._nth)


def exchange(
    rounds: Iterable[np.ndarray], headers: np.ndarray, entries: list[JournalEntry], group: Any
) -> Iterator[JournalPieces]:
    """The pieces of each of the `rounds`. While the caller folds those of one, those of the next are on their way."""
    before: ExchangeRound | None = None
    for planned in rounds:
        begun = ExchangeRound(planned, headers, entries, group)
        if before is not None:
            yield before.arrived()
        before = begun
    if before is not None:
        yield before.arrived()


def _places(rank: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, int]:
    """(where each piece begins in what its rank sends, the length of the longest of these); `rank`, `size`: of each piece."""
    at, longest = np.empty_like(size), 0
    for one in np.unique(rank):
        mine = rank == one
        ends = np.cumsum(size[mine])
        at[mine], longest = ends - size[mine], max(longest, int(ends[-1]))
    return at, longest


def _padded(parts: list[np.ndarray], size: int, dtype: Any) -> np.ndarray:
    """`parts` one after the other, filled up with zeros to `size`."""
    array: np.ndarray = np.empty(size, dtype)
    length = sum(map(len, parts))
    np.concatenate([*parts, np.empty(0, dtype)], out=array[:length])
    array[length:] = 0
    return array
