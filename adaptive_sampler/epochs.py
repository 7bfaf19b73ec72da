"""An epoch's rows by position: one plan in one order, or a new plan for each block of batches."""

from collections.abc import Callable
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.order import Order
from adaptive_sampler.plan import Plan


class PlannedEpoch:
    """One plan, shuffled by (seed, epoch), truncated or cycled to `length`."""

    def __init__(self, plan: Plan, number: int, *, seed: int, shuffle: bool, length: int, start: int = 0) -> None:
        self.plan, self.number, self.start, self._length = plan, number, start, length
        key = seeds.key(seed, number, seeds.Purpose.ORDER) if shuffle else None
        self.order = Order(plan.n, plan.kept, plan.counts, key=key)

    def __len__(self) -> int:
        return self._length

    def take(self, start: int, stop: int) -> np.ndarray:
        """The rows at these positions."""
        total = len(self.order)
        if stop <= total:
            return self.order.take(start, stop)
        pieces = []
        while start < stop:
            piece = self.order.take(start % total, min(start % total + stop - start, total))
            pieces.append(piece)
            start += len(piece)
        return np.concatenate(pieces)

    def reach(self, position: int) -> int:
        """How far rows can be taken from `position` on."""
        return self._length

    def state(self, position: int) -> dict[str, Any]:
        """The plan; its order and the position say the rest."""
        return {"plan": self.plan.id}


class BlockedEpoch:
    """A new plan for each block of rows, made when the block's first row is drawn.

    The blocks follow one shuffle of all rows and take from it what their plan keeps, so that no row comes twice before
    every other that is kept came once. A second lap over the shuffle takes the rows that are repeated, and so on; where
    the laps of a plan end, a new shuffle begins. A block begins at a mark, (round, lap, cursor), that its state keeps.
    """

    def __init__(
        self,
        make_plan: Callable[[], Plan],
        number: int,
        *,
        n: int,
        seed: int,
        shuffle: bool,
        length: int,
        block: int,
        start: int = 0,
        mark: tuple[int, int, int] = (0, 0, 0),
        plan: Plan | None = None,
    ) -> None:
        """`plan`, `mark`: of the block that `start` lies in, where a state is resumed."""
        self.number, self.start, self.block = number, start, block
        self._make_plan, self._n, self._seed, self._shuffle, self._length = make_plan, n, seed, shuffle, length
        self._mark, self._given = mark, plan
        self._records: dict[int, tuple[str, tuple[int, int, int]]] = {}  # block -> its plan and mark
        self._rows = np.empty(0, np.int64)
        self._current = -1
        self._order: tuple[tuple[int, int], Order] | None = None

    def __len__(self) -> int:
        return self._length

    def reach(self, position: int) -> int:
        """How far rows can be taken from `position` on without planning ahead."""
        return min((position // self.block + 1) * self.block, self._length)

    def take(self, start: int, stop: int) -> np.ndarray:
        """The rows at these positions, which lie in one block: this one or the next."""
        index = start // self.block
        if index != self._current:
            plan = self._given or self._make_plan()
            self._given = None
            self._records[index] = plan.id, self._mark
            self._rows = self._collect(plan, self.reach(start) - index * self.block)
            self._current = index
        first = index * self.block
        return self._rows[start - first : stop - first]

    def state(self, position: int) -> dict[str, Any]:
        """The plan and mark of the block that `position` lies in; no plan where it is not begun."""
        plan, mark = self._records.get(position // self.block, (None, self._mark))
        return {"plan": plan, "block": self.block, "mark": list(mark)}

    def _collect(self, plan: Plan, need: int) -> np.ndarray:
        """The next `need` rows that the plan keeps."""
        taken = []
        while need:
            number, lap, cursor = self._mark
            rows = self._lap(number, lap).take(cursor, cursor + max(2 * need, 1 << 10))
            if not len(rows):
                more = plan.counts is not None and int(plan.counts.max()) > lap + 1
                self._mark = (number, lap + 1, 0) if more else (number + 1, 0, 0)
                continue
            hits = np.flatnonzero(plan.repeats_of(rows) > lap)[:need]
            self._mark = number, lap, cursor + (int(hits[-1]) + 1 if len(hits) == need else len(rows))
            taken.append(rows[hits])
            need -= len(hits)
        return np.concatenate(taken)

    def _lap(self, number: int, lap: int) -> Order:
        """The shuffle of all rows that a lap follows."""
        if self._order is None or self._order[0] != (number, lap):
            key = seeds.key(self._seed, self.number, seeds.Purpose.ORDER, number, lap) if self._shuffle else None
            self._order = (number, lap), Order(self._n, None, key=key)
        return self._order[1]
