"""Which rows the next loss call belongs to, and which of them no call has brought yet; refused when in doubt."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue, RowError
from adaptive_sampler.torch.data.rows import checked_rows

# Private to torch, so looked up with care: without them a recomputation counts as any call.
_graph_task = getattr(torch._C, "_current_graph_task_id", lambda: -1)
_node = getattr(torch._C, "_current_autograd_node", lambda: None)
_next_node = getattr(getattr(torch._C, "_autograd", None), "_get_sequence_nr", lambda: 0)

_REMEMBERED = 64  # batches whose backward may still be to come

Fresh = torch.Tensor | bool  # which samples of a call no call has brought yet: (batch,) bool, or all, or none


@dataclass(slots=True, eq=False)
class _Batch:
    rows: torch.Tensor  # (batch,) int64
    owner: object  # the iterator that delivered it
    since: int  # autograd's nodes of its calls have this number or a higher one
    left: np.ndarray | bool = True  # (batch,) bool: positions that no call has brought; or all, or none
    weights: tuple[Any, np.ndarray] | None = (
        None  # the sampler, and (batch,) of its plan when the batch was first called
    )
    given_out: bool = False  # by `claim`: a call without rows= might be a second loss of it


class PendingRows:
    """The rows of the batch that a watched loader delivered last. Each of its positions counts once."""

    def __init__(self) -> None:
        self._batch: _Batch | None = None
        self._unclaimed = 0  # batches delivered since the last call
        self._taken: _Batch | None = None  # of the last call
        self._earlier: deque[_Batch] = deque(maxlen=_REMEMBERED)
        self._iterators: list[object] = []  # that may deliver: asked for, and not ended
        # Those asked for before a call was in doubt: the consumer may still hold a batch that another one delivered.
        self._doubted: list[object] = []

    def expect(self, owner: object) -> None:
        """An iterator was asked for."""
        self._iterators.append(owner)

    def put(self, rows: torch.Tensor, owner: object) -> None:
        """A batch was delivered."""
        if self._batch is not None:
            self._earlier.append(self._batch)
        self._batch = _Batch(rows, owner, _next_node())
        self._unclaimed += 1

    def forget(self, owner: object = None) -> None:
        """Nothing is pending, because the batch is left out or (with `owner`) its iterator has ended."""
        if owner is None:
            self._doubted.clear()
        else:
            self._iterators = [other for other in self._iterators if other is not owner]
            self._doubted = [other for other in self._doubted if other is not owner]
        if self._batch is not None and owner in (None, self._batch.owner):
            self._batch.left = self._batch.left if owner is not None else False
            self._earlier.append(self._batch)  # its backward may be to come
            self._settle()

    def _settle(self) -> None:
        self._batch, self._unclaimed = None, 0

    def claim(self, length: int) -> torch.Tensor:
        """The rows for a loss that is computed elsewhere; once. Raises `InvalidValue` where they might be another batch's."""
        batch = self._sure(self._batch, length)
        if batch.left is not True:
            raise InvalidValue(_NO_ROWS)
        batch.given_out, self._unclaimed = True, 0
        return batch.rows

    def take(self, given: Any, length: int, *, count: bool = True) -> tuple[torch.Tensor, Fresh]:
        """The rows of a loss call on `length` samples, and which of them are to be recorded: those that come first.

        `given`: rows that the caller names, None where they are those of the watched batch. `count=False`: the call is
        no presentation. Raises `InvalidValue` where the rows are in doubt, or are not of the watched batch.
        """
        self._taken = batch = self._of_backward() if _graph_task() != -1 else self._batch
        if given is None:
            batch = self._sure(batch, length)
            if batch is self._batch and count:
                self._unclaimed = 0
            return batch.rows, count and self._count(batch, None)
        rows = checked_rows(given, length)
        if batch is None or not count:
            return rows, count  # where nothing is watched each call counts
        # Says nothing of the next call without rows=, which may be a second one of whoever lags behind.
        return rows, self._count(batch, _positions(batch, rows))

    def weights(self, rows: torch.Tensor, sampler: Any, *, watched: bool) -> np.ndarray:
        """(batch,): what the sampler's plan weighs the `rows` with that the last call took.

        Where they are `watched` it is the plan of when their batch was first called: a part of it that is computed again
        in its backward may meet the next epoch's.
        """
        kept = _kept(self._taken, rows, sampler) if watched and self._taken is not None else None
        weights: np.ndarray = sampler.loss_weights(rows.cpu()) if kept is None else kept
        return weights

    def _count(self, batch: _Batch, where: np.ndarray | None) -> Fresh:
        """Which of the positions `where` (None: all) are brought for the first time; they are brought now."""
        left = batch.left
        if batch is not self._batch and left is True:
            self._unclaimed = max(self._unclaimed - 1, 0)
        if where is None and isinstance(left, bool):
            batch.left = False
            return left
        if isinstance(left, bool):
            left = np.full(len(batch.rows), left)
        at = np.arange(len(left)) if where is None else where
        fresh = (at >= 0) & left[at]
        left[at[fresh]] = False
        batch.left = left if left.any() else False
        return bool(fresh.all()) if fresh.all() or not fresh.any() else torch.from_numpy(fresh)

    def _sure(self, batch: _Batch | None, length: int) -> _Batch:
        """The batch of a call that names no rows."""
        if batch is None or batch.given_out:
            raise InvalidValue(_NO_ROWS)
        if batch is self._batch and (batch.owner in self._doubted or self._behind(batch)):
            unclaimed, self._doubted = self._unclaimed, list(self._iterators)
            self._settle()
            self._earlier.clear()
            raise InvalidValue(
                f"hook.watch(loader) delivered {unclaimed} batches since the last loss call (or several before an earlier one), so "
                "this call's rows are in doubt. Make watch the outermost iterator (around the prefetcher, not inside it), call "
                "hook.forget() for a batch that you leave out, or iterate the loader itself and pass rows=."
            )
        if len(batch.rows) != length:
            raise InvalidValue(
                f"the loss call has {length} samples, the watched batch {len(batch.rows)} rows: they do not belong together. Pass "
                "rows= with the rows of these samples (micro-batches, filtered batches)."
            )
        return batch

    def _behind(self, batch: _Batch) -> bool:
        """Whether the caller may hold an earlier batch than the last one."""
        if _graph_task() == -1:
            return self._unclaimed > 1
        # Parts of several batches may wait for one backward; but between two batches something was computed.
        return any(other.left is True and other.since == batch.since for other in self._earlier)

    def _of_backward(self) -> _Batch | None:
        """The batch whose backward runs: a checkpointed part is computed again, perhaps when the next batch is here.

        A node of autograd is numbered when it is made, so the part belongs to the last batch delivered before that.
        """
        node = _node()
        made = getattr(node, "_sequence_nr", lambda: 0)() if node is not None else 0
        batches = (self._batch, *reversed(self._earlier))
        return next((batch for batch in batches if batch is not None and batch.since <= made), None)


