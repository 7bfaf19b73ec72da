"""The bands between which a score lies over runs: percentiles over those that observed a row."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.ranking import Bands, bands, runs
from adaptive_sampler.scoring import Forgetting, Loss

CELL = st.one_of(st.none(), st.floats(-100, 100, width=32))
MATRIX = st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=2, max_size=6))


def stored(scores: list[list[float | None]]) -> ScoreStore:
    """A store with these scores, (runs, n); None: never observed in that run."""
    store = ScoreStore.create(None, len(scores[0]), [Loss()], runs="kept")
    for run, values in enumerate(scores):
        store.begin_run(f"seed {run}")
        rows = [row for row, value in enumerate(values) if value is not None]
        store.fold("loss", rows, [values[row] for row in rows])
    return store


@given(MATRIX, st.floats(0, 49), st.floats(50, 100))
def test_bands_are_numpys_percentiles_of_the_runs_that_observed_a_row(scores, low, high):
    store = stored(scores)
    if len(runs(store, "loss")) < 2:
        return
    found = bands(store, "loss", low=low, high=high)
    matrix = np.array(scores, np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows that are all NaN
        expected = np.nanpercentile(matrix, [low, high], axis=0)
    expected[:, np.count_nonzero(~np.isnan(matrix), axis=0) < 2] = np.nan
    np.testing.assert_allclose([found.low, found.high], expected.astype(np.float32), rtol=1e-6, atol=1e-5)


def test_they_are_by_default_one_standard_deviation_of_a_normal_distribution_apart():
    found = bands(stored([[float(value)] for value in range(101)]), "loss")
    assert (found.low.tolist(), found.high.tolist()) == ([16], [84])
    assert isinstance(found, Bands)
    assert found.low.dtype == found.high.dtype == np.float32


def test_a_row_that_only_one_run_observed_has_no_band():
    found = bands(stored([[1.0, 2.0], [None, 3.0]]), "loss", low=0, high=100)
    np.testing.assert_array_equal(found.low, np.float32([np.nan, 2]))
    np.testing.assert_array_equal(found.high, np.float32([np.nan, 3]))


@pytest.mark.parametrize(("never", "low", "high"), [(1, 0, np.inf), (2, np.inf, np.inf)])
def test_samples_that_were_never_learned_in_a_run_have_bands_up_to_infinity(never, low, high):
    """Forgetting is inf there."""
    store = ScoreStore.create(None, 1, [Forgetting()], runs="kept")
    for run in range(2):
        store.begin_run(f"seed {run}")
        store.fold("forgetting", [0], [1.0 if run < never else 0.0])
    found = bands(store, "forgetting", low=0)
    assert (found.low.tolist(), found.high.tolist()) == ([low], [high])


def test_bands_of_many_rows_are_computed_a_part_at_a_time(monkeypatch):
    store = stored([[float(row * run) for row in range(10)] for run in (1, 2, 4)])
    whole = bands(store, "loss")
    monkeypatch.setattr("adaptive_sampler.ranking._AT_ONCE", 3)
    np.testing.assert_array_equal(bands(store, "loss"), whole)


@pytest.mark.parametrize("share", [-1, 100.5, np.nan, "16", True, None])
@pytest.mark.parametrize("which", ["low", "high"])
def test_what_is_no_percentile_is_refused(share, which):
    with pytest.raises(InvalidValue, match=f"{which}={share!r}: a percentile, from 0 to 100"):
        bands(stored([[1.0], [2.0]]), "loss", **{which: share})


def test_the_lower_percentile_comes_first():
    with pytest.raises(InvalidValue, match="low=84, high=16: the lower percentile comes first"):
        bands(stored([[1.0], [2.0]]), "loss", low=84, high=16)


def test_one_run_has_no_bands():
    store = stored([[1.0]])
    with pytest.raises(InvalidValue, match=r"1 runs have observed 'loss': bands need two. store.begin_run\(name\)"):
        bands(store, "loss")
    store.begin_run("another")
    store.fold("loss", [0], [3.0])
    assert bands(store, "loss", high=100).high.tolist() == [3]
