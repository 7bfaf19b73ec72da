"""A plan of a table as the policy of a store: keys, or row numbers, become the store's rows."""

import weakref
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from adaptive_sampler.errors import InvalidValue, RowError, StoreDamaged, UnknownName
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, check_choice
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.made import make
from adaptive_sampler.tables.planned.reading import PartitionedPlan, PlanPart, parts, plan_of


class _Visited(NamedTuple):
    """What a plan visits of a store. `of`: the store's keys, or its number of rows; the others are as in `selection.make`."""

    of: Any
    kept: np.ndarray
    counts: np.ndarray | None
    weights: np.ndarray | None


@dataclass(frozen=True, init=False, repr=False)
class Planned(Composable):
    """Visit what a plan of a table visits, as often and with the same loss weights; in every epoch the same.

    `source`: what `plan_table` returned, or the folder that its `write` made. Its lines are found in the store by their
    keys, or, if the table was planned by row numbers, by those. Rows of the store that the plan does not have are not visited.
    `missing`: what becomes of lines that the store does not have: "raise" an error that names the first one, or "skip" them,
    for a store that has a part of the table. Epoch and seed are those that the table was planned with.

    The policy is described by `plan_id`, so that a training goes on from its state wherever the folder lies then.
    """

    plan_id: str
    missing: Literal["raise", "skip"]

    def __init__(self, source: Any, *, missing: Literal["raise", "skip"] = "raise") -> None:
        check_choice("missing", missing, ("raise", "skip"))
        plan = plan_of(source)
        for name, value in (("plan_id", plan.id), ("missing", missing), ("_source", plan), ("_found", None)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"Planned({self.plan_id}, missing={self.missing!r})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_found": None}

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """The rows of the store that the plan's lines name.

        Raises `UnknownName` for a key, or `RowError` for a row number, that the store does not have, and with
        `missing="skip"` `InvalidValue` if it has none of them; `StoreDamaged` for a plan that is not as it was written.
        """
        found = self._visited(store)
        return make(store, self, epoch, seed, kept=found.kept, counts=found.counts, weights=found.weights)

    def _visited(self, store: Scores) -> _Visited:
        """What the plan visits of the store. It is found once for a store: a sampler asks for every epoch."""
        keys, n = cast(Any, store).session.keys, len(store)
        last: _Visited | None = self.__dict__["_found"]
        if last is not None and (last.of == n if keys is None else last.of() is keys):
            return last
        found = _find(self.__dict__["_source"], keys, n, self.missing == "skip")
        found = found._replace(of=n if keys is None else weakref.ref(keys))
        object.__setattr__(self, "_found", found)
        return found


def _find(plan: PartitionedPlan, keys: KeyMap | None, n: int, skip: bool) -> _Visited:
    repeats, weights, lines, first = np.zeros(n, np.uint32), None, 0, ""
    for part in parts(plan):
        rows = _rows(part, keys, n)
        inside = rows >= 0
        if not inside.all():
            name = _name(part, int(np.argmin(inside)))
            if not skip:
                raise (UnknownName if isinstance(part.keys, KeyMap) else RowError)(
                    f"{name} of plan {plan.id} is not in the store, which has {n} rows. Is it the plan of another dataset? For a "
                    'store that has a part of the table: Planned(..., missing="skip").'
                )
            first, rows = first or name, rows[inside]
        repeats[rows], lines = part.repeats[inside], lines + len(rows)
        if weights is None and (part.weights != 1).any():
            weights = np.ones(n, np.float32)
        if weights is not None:
            weights[rows] = part.weights[inside]
    if not lines:
        raise InvalidValue(
            f"no line of plan {plan.id} is in the store{first and f', such as {first}'}: it is the plan of another dataset. Pass "
            "the plan of this one."
        )
    visited = np.flatnonzero(repeats)
    if len(visited) != lines:
        raise StoreDamaged(f"{_twice(plan, keys, n)} comes twice in plan {plan.id}. Write the plan again.")
    once = len(visited) and int(repeats.max()) == 1
    kept = np.packbits(repeats > 0, bitorder="little")
    return _Visited(None, kept, None if once else repeats[visited], None if weights is None else weights[visited])


def _rows(part: PlanPart, keys: KeyMap | None, n: int) -> np.ndarray:
    """The store's row of each line, (lines,) int64; −1 where it has none."""
    if isinstance(part.keys, KeyMap):
        if keys is None:
            raise InvalidValue(
                "the plan names samples by keys, and the store has none: its rows are positions. Make it with create(..., "
                'keys=...), or plan a table with row numbers: plan_table(..., key="row").'
            )
        return keys.find(part.keys)
    return np.where(part.keys < n, part.keys, -1)


def _name(part: PlanPart, line: int) -> str:
    """A line as messages call it."""
    return f"key {part.keys.key(line)!r}" if isinstance(part.keys, KeyMap) else f"row {part.keys[line]}"


def _twice(plan: PartitionedPlan, keys: KeyMap | None, n: int) -> str:
    """The first line whose row came before, in words."""
    seen = np.zeros(n, np.bool_)
    for part in parts(plan):
        rows = _rows(part, keys, n)
        again = seen[rows] & (rows >= 0)
        firsts = np.unique(rows, return_index=True)[1]
        later = np.setdiff1d(np.flatnonzero(rows >= 0), firsts)  # in the same part
        again[later] = True
        if again.any():
            return _name(part, int(np.argmax(again)))
        seen[rows[rows >= 0]] = True
    raise AssertionError("no row comes twice")
