"""The sliding window keeps what its twin keeps, and complementary windows partition the rows."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.selection import Prune, Window
from tests import references
from tests.selection.test_prune import EXAMPLE, SCORES, kept
from tests.stores import scored

HUNDREDTHS = st.integers(1, 99)


@given(scores=SCORES, first=HUNDREDTHS, length=HUNDREDTHS)
def test_ties_by_row_keep_exactly_what_the_twin_keeps(scores, first, length):
    assume(first + length <= 100 and np.isfinite(scores).any())
    n = len(scores)
    start, stop = references.cut(first / 100, n), references.cut((first + length) / 100, n)
    expected = references.window(scores, start, stop)
    assume(expected)
    assert kept(Window(length / 100, first / 100, "loss", ties="row"), scored(scores)) == expected


@pytest.mark.parametrize("ties", ["random", "row"])
@given(scores=SCORES, bounds=st.lists(HUNDREDTHS, max_size=4, unique=True).map(sorted))
def test_complementary_windows_partition_the_rows_ties_or_not(ties, scores, bounds):
    store = scored(np.nan_to_num(scores))
    edges = [0, *bounds, 100]
    counted = np.zeros(len(scores), int)
    for low, high in itertools.pairwise(edges):
        policy = Window((high - low) / 100, low / 100, "loss", ties=ties)
        if references.cut(high / 100, len(scores)) > references.cut(low / 100, len(scores)):
            counted[list(kept(policy, store))] += 1
    assert counted.tolist() == [1] * len(scores)


@pytest.mark.parametrize(
    ("keep", "offset", "rows"),
    # ascending: 1, 3, 0, 4, 2
    [
        (3, 1, {0, 3, 4}),
        (0.6, 0.2, {0, 3, 4}),
        (0.6, 1, {0, 3, 4}),
        (3, 0.2, {0, 3, 4}),
        (2, 0, {1, 3}),
        (0.4, 0.6, {2, 4}),
    ],
)
def test_the_worked_example_of_data_diet(keep, offset, rows):
    assert kept(Window(keep, offset, "loss"), scored(EXAMPLE)) == rows


def test_a_window_at_the_top_is_pruning_to_the_highest():
    store = scored(np.random.default_rng(0).random(50))
    assert kept(Window(0.3, 0.7, "loss"), store) == kept(Prune(0.3, "loss"), store)


def test_rows_never_observed_fill_keep_first():
    # Two of the three are never observed; of the ranked 1, 3, 0 the window takes what lies at its offset.
    assert kept(Window(3, 1, "loss"), scored([0.3, 0.1, np.nan, 0.2, np.nan])) == {2, 4, 3}


def test_a_score_that_nobody_observed_keeps_everything():
    assert kept(Window(0.2, 0.4, "loss"), scored([np.nan] * 5)) == set(range(5))


@given(data=st.data(), first=HUNDREDTHS, length=HUNDREDTHS, max_age=st.integers(1, 20))
def test_max_age_keeps_what_its_twin_keeps(data, first, length, max_age):
    scores = data.draw(SCORES)
    assume(first + length <= 100 and np.isfinite(scores).any())
    epochs = np.array(data.draw(st.permutations(range(len(scores)))))
    age = np.where(np.isfinite(scores) & (40 - epochs > max_age), 40 - epochs, np.nan)
    n = len(scores)
    start, stop = references.cut(first / 100, n), references.cut((first + length) / 100, n)
    expected = references.window(scores, start, stop, age)
    assume(expected)
    policy = Window(length / 100, first / 100, "loss", ties="row", max_age=max_age)
    assert kept(policy, scored(scores, epochs=epochs), epoch=40) == expected


@pytest.mark.parametrize(
    ("keep", "offset", "words"),
    [
        (
            0.6,
            0.5,
            r"offset=0.5 \+ keep=0.6 is 1.1: the window ends past the last row. Keep at most 0.5 at this offset",
        ),
        (0, 0.5, "keep=0: must be a fraction, 0 < keep <= 1"),
        (1, 0.5, "keep=1 could mean one row or all of them"),
        (0.5, 1.0, r"offset=1.0 \+ keep=0.5 is 1.5: the window ends past the last row"),
        (0.5, -0.1, "offset=-0.1: must be a fraction, 0 <= offset <= 1"),
        (0.5, 1.5, "offset=1.5: must be"),
        (0.5, False, "offset=False: must be"),
    ],
)
def test_a_window_that_is_none_is_refused_where_it_is_made(keep, offset, words):
    with pytest.raises(InvalidValue, match=words):
        Window(keep, offset, "loss")


@pytest.mark.parametrize(("keep", "offset"), [(4, 2), (4, 0.4), (0.8, 2)])
def test_a_window_that_ends_past_the_last_row_is_refused_with_the_rows_there_are(keep, offset):
    with pytest.raises(InvalidValue, match=r"offset=.* \+ keep=.* asks for 6 of 5 rows. Ask for at most 5"):
        Window(keep, offset, "loss").plan(scored(EXAMPLE), epoch=0, seed=0)


def test_the_shares_of_a_window_may_add_up_to_all_rows_in_decimals():
    assert len(kept(Window(0.9, 0.1, "loss"), scored(np.arange(10)))) == 9


def test_an_unknown_score_is_an_error_before_the_first_observation():
    with pytest.raises(UnknownName, match="no score 'el2n'; it has loss"):
        Window(0.5, 0.1, "el2n").plan(scored([np.nan] * 5), epoch=0, seed=0)
