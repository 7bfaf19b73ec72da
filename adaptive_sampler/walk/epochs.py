"""An epoch's rows by position: one plan in one order, or a new plan for each block of batches."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.plan import Plan
from adaptive_sampler.walk.order import Order

AHEAD = 256  # blocks that a loader may have begun beyond the one it delivers; bounds what a kept state can grow to


class PlannedEpoch:
    """One plan, shuffled by (seed, epoch), truncated or cycled to `length`."""

    whole = True

    def __init__(self, plan: Plan, number: int, *, seed: int, shuffle: bool, length: int, start: int = 0) -> None:
        self.plan, self.number, self.start, self._length = plan, number, start, length
        key = seeds.key(seed, number, seeds.Purpose.ORDER) if shuffle else None
        self.order = Order(plan.n, plan.kept, plan.counts, key=key)

    def __len__(self) -> int:
        return self._length

    def take(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """The rows at these positions."""
        total, pieces = len(self.order), []
        while start < stop:
            lap = start - start % total
            pieces.append(self.order.take(start - lap, min(stop - lap, total), step))
            start += len(pieces[-1]) * step
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [np.empty(0, np.int64)])

    def reach(self, position: int) -> int:
        """How far rows can be taken from `position` on."""
        return self._length

    def state(self, position: int) -> dict[str, Any]:
        """Nothing more: the plan, its order and the position say it all."""
        return {}


class BlockedEpoch:
    """A new plan for each block of rows, made when the block's first row is drawn.

    The blocks follow one shuffle of all rows and take from it what their plan keeps, so that no row comes twice before
    every other that is kept came once. A second lap over the shuffle takes the rows that are repeated, and so on; where
    the laps of a plan end, a new shuffle begins. A block begins at a mark, (round, lap, cursor), that its state keeps.

    A state also names the plans of the blocks begun after its position, because a loader draws ahead of what it
    delivers: by a list that grows as they begin (see `planner.Made`).
    """

    whole = False

    def __init__(
        self,
        make_plan: Callable[[str | None], Plan],
        number: int,
        *,
        n: int,
        seed: int,
        shuffle: bool,
        length: int,
        block: int,
        start: int = 0,
        mark: tuple[int, int, int] = (0, 0, 0),
        plans: list[str] | None = None,
    ) -> None:
        """`make_plan` takes the id of a plan made before a resume, or None for a new one.

        `mark`, `plans`: of the block that `start` lies in, and those begun after it, where a state is resumed; the list
        is kept and grows.
        """
        self.number, self.start, self.block = number, start, block
        self._make_plan, self._n, self._seed, self._shuffle, self._length = make_plan, n, seed, shuffle, length
        self._mark = mark
        self._marks = {start // block: mark}  # block -> where it begins in the shuffle
        self._plans: defaultdict[int, list[str]] = defaultdict(
            list
        )  # block -> its plan, and those of blocks begun since
        first, known = start // block, [] if plans is None else plans
        self._plans[first] = known
        for index in range(1, len(known)):
            self._plans[first + index] = known[index:]
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
            made = self._plans[index]
            plan = self._make_plan(made[0] if made else None)
            if not made:
                self._note(index, plan.id)
            self._rows = self._collect(plan, self.reach(start) - index * self.block)
            self._current, self._marks[index + 1] = index, self._mark
        first = index * self.block
        return self._rows[start - first : stop - first]

    def state(self, position: int) -> dict[str, Any]:
        """The mark of the block that `position` lies in, and the plans made for it and for blocks after it."""
        index = position // self.block
        plans = self._plans[index]
        return {"plans": plans, "block": self.block, "mark": list(self._marks[index])}

    def _note(self, index: int, plan: str) -> None:
        """This block's plan, in the states of the blocks before it too."""
        for before in range(max(index - AHEAD, self.start // self.block), index + 1):
            self._plans[before].append(plan)

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
