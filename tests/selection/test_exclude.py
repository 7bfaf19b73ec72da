"""`Exclude` leaves out the ends of a ranking, and no row that was not observed, or not lately."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import Exclude, Window
from tests import references
from tests.selection.test_prune import EXAMPLE, SCORES, kept
from tests.stores import scored

LOW, HIGH = st.integers(1, 60), st.integers(1, 39)  # hundredths: of both ends, some rows are left


@pytest.mark.parametrize("ties", ["random", "row"])
@given(scores=SCORES, lowest=LOW, highest=HIGH)
def test_excluding_both_ends_keeps_the_window_between_them(ties, scores, lowest, highest):
    store, n = scored(np.nan_to_num(scores)), len(scores)
    assume(references.cut((100 - highest) / 100, n) > references.cut(lowest / 100, n))
    window = Window((100 - lowest - highest) / 100, lowest / 100, "loss", ties=ties)
    assert kept(Exclude("loss", lowest=lowest / 100, highest=highest / 100, ties=ties), store) == kept(window, store)


@given(scores=SCORES, lowest=LOW, highest=HIGH)
def test_excluding_each_end_is_excluding_both(scores, lowest, highest):
    store, n = scored(np.nan_to_num(scores)), len(scores)
    assume(references.cut((100 - highest) / 100, n) > references.cut(lowest / 100, n))
    each = Exclude("loss", lowest=lowest / 100) & Exclude("loss", highest=highest / 100)
    assert kept(each, store) == kept(Exclude("loss", lowest=lowest / 100, highest=highest / 100), store)


@pytest.mark.parametrize(
    ("ends", "rows"),
    # ascending: 1, 3, 0, 4, 2
    [
        ({"lowest": 1}, {0, 2, 3, 4}),
        ({"highest": 2}, {0, 1, 3}),
        ({"lowest": 0.2, "highest": 0.4}, {0, 3}),
        ({"lowest": 2, "highest": 0.2}, {0, 4}),
        ({"lowest": 0, "highest": 0.0}, {0, 1, 2, 3, 4}),
    ],
)
def test_the_worked_example_without_its_ends(ends, rows):
    assert kept(Exclude("loss", **ends), scored(EXAMPLE)) == rows


def test_rows_never_observed_are_not_left_out():
    scores = np.array([np.nan, 1.0, 2.0, np.nan, 3.0])
    assert kept(Exclude("loss", lowest=2), scored(scores)) == {0, 3, 4}
    assert kept(Exclude("loss", lowest=4), scored(scores)) == {0, 3}


def test_rows_with_old_scores_are_not_left_out():
    store = scored(np.arange(6.0), epochs=[0, 5, 5, 5, 5, 5])
    assert kept(Exclude("loss", lowest=2, max_age=3), store, epoch=6) == {0, 3, 4, 5}


def test_the_ends_are_those_of_each_class():
    assert kept(Exclude("loss", lowest=0.5, per_class=[0, 0, 1, 1]), scored([1.0, 2.0, 3.0, 4.0])) == {1, 3}


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ({}, r"leaves out nothing: pass lowest= or highest="),
        ({"lowest": 0.6, "highest": 0.4}, "leaves out every row"),
        ({"lowest": 1.0}, "leaves out every row"),
        ({"lowest": -0.1}, "lowest=-0.1: must be a fraction"),
        ({"highest": float("nan")}, "highest=nan"),
        ({"highest": True}, "highest=True"),
    ],
)
def test_ends_that_are_none_are_refused_when_they_are_given(ends, words):
    with pytest.raises(InvalidValue, match=words):
        Exclude("loss", **ends)


def test_ends_that_leave_nothing_are_refused_when_it_plans():
    with pytest.raises(InvalidValue, match="keeps none of 4 rows"):
        Exclude("loss", lowest=2, highest=2).plan(scored(np.arange(4.0)), epoch=0, seed=0)
    with pytest.raises(InvalidValue, match="asks for 5 of 4 rows"):
        Exclude("loss", lowest=5).plan(scored(np.arange(4.0)), epoch=0, seed=0)
