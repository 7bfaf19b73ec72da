"""Finds the rows that a loss call belongs to, and which of them no earlier call covered; refuses the call if in doubt."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue, RowError
from adaptive_sampler.torch.data.rows import checked_rows

# Private functions of torch. If a version lacks them, a recomputation during backward counts like any other call.
_graph_task = getattr(torch._C, "_current_graph_task_id", lambda: -1)
_node = getattr(torch._C, "_current_autograd_node", lambda: None)
_next_node = getattr(getattr(torch._C, "_autograd", None), "_get_sequence_nr", lambda: 0)

_REMEMBERED = 64  # how many earlier batches are remembered, because their backward pass may still come

Fresh = torch.Tensor | bool  # the samples of a call that no earlier call covered: (batch,) bool; True: all, False: none


@dataclass(slots=True, eq=False)
class _Batch:
    """A batch that a watched loader delivered, and which of its positions are covered."""

    rows: torch.Tensor  # (batch,) int64
    owner: object  # the iterator that delivered it
    since: int  # autograd numbers its nodes: those of this batch's calls have this number or a higher one
    plan: Any = None  # by which these very rows were drawn; None if that was not seen
    left: np.ndarray | bool = True  # (batch,) bool: positions that no call has covered; True: all, False: none
    weights: tuple[Any, np.ndarray | None] | None = (
        None  # the sampler, and the (batch,) weights of its plan when the batch was first called; None if that weighs nothing
    )
    given_out: bool = False  # whether `claim` gave the rows: a call without rows= might be a second loss of the batch


class PendingRows:
    """Keeps the rows of the batch that a watched loader delivered last; each position of the batch counts once."""

    def __init__(self) -> None:
        self._batch: _Batch | None = None
        self._unclaimed = 0  # batches delivered since the last loss call
        self._taken: _Batch | None = None  # the batch of the last loss call
        self._earlier: deque[_Batch] = deque(maxlen=_REMEMBERED)
        self._iterators: list[object] = []  # iterators that may still deliver: requested, and not ended
        self._watched = False  # whether a loader was ever watched
        # The iterators that were open when a call was refused as in doubt. Their batches stay in doubt, because the
        # caller may still hold a batch that another of them delivered.
        self._doubted: list[object] = []

    def expect(self, owner: object) -> None:
        """Note that an iterator, `owner`, was requested."""
        self._iterators.append(owner)
        self._watched = True

    def put(self, rows: torch.Tensor, owner: object, plan: Any = None) -> None:
        """Note that `owner` delivered a batch with these `rows`, (batch,) int64; `plan`: by which they were drawn, if known."""
        if self._batch is not None:
            self._earlier.append(self._batch)
        self._batch = _Batch(rows, owner, _next_node(), plan)
        self._unclaimed += 1

    def forget(self, owner: object = None) -> None:
        """Drop the pending batch, because the loop skips it or (with `owner`) because that iterator has ended."""
        if owner is None:
            self._doubted.clear()
        else:
            self._iterators = [other for other in self._iterators if other is not owner]
            self._doubted = [other for other in self._doubted if other is not owner]
        if self._batch is not None and owner in (None, self._batch.owner):
            self._batch.left = self._batch.left if owner is not None else False
            self._earlier.append(self._batch)  # its backward pass may still come
            self._settle()

    def _settle(self) -> None:
        """Note that no batch is pending."""
        self._batch, self._unclaimed = None, 0

    @property
    def size(self) -> int | None:
        """How many rows the batch has that a call without rows= would take; None if there is none."""
        batch = self._of_backward() if _graph_task() != -1 else self._batch
        return None if batch is None else len(batch.rows)

    def claim(self, length: int) -> torch.Tensor:
        """The rows of the pending batch, (length,) int64, for a loss that is computed elsewhere; each batch gives them once.

        Raises `InvalidValue` if they were used already, or if the caller might hold another batch.
        """
        batch = self._sure(self._batch, length)
        if batch.left is not True:
            raise InvalidValue(_USED)
        batch.given_out, self._unclaimed = True, 0
        return batch.rows

    def take(self, given: Any, length: int, *, count: bool = True) -> tuple[torch.Tensor, Fresh]:
        """The rows of a loss call on `length` samples, (length,) int64, and which of them to record.

        Recorded are the samples that no earlier call covered. `given`: the rows that the caller passes, None for those
        of the watched batch. `count=False`: the call is no presentation and records nothing. Raises `InvalidValue` if
        it is in doubt which rows these are, or if `given` are not in the watched batch.
        """
        self._taken = batch = self._of_backward() if _graph_task() != -1 else self._batch
        if given is None:
            batch = self._sure(batch, length)
            if batch is self._batch and count:
                self._unclaimed = 0
            return batch.rows, count and self._count(batch, None)
        rows = checked_rows(given, length)
        if batch is None or not count:
            return rows, count  # without a watched batch, every call counts
        # `_unclaimed` is kept: a later call without rows= may come from a caller that lags behind, and is still
        # checked.
        return rows, self._count(batch, _positions(batch, rows))

    def weights(self, rows: torch.Tensor, sampler: Any, *, watched: bool) -> np.ndarray | None:
        """The plan's loss weights of `rows`, (batch,) float32, None if it weighs nothing; `rows` are those that the last call took.

        If the call belongs to a `watched` batch, the plan is the one that held when the batch was first called. A
        checkpointed part is computed again during backward, and the sampler may have gone on to the next epoch's plan
        by then.
        """
        batch = self._taken
        if watched and batch is not None and _is_weighed(batch, sampler):
            kept = batch.weights[1] if batch.weights is not None else None
            if rows is batch.rows:
                return kept
            at = _places(batch, rows)
            if at is not None:
                return None if kept is None else kept[at]
        weights: np.ndarray | None = sampler.weights_or_none(rows.cpu())
        return weights

    def _count(self, batch: _Batch, where: np.ndarray | None) -> Fresh:
        """Which of the positions `where` (None: all) no call has covered yet; marks them as covered.

        A position of −1 is never among them.
        """
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
        """The `batch` of a call that names no rows. Raises `InvalidValue` if in doubt, or if its length is not `length`."""
        if batch is None or batch.given_out:
            raise InvalidValue(_USED if self._watched else _NEVER_WATCHED)
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
        """Whether the caller may still hold an earlier batch than the one delivered last."""
        if _graph_task() == -1:
            return self._unclaimed > 1
        # One backward may compute parts of several batches again. It is in doubt only if two batches were delivered
        # with no autograd node made in between: then nothing was computed from the first of them.
        return any(other.left is True and other.since == batch.since for other in self._earlier)

    def _of_backward(self) -> _Batch | None:
        """The batch whose backward pass is running: during backward, a checkpointed part of the model is computed again.

        The next batch may have been delivered by then. Autograd numbers a node when it makes it, so the part belongs to
        the last batch that was delivered before its node was made. None if that batch is not remembered.
        """
        node = _node()
        made = getattr(node, "_sequence_nr", lambda: 0)() if node is not None else 0
        batches = (self._batch, *reversed(self._earlier))
        return next((batch for batch in batches if batch is not None and batch.since <= made), None)


def _positions(batch: _Batch, rows: torch.Tensor) -> np.ndarray | None:
    """(m,) int64: the position in the batch that each of `rows` (m,) stands for; None for all of the batch, in order.

    If the batch has a row several times, the positions that no call has covered come first. −1 stands for a row that
    `rows` has more often than the batch. Raises `InvalidValue` for a row that is not in the batch.
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