def _positions(batch: _Batch, rows: torch.Tensor) -> np.ndarray | None:
    """The positions in the batch that `rows` stand for, those left before the others, −1 where a row comes too often.

    None: all of the batch, in order. Raises `InvalidValue` for a row that is not of the batch.
    """
    if rows is batch.rows:
        return None
    known, given = to_host(batch.rows), to_host(rows)
    if np.array_equal(known, given):
        return None
    left = np.full(len(known), batch.left) if isinstance(batch.left, bool) else batch.left
    order = np.lexsort((~left, known))
    ranked = known[order]
    by_row = np.argsort(given, kind="stable")
    asked = given[by_row]
    start, stop = np.searchsorted(ranked, asked, "left"), np.searchsorted(ranked, asked, "right")
    if (start == stop).any():
        strange = asked[start == stop]
        raise InvalidValue(
            f"row {strange[0]} is not of the batch that hook.watch(loader) delivered last ({len(strange)} of {len(given)} rows "
            "are not). Pass rows of that batch, call hook.forget() if you left it out, or iterate the loader itself "
            "where every call passes rows=."
        )
    at = start + np.arange(len(asked)) - np.searchsorted(asked, asked, "left")
    where = np.empty(len(given), np.int64)
    where[by_row] = np.where(at < stop, order[np.minimum(at, len(order) - 1)], -1)
    return where


def _kept(batch: _Batch, rows: torch.Tensor, sampler: Any) -> np.ndarray | None:
    """The weights that the batch keeps, for some of its rows; None where they are not all of it, or not all of the plan."""
    if batch.weights is None or batch.weights[0] is not sampler:
        try:
            batch.weights = sampler, sampler.loss_weights(batch.rows.cpu())
        except RowError:  # those that are asked for may yet be of the plan
            return None
    weights = batch.weights[1]
    if rows is batch.rows:
        return weights
    known, asked = to_host(batch.rows), to_host(rows)
    order = np.argsort(known)
    at = order[np.minimum(np.searchsorted(known, asked, sorter=order), len(known) - 1)]
    return weights[at] if np.array_equal(known[at], asked) else None


_NO_ROWS = (
    "no rows for this loss call: either no batch of hook.watch(loader) came before it, or its rows were given out by "
    "hook.claim or used by an earlier call. Pass rows= (micro-batches, several losses a step), or compute under "
    "torch.no_grad() to record nothing."
)
