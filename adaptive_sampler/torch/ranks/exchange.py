"""What ranks send to one another: their updates, in rounds of bounded size, and numbers that must be equal."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from adaptive_sampler.errors import OutOfStep
from adaptive_sampler.memory.journal import JournalEntry
from adaptive_sampler.torch.ranks.collective import gather, gather_texts

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


def pieces(lengths: np.ndarray, limit: int) -> Iterator[list[tuple[int, int, int, int]]]:
    """Divide the updates of all ranks into rounds, in which no rank sends more than `limit` rows.

    `lengths`: (ranks, updates), how many rows each update has. A round is a list of (rank, update, start, stop), rows
    `start` … `stop` − 1 of an update; the rounds cover all updates in (update, rank) order.
    """
    planned: list[tuple[int, int, int, int]] = []
    sent = [0] * len(lengths)
    for update, each in enumerate(lengths.T.tolist()):
        for rank, length in enumerate(each):
            start = 0
            while start < length:
                if sent[rank] == limit:
                    yield planned
                    planned, sent = [], [0] * len(lengths)
                stop = min(start + limit - sent[rank], length)
                planned.append((rank, update, start, stop))
                sent[rank] += stop - start
                start = stop
    if planned:
        yield planned


def headers_of(entries: list[JournalEntry], group: Any) -> np.ndarray:
    """(ranks, updates, 3) int64: number of rows, epoch and mask of scores of each update; 0 rows if a rank has fewer."""
    most = int(gather([len(entries)], group).max())
    ours = [[len(e.rows), e.epoch, e.mask] for e in entries] + [[0, 0, 0]] * (most - len(entries))
    return gather(np.array(ours, np.int64).reshape(most, 3), group).numpy()


def exchange(
    planned: list[tuple[int, int, int, int]], headers: np.ndarray, entries: list[JournalEntry], group: Any
) -> list[JournalEntry]:
    """Exchange the pieces of one round -> the entries of all ranks, in order.

    Rows travel in an int64 tensor of their own, never beside floats, which could not hold every row number.
    """
    me, ranks = dist.get_rank(group), len(headers)
    ours = [(entries[update], slice(start, stop)) for rank, update, start, stop in planned if rank == me]
    rows = [entry.rows[part] for entry, part in ours]
    values = [entry.values[:, part].reshape(-1) for entry, part in ours]
    told = headers[tuple(np.array(planned)[:, :2].T)].tolist()
    most_rows, most_values = [0] * ranks, [0] * ranks
    for (rank, _, start, stop), (_, _, mask) in zip(planned, told, strict=True):
        most_rows[rank] += stop - start
        most_values[rank] += (stop - start) * mask.bit_count()
    all_rows = gather(_padded(rows, max(most_rows), np.int64), group).numpy()
    all_values = gather(_padded(values, max(most_values), np.float32), group).numpy()
    merged, row, value = [], [0] * ranks, [0] * ranks
    for (rank, _, start, stop), (_, epoch, mask) in zip(planned, told, strict=True):
        size, cells = stop - start, (stop - start) * mask.bit_count()
        rows_ = all_rows[rank, row[rank] : row[rank] + size]
        block = all_values[rank, value[rank] : value[rank] + cells].reshape(-1, size)
        merged.append(JournalEntry(rows_, mask, block, epoch))
        row[rank] += size
        value[rank] += cells
    return merged


def _padded(parts: list[np.ndarray], size: int, dtype: Any) -> np.ndarray:
    """`parts` one after the other, filled up with zeros to `size`."""
    array: np.ndarray = np.zeros(size, dtype)
    joined = np.concatenate([*parts, np.empty(0, dtype)])
    array[: len(joined)] = joined
    return array
