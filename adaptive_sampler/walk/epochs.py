"""The rows of an epoch by position: from one plan in one order, or with a new plan for each block of batches."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.plan import Plan
from adaptive_sampler.walk.order import Order

AHEAD = 256  # blocks that a loader may be ahead of the one that it delivers; limits how long a state can grow


class PlannedEpoch:
    """An epoch of one plan, shuffled by (seed, `number`) if `shuffle`, and truncated or cycled to `length`.

    `number`: the epoch. `start`: the position at which the epoch is begun or resumed.
    """

    whole = True

    def __init__(self, plan: Plan, number: int, *, seed: int, shuffle: bool, length: int, start: int = 0) -> None:
        self.plan, self.number, self.start, self._length = plan, number, start, length
        key = seeds.key(seed, number, seeds.Purpose.ORDER) if shuffle else None
        self.order = Order(plan.n, plan.kept, plan.counts, key=key, kept=plan.num_rows)

    def __len__(self) -> int:
        return self._length

    def take(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """The rows at positions start, start + step, … below stop, int32, or int64 if n >= 2**31. Do not write to them."""
        total, pieces = len(self.order), []
        while start < stop:
            lap = start - start % total
            pieces.append(self.order.take(start - lap, min(stop - lap, total), step))
            start += len(pieces[-1]) * step
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [np.empty(0, np.int64)])

    def reach(self, position: int) -> int:
        """The position up to which rows can be taken from `position` on: the end of the epoch."""
        return self._length

    def state(self, position: int) -> dict[str, Any]:
        """What a state needs besides the plan and the position: nothing."""
        return {}


class BlockedEpoch:
    """An epoch with a new plan for each block of rows, made when the block's first row is drawn.

    The blocks follow a shuffle of all rows, one block after another, and take from it the rows that their plan keeps. So
    no row comes twice before every other kept row came once. At the end of the shuffle, a second lap, with a shuffle of
    its own, takes the rows that are visited twice or more, and so on. After the last lap of a plan a new round begins,
    again with a lap of all kept rows. A block begins at a mark, (round, lap, cursor), which a state keeps.

    A state also lists the plans of the blocks that were begun after its position, because a loader draws rows before it
    delivers them. The list grows when such a block begins (see `planner.Made`).
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
        """`make_plan(id)` gives the plan of that id, which was made before a resume; `make_plan(None)` makes a new plan.

        `number`, `start`: as for `PlannedEpoch`. `block`: rows of a block. From a state that is resumed: `mark`, where the
        block begins that `start` lies in; and `plans`, the ids for that block and later ones. The list is kept and grows.
        """
        self.number, self.start, self.block = number, start, block
        self._make_plan, self._n, self._seed, self._shuffle, self._length = make_plan, n, seed, shuffle, length
        self._mark = mark
        self._marks = {start // block: mark}  # number of a block -> its mark
        self._plans: defaultdict[int, list[str]] = defaultdict(
            list
        )  # number of a block -> the ids of its plan and of later blocks' plans
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
        """The position up to which rows can be taken from `position` on without another plan: the end of the block."""
        return min((position // self.block + 1) * self.block, self._length)

    def take(self, start: int, stop: int) -> np.ndarray:
        """The rows at positions `start` … `stop` − 1, which must lie in one block: the current one or the next."""
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
        """The mark of the block that `position` lies in, and the plans that were made for it and for later blocks."""
        index = position // self.block
        plans = self._plans[index]
        return {"plans": plans, "block": self.block, "mark": list(self._marks[index])}

    def _note(self, index: int, plan: str) -> None:
        """Add a block's plan to the list of this block and to the lists of up to `AHEAD` blocks before it."""
        for before in range(max(index - AHEAD, self.start // self.block), index + 1):
            self._plans[before].append(plan)

    def _collect(self, plan: Plan, need: int) -> np.ndarray:
        """The next `need` rows that the plan keeps, from the mark on, which moves past them."""
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
        """The shuffle of all rows that lap `lap` of round `number` follows."""
        if self._order is None or self._order[0] != (number, lap):
            key = seeds.key(self._seed, self.number, seeds.Purpose.ORDER, number, lap) if self._shuffle else None
            self._order = (number, lap), Order(self._n, None, key=key)
        return self._order[1]