def _is_weighed(batch: _Batch, sampler: Any) -> bool:
    """Whether the weights of the plan are kept with the batch, as from its first call on; no if it has a row outside the plan."""
    if batch.weights is None or batch.weights[0] is not sampler:
        plan = batch.plan  # if it is still the sampler's, no row is outside
        if plan is not None and not plan.weighted and plan is sampler.fixed_plan:
            batch.weights = sampler, None
            return True
        try:
            batch.weights = sampler, sampler.weights_or_none(batch.rows.cpu())
        except RowError:  # some row of the batch is not in the plan, but perhaps none of those asked for
            return False
    return True


def _places(batch: _Batch, rows: torch.Tensor) -> np.ndarray | None:
    """(m,) int64: a position of each of `rows` (m,) in the batch; None if one of them is not in it."""
    known, asked = to_host(batch.rows), to_host(rows)
    order = np.argsort(known)
    at: np.ndarray = order[np.minimum(np.searchsorted(known, asked, sorter=order), len(known) - 1)]
    return at if np.array_equal(known[at], asked) else None


_NEVER_WATCHED = (
    "no rows for this loss call: watch was forgotten. Iterate `for inputs, labels in hook.watch(loader)`, which takes the rows "
    "off the batches, instead of the loader. Pass rows= where you take them off yourself: hook(input, target, rows=rows). Calls "
    "under torch.no_grad() need none."
)
_USED = (
    "no rows for this loss call: either no batch of hook.watch(loader) came before it, or its rows were given out by "
    "hook.claim or used by an earlier call. Pass rows= (micro-batches, several losses a step), or compute under "
    "torch.no_grad() to record nothing."
)
