"""Forgetting events under every convention of the literature, within one training run and over several."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Forgetting
from tests import references

CONVENTIONS = ["inf", "presentations", "zero"]
TABLE = {  # correctness at five presentations: events by inf, presentations, zero
    "00000": (math.inf, 5, 0),
    "11111": (0, 0, 0),
    "01010": (2, 2, 2),
    "00111": (0, 0, 0),
    "10000": (1, 1, 1),
    "10101": (2, 2, 2),
    "01100": (1, 1, 1),
}


def present(store, row, correct):
    """One presentation of a row, right or wrong, as logits and a label."""
    store.update([row], logits=np.array([[1.0, 0.0]]), labels=[0 if correct else 1])


def forgetting(**arguments):
    return ScoreStore.create(None, len(TABLE), [Forgetting(**arguments)])


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("sequence", TABLE)
def test_the_table_of_sequences(sequence, convention):
    store = forgetting(never_learned=convention)
    for bit in sequence:
        present(store, 0, bit == "1")
    assert store["forgetting"][0] == TABLE[sequence][CONVENTIONS.index(convention)]


def test_several_rows_at_once_have_the_values_of_toneva_in_the_order_of_toneva():
    store = forgetting(never_learned="presentations")
    for bits in zip(*TABLE, strict=True):
        store.update(range(7), logits=np.tile([1.0, 0.0], (7, 1)), labels=[int(bit == "0") for bit in bits])
    scores = store["forgetting"]
    assert np.argsort(scores, kind="stable").tolist() == [1, 3, 4, 6, 2, 5, 0]
    assert np.sort(scores).tolist() == [0, 0, 1, 1, 2, 2, 5]


def test_never_learned_is_infinite_by_default_and_runs_are_summed():
    assert Forgetting().fold == Forgetting(never_learned="inf", runs="sum").fold


def test_a_row_never_presented_has_no_score():
    assert np.isnan(forgetting()["forgetting"]).all()


def test_a_row_twice_in_a_batch_is_presented_twice_in_that_order():
    store = forgetting()
    store.update([0, 0, 0], logits=np.tile([1.0, 0.0], (3, 1)), labels=[0, 1, 0])
    assert (store["forgetting"][0], store.count("forgetting")[0]) == (1, 3)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("runs", ["sum", "mean"])
@given(data=st.lists(st.lists(st.booleans(), max_size=5), min_size=1, max_size=4))
def test_several_runs_are_summed_or_averaged_over_those_that_presented_the_row(convention, runs, data):
    store = forgetting(never_learned=convention, runs=runs)
    for number, run in enumerate(data):
        store.begin_run(f"run {number}")
        for correct in run:
            present(store, 0, correct)
    values = [references.forgetting([not correct for correct in run], convention) for run in data if run]
    total = sum(values) if runs == "sum" else np.mean(values) if values else np.nan
    np.testing.assert_allclose(store["forgetting"][0], total if values else np.nan, rtol=1e-6)


def test_a_new_run_does_not_know_whether_the_last_one_ended_right():
    store = forgetting(never_learned="zero")
    present(store, 0, correct=True)
    store.begin_run("second")
    present(store, 0, correct=False)
    assert store["forgetting"][0] == 0


def test_what_one_run_learned_another_may_never_learn():
    store = forgetting()
    present(store, 0, correct=True)
    store.begin_run("second")
    present(store, 0, correct=False)
    assert store["forgetting"][0] == math.inf


def test_a_run_named_again_goes_on_as_if_nothing_had_been_called():
    store = forgetting()
    store.begin_run("seed 1")
    present(store, 0, correct=True)
    store.begin_run("seed 1")
    present(store, 0, correct=False)
    assert store["forgetting"][0] == 1


def test_beginning_a_run_leaves_the_scores_as_they_are():
    store = forgetting(never_learned="presentations", runs="mean")
    present(store, 0, correct=False)
    present(store, 1, correct=True)
    before = store["forgetting"].tobytes()
    store.begin_run("second")
    assert store["forgetting"].tobytes() == before


@pytest.mark.parametrize("stop", range(5))
def test_a_run_resumed_from_a_commit_counts_as_if_it_had_not_stopped(tmp_path, stop):
    sequence = [True, False, True, False, False]
    store = ScoreStore.create(tmp_path / "s", 1, [Forgetting(never_learned="presentations")])
    store.begin_run("the run")
    for correct in sequence[:stop]:
        present(store, 0, correct)
    store.commit()
    store.close()
    with ScoreStore.open(tmp_path / "s") as resumed:
        resumed.begin_run("the run")  # a resumed script calls it again
        for correct in sequence[stop:]:
            present(resumed, 0, correct)
        assert resumed["forgetting"].tolist() == [2]


def test_an_unknown_convention_is_refused_where_the_score_is_made():
    with pytest.raises(InvalidValue, match="never_learned='nan': one of 'inf', 'presentations', 'zero'"):
        Forgetting(never_learned="nan")
