"""How a row's values over time become one number: each fold against its twin, value by value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EMA, Deviation, Last, Loss, Max, Mean, Transitions, describe, restore
from tests import references

N = 5
VALUE = st.floats(-1e3, 1e3, width=32)
# Batches with rows that come twice and thrice, which must fold in the order given.
BATCHES = st.lists(st.lists(st.tuples(st.integers(0, N - 1), VALUE), max_size=6), max_size=5)
FOLDS = {
    "last": (Last(), references.last),
    "mean": (Mean(), references.mean),
    "ema": (EMA(0.9), lambda values: references.ema(values, 0.9)),
    "ema of a short memory": (EMA(0.25), lambda values: references.ema(values, 0.25)),
    "ema without memory": (EMA(0.0), references.last),
    "max": (Max(), max),
    "deviation": (Deviation(), references.deviation),
}


def folded(fold, batches):
    """A store into which the batches, one an epoch, were folded, and each row's values in order."""
    store, values = ScoreStore.create(None, N, [Loss(fold=fold)]), [[] for _ in range(N)]
    for epoch, batch in enumerate(batches):
        store.fold("loss", [row for row, _ in batch], [value for _, value in batch], epoch=epoch)
        for row, value in batch:
            values[row].append(value)
    return store, values


@pytest.mark.parametrize("name", sorted(FOLDS))
@given(batches=BATCHES)
def test_a_fold_equals_its_twin_over_any_batches_with_duplicates(name, batches):
    fold, twin = FOLDS[name]
    store, values = folded(fold, batches)
    expected = [twin(seen) if seen else np.nan for seen in values]
    np.testing.assert_allclose(store["loss"], expected, rtol=1e-5, atol=2e-3)


@given(batches=BATCHES)
def test_every_fold_counts_observations_and_remembers_the_last_epoch(batches):
    store, values = folded(Mean(), batches)
    last = [max([epoch for epoch, batch in enumerate(batches) if row in dict(batch)], default=-1) for row in range(N)]
    assert store.count("loss").tolist() == [len(seen) for seen in values]
    assert store.last_seen("loss").tolist() == last
    assert store.observed("loss") == sum(map(bool, values))


@pytest.mark.parametrize("name", sorted(FOLDS))
@given(batch=st.lists(st.tuples(st.integers(0, N - 1), VALUE), max_size=8))
def test_one_batch_equals_its_samples_one_at_a_time_to_the_last_bit(name, batch):
    fold, _ = FOLDS[name]
    whole, _ = folded(fold, [batch])
    single, _ = folded(fold, [[sample] for sample in batch])
    assert whole["loss"].tobytes() == single["loss"].tobytes()


@pytest.mark.parametrize("fold", [Last(), Mean(), EMA(), Max()])
def test_the_first_value_is_kept_as_it_is(fold):
    store, _ = folded(fold, [[(2, 0.1)]])
    assert store["loss"][2] == np.float32(0.1)


def test_the_deviation_of_one_value_is_zero():
    store, _ = folded(Deviation(), [[(0, 3.0)]])
    assert store["loss"][0] == 0


def test_the_deviation_is_that_of_the_population():
    store, _ = folded(Deviation(), [[(0, p)] for p in (0.2, 0.4, 0.9)])
    assert store["loss"][0] == pytest.approx(0.2943920, abs=1e-6)


def test_equal_values_have_no_deviation_however_many():
    store, _ = folded(Deviation(), [[(0, 0.1)] * 100])
    assert store["loss"][0] == 0


def test_a_mean_over_many_values_does_not_drift():
    store, _ = folded(Mean(), [[(0, 0.1)] * 10_000, [(0, 0.3)] * 10_000])
    assert store["loss"][0] == pytest.approx(0.2, rel=1e-4)


@pytest.mark.parametrize("decay", [1.0, 1, -0.1, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(InvalidValue, match=r"0 <= decay < 1"):
        EMA(decay)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"never_learned": "T"}, "never_learned='T': one of 'inf', 'presentations', 'zero'"),
        ({"runs": "max"}, "runs='max': one of 'sum', 'mean'"),
    ],
)
def test_an_unknown_convention_is_refused_with_those_that_there_are(arguments, words):
    with pytest.raises(InvalidValue, match=words):
        Transitions(**arguments)


@pytest.mark.parametrize("fold", [Last(), Mean(), EMA(0.5), Max(), Deviation(), Transitions("zero", "mean")])
def test_a_fold_is_restored_from_its_description(fold):
    assert restore(describe(fold)) == fold
