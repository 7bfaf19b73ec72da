"""Columns that share records: each reads and folds as if it were alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.kernels import fold as kernels
from adaptive_sampler.memory.records import LINE, WORD, Records
from adaptive_sampler.scoring import EMA, Deviation, Forgetting, Last, Loss, Max, Mean, Score, Transitions
from adaptive_sampler.scoring.base import Column
from tests.snapshots import snapshot

N = 6
FOLDS = {
    "last": Last(),
    "mean": Mean(),
    "ema": EMA(0.3),
    "ema_long": EMA(0.99),
    "maximum": Max(),
    "deviation": Deviation(),
    "transitions": Transitions("presentations"),
}
VALUES = st.lists(st.sampled_from([-2.5, -0.0, 0.0, 0.1, 1.0, 3e4]), min_size=len(FOLDS), max_size=len(FOLDS))
ANY = st.sampled_from([0.0, -3.0, 3e38, 1e-45, np.nan, np.inf, -np.inf])
# Batches with rows that come twice and thrice, which must fold in the order given.
BATCHES = st.lists(st.lists(st.tuples(st.integers(0, N - 1), VALUES), max_size=6), max_size=5)
SPECS = st.lists(
    st.tuples(st.sampled_from(["uint8", "bool", "int16", "uint32", "float32", "float64", "int64"]), st.integers(0, 1)),
    min_size=1,
    max_size=12,
)


def score(name: str) -> Score:
    return Score(name, lambda loss: loss, FOLDS[name])


@given(batches=BATCHES, names=st.permutations(sorted(FOLDS)))
def test_scores_that_share_records_are_those_that_are_kept_alone_to_the_last_bit(batches, names) -> None:
    together = ScoreStore.create(None, N, [score(name) for name in names])
    alone = {name: ScoreStore.create(None, N, [score(name)]) for name in names}
    for epoch, batch in enumerate(batches):
        rows = np.array([row for row, _ in batch], np.int64)
        values = {name: np.array([v[i] for _, v in batch], np.float32) for i, name in enumerate(FOLDS)}
        together.session.fold_values(rows, values, epoch=epoch)
        for name, store in alone.items():
            store.fold(name, rows, values[name], epoch=epoch)
    for name, store in alone.items():
        assert snapshot(together)[name] == snapshot(store)[name]


@given(batches=BATCHES)
def test_the_kernel_folds_a_score_as_its_fold_says(batches) -> None:
    store = ScoreStore.create(None, N, [score(name) for name in FOLDS])
    states = {
        name: {column: np.full(N, spec.fill, spec.dtype) for column, spec in fold.columns.items()}
        for name, fold in FOLDS.items()
    }
    seen: list[int] = []
    for batch in batches:
        rows = np.array([row for row, _ in batch], np.int64)
        before = np.array([[*seen, *rows[:i]].count(row) for i, row in enumerate(rows)], np.uint32)
        values = {name: np.array([v[i] for _, v in batch], np.float32) for i, name in enumerate(FOLDS)}
        store.session.fold_values(rows, values)
        for name, fold in FOLDS.items():
            fold.fold(states[name], rows, values[name], before)
        seen += rows.tolist()
    for name in FOLDS:
        for column, expected in states[name].items():
            assert store.session.table[name].state[column].tobytes() == expected.tobytes(), (name, column)


@given(rows=st.lists(st.integers(-2, N + 1)))
def test_the_first_row_outside_is_found(rows) -> None:
    outside = [i for i, row in enumerate(rows) if not 0 <= row < N]
    values = np.zeros((2, len(rows)), np.float32)
    assert kernels.first_bad(np.array(rows, np.int64), N, values) == (outside or [-1])[0]


@given(batch=st.lists(st.tuples(ANY, ANY)))
def test_the_first_value_that_is_not_finite_is_found_line_by_line(batch) -> None:
    values = np.array(batch, np.float32).reshape(-1, 2).T.copy()
    bad = np.flatnonzero(~np.isfinite(values.reshape(-1)))
    expected = len(batch) + bad[0] if len(bad) else -1
    assert kernels.first_bad(np.zeros(len(batch), np.int64), N, values) == expected


@pytest.mark.parametrize("size", [kernels.BLOCK - 1, kernels.BLOCK, kernels.BLOCK + 1, 3 * kernels.BLOCK])
def test_a_row_that_comes_in_every_block_of_a_batch_counts_each_time(size) -> None:
    store = ScoreStore.create(None, N, [Loss(fold=Mean())])
    store.fold("loss", np.zeros(size, np.int64), np.arange(size))
    assert (store.count("loss")[0], store["loss"][0]) == (size, pytest.approx((size - 1) / 2))
    assert store.observed("loss") == 1


@given(spec=SPECS, n=st.integers(1, 600))
def test_columns_of_one_record_begin_filled_and_do_not_touch(spec, n) -> None:
    columns = {("s", str(i)): Column(*column) for i, column in enumerate(spec)}
    records = Records(columns, n)
    for key, column in columns.items():
        assert records.columns[key].tolist() == [column.fill] * n
        assert records.at[key] * WORD == records.columns[key].ctypes.data - records.octets.ctypes.data
    for key, column in columns.items():
        records.columns[key][:] = 1 - column.fill
    for key, column in columns.items():
        assert records.columns[key].tolist() == [1 - column.fill] * n


@pytest.mark.parametrize("words", range(1, 17))
def test_a_record_that_fits_a_cache_line_lies_in_one_or_is_packed(words) -> None:
    records = Records({("s", str(i)): Column("float32", 0) for i in range(words)}, 8)
    width = records.octets.shape[1]
    assert records.octets.ctypes.data % LINE == 0
    assert LINE % width == 0 or width == words * WORD
    assert width <= words * WORD * 4 / 3


def test_a_lone_column_lies_apart_as_plans_read_it() -> None:
    store = ScoreStore.create(None, N, [Loss()])
    assert store["loss"].flags.c_contiguous
    assert store.count("loss").strides == store.last_seen("loss").strides == (8,)


def test_the_columns_of_several_scores_lie_side_by_side() -> None:
    store = ScoreStore.create(None, N, [Loss(), Forgetting()])
    assert store["loss"].strides == store.count("forgetting").strides
    assert store["loss"].strides[0] >= WORD * 8


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize(("start", "stop"), [(0, 10_000), (1, 4097), (4096, 8192), (9999, 10_000), (5, 5)])
def test_columns_apart_are_the_columns(columns, start, stop):
    records = Records({("score", f"c{i}"): Column("float32", i) for i in range(columns)}, 10_000)
    for number, column in enumerate(records.columns.values()):
        column[:] = np.arange(10_000) * (number + 1)
    apart = records.apart(start, stop)
    assert apart.keys() == records.columns.keys()
    for key, column in apart.items():
        assert column.flags.c_contiguous
        np.testing.assert_array_equal(column, records.columns[key][start:stop])
