"""Tables in partitions, and the same lines as scores in memory, whose plan is what the table's plan must be."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels.identity import KeyIdentity, RowIdentity, key_hashes
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.plan import MadeFrom
from adaptive_sampler.tables import plan_table

SCORES = st.sampled_from([np.nan, 0.0, -0.0, 1.0, 1.5, 2.0, -3.0, 1e-40, -np.inf, np.inf]) | st.floats(width=32)
WEIGHTS = st.sampled_from([np.nan, 0.0, -0.0, 1.0, 1.5, 2.0, 1e-30, 1e30]) | st.floats(0, 100, width=32)
TYPES = ["float32", "float64", "nulls", "float16", "integers"]


class HeldScores:
    """What a policy may read of a store, held in arrays: scores may be infinite, as those that folds derive."""

    made_from = MadeFrom(0, 0)

    def __init__(self, scores: dict[str, np.ndarray], keys: list[str] | None, columns: dict[str, np.ndarray]) -> None:
        self._scores, self.columns = scores, columns
        self._n = len(next(iter(scores.values())))
        self.identity: Any = RowIdentity(self._n)
        if keys is not None:
            text, ends = KeyMap.of(keys).arrays().values()
            self.identity = KeyIdentity(key_hashes(text, ends), text, ends)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, name: str) -> np.ndarray:
        return self._scores[name]

    def observed(self, name: str) -> int:
        return int(np.count_nonzero(~np.isnan(self._scores[name])))

    def last_seen(self, name: str) -> np.ndarray:
        raise AssertionError("no policy over a table goes by age")


class TableCase(NamedTuple):
    """The same lines twice: `partitions`, whose column "id" names them, and `store`, whose row i is `names[i]`."""

    partitions: list[Any]
    store: HeldScores
    names: list[Any]


@st.composite
def cases(draw: Any, scores: Any = SCORES, most: int = 60) -> TableCase:
    n = draw(st.integers(1, most))
    kind = draw(st.sampled_from(TYPES))
    values = np.array(draw(st.lists(scores, min_size=n, max_size=n)), np.float32)
    column, values = typed(values, kind)
    other = np.array(draw(st.lists(WEIGHTS, min_size=n, max_size=n)), np.float32)
    groups = np.array(draw(st.lists(st.sampled_from("abcd"), min_size=n, max_size=n)))
    text = draw(st.booleans())
    names = [f"k{i * 7919}" for i in range(n)] if text else [*range(n)]
    order = np.array(draw(st.permutations(range(n))))
    encoded = pa.array(groups).dictionary_encode() if draw(st.booleans()) else pa.array(groups)
    ids = pa.array(names).dictionary_encode() if text and draw(st.booleans()) else pa.array(names)
    whole = pa.table({"id": ids, "loss": column, "other": other, "group": encoded}).take(pa.array(order))
    borders = sorted(draw(st.lists(st.integers(0, n), max_size=6)))
    store = HeldScores({"loss": values, "other": other}, names if text else None, {"group": groups})
    return TableCase(cut(whole, borders), store, names)


def typed(values: np.ndarray, kind: str) -> tuple[Any, np.ndarray]:
    """A column of an Arrow type, and the scores that it stands for."""
    if kind == "nulls":
        return pa.array(values, mask=np.isnan(values)), values
    if kind == "float16":
        with np.errstate(over="ignore"):
            return pa.array(values.astype(np.float16)), values.astype(np.float16).astype(np.float32)
    if kind == "integers":
        whole = np.nan_to_num(values, posinf=9, neginf=-9).clip(-99, 99).astype(np.int16)
        return pa.array(whole, mask=np.isnan(values)), np.where(np.isnan(values), values, whole).astype(np.float32)
    return pa.array(values.astype(kind)), values


def cut(table: Any, borders: list[int]) -> list[Any]:
    """The table in partitions that end at these lines; some may be empty."""
    borders = [0, *borders, len(table)]
    return [table.slice(low, high - low) for low, high in itertools.pairwise(borders)]


def visits_of(plan: Any) -> dict[Any, tuple[int, float]]:
    """Name -> (repeats, weight), of all partitions; it asserts that no name comes twice."""
    rows = [row for number in range(len(plan.partitions)) for row in plan.rows(number).to_pylist()]
    found = {row["key"]: (row["repeats"], row["weight"]) for row in rows}
    assert len(found) == len(rows) == plan.num_rows
    assert sum(row["repeats"] for row in rows) == plan.num_samples
    return found


def held_visits(case: TableCase, policy: Any, **at: int) -> dict[Any, tuple[int, float]] | None:
    """The same of the plan in memory; None if there is none."""
    try:
        plan = policy.plan(case.store, **at)
    except InvalidValue:
        return None
    rows = plan.rows
    each = zip(rows, plan.repeats_of(rows).tolist(), plan.loss_weights_of(rows).tolist(), strict=True)
    return {case.names[row]: (repeats, weight) for row, repeats, weight in each}


def check(case: TableCase, policy: Any, *, epoch: int = 0, seed: int = 0) -> None:
    """The plan of the table visits what the plan in memory visits, or both are refused."""
    wanted = held_visits(case, policy, epoch=epoch, seed=seed)
    try:
        plan = plan_table(case.partitions, policy, key="id", epoch=epoch, seed=seed)
    except InvalidValue:
        assert wanted is None
    else:
        assert visits_of(plan) == wanted
