"""Schedules give the numbers of their papers, and never leave the way between their ends."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import Cosine, Geometric, Linear, Root, Schedule, Steps

BETWEEN = pytest.mark.parametrize("kind", [Linear, Root, Cosine])
SHARE = st.floats(0.01, 1).map(lambda share: round(share, 2))


@BETWEEN
@given(start=SHARE, end=SHARE, epochs=st.integers(1, 30), epoch=st.integers(0, 60))
def test_a_schedule_begins_at_its_start_and_stays_at_its_end(kind, start, end, epochs, epoch):
    schedule = kind(start, end, epochs=epochs)
    numbers = [schedule(at) for at in range(epochs + 1)]
    assert (numbers[0], numbers[-1]) == (start, end)
    assert numbers == sorted(numbers, reverse=start > end)
    assert epoch < epochs or schedule(epoch) == end
    assert schedule.last == epochs


def test_the_linear_competence_of_platanios_is_exact_in_decimals():
    schedule = Linear(0.3, 1.0, epochs=10)
    assert [schedule(t) for t in range(11)] == [0.3, 0.37, 0.44, 0.51, 0.58, 0.65, 0.72, 0.79, 0.86, 0.93, 1.0]


@pytest.mark.parametrize("t", [0, 1, 25, 50, 99, 100, 150])
def test_the_root_competence_of_platanios(t):
    expected = min(1, math.sqrt(t * (1 - 0.1**2) / 100 + 0.1**2))  # equation 7, c0 = 0.1, T = 100
    assert Root(0.1, 1.0, epochs=100)(t) == pytest.approx(expected, rel=1e-15)


def test_the_root_competence_in_numbers():
    schedule = Root(0.1, 1.0, epochs=100)
    assert [round(schedule(t), 4) for t in (0, 25, 50, 75, 100)] == [0.1, 0.5074, 0.7106, 0.8675, 1.0]


def test_the_cosine_is_half_way_at_half_time_and_slow_at_both_ends():
    schedule = Cosine(1.0, 0.0, epochs=4)
    assert [schedule(t) for t in range(5)] == [1.0, 0.853553390593, 0.5, 0.146446609407, 0.0]


def test_single_step_pacing_of_hacohen_and_the_two_stages_of_bengio():
    schedule = Steps({4: 1.0, 0: 0.2})
    assert [schedule(t) for t in range(6)] == [0.2] * 4 + [1.0] * 2
    assert repr(schedule) == repr(Steps(((0, 0.2), (4, 1.0))))


@pytest.mark.parametrize(("every", "start", "factor"), [(1, 0.04, 1.9), (3, 0.1, 2)])
def test_fixed_exponential_pacing_of_hacohen(every, start, factor):
    schedule = Geometric(start, factor, every=every, end=1.0)
    for t in range(20):
        exact = Fraction(str(start)) * Fraction(str(factor)) ** (t // every)
        assert schedule(t) == float(min(exact, 1))


def test_the_growing_threshold_of_self_paced_learning_has_no_end_but_infinity():
    schedule = Geometric(0.5, 1.5)
    assert [schedule(t) for t in range(4)] == [0.5, 0.75, 1.125, 1.6875]
    assert schedule(5000) == math.inf
    assert schedule.last is None


def test_a_factor_below_one_goes_down_to_the_end():
    assert [Geometric(1.0, 0.5, end=0.2)(t) for t in range(4)] == [1.0, 0.5, 0.25, 0.2]


def test_a_number_below_zero_goes_down_to_the_end_by_a_factor_above_one():
    assert [Geometric(-1.0, 2, end=-3.0)(t) for t in range(4)] == [-1.0, -2.0, -3.0, -3.0]
    assert [Geometric(-1.0, 0.5, end=-0.3)(t) for t in range(4)] == [-1.0, -0.5, -0.3, -0.3]


@pytest.mark.parametrize("number", [int, np.int64, np.int32])
def test_an_epoch_of_numpy_is_the_same_epoch(number):
    for schedule in (
        Linear(0.1, 1.0, epochs=number(900)),
        Root(0.1, 1.0, epochs=900),
        Geometric(1e-9, 1.0123, every=number(1)),
    ):
        assert schedule(number(500)) == type(schedule)(**vars(schedule) | _plain(schedule))(500)


def _plain(schedule):
    return {"epochs": 900} if hasattr(schedule, "epochs") else {"every": 1}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Linear(0.3, 1.0, epochs=0), "epochs=0: how many epochs it takes from start to end, 1 or more"),
        (lambda: Linear("0.3", 1.0, epochs=5), "start='0.3': a finite number"),
        (lambda: Cosine(0.3, math.nan, epochs=5), "end=nan: a finite number"),
        (lambda: Root(-0.3, 1.0, epochs=5), "start=-0.3: the root is of its square"),
        (lambda: Steps({}), "values={}: a dict of numbers by epoch"),
        (lambda: Steps(0.3), "values=0.3: a dict of numbers by epoch"),
        (lambda: Steps({1: 0.3}), "says nothing of epoch 0"),
        (lambda: Steps({0: 0.3, 2.5: 1.0}), "a dict of numbers by epoch"),
        (lambda: Steps([0.3, 1.0]), "a dict of numbers by epoch"),
        (lambda: Steps([(0, 0.3), (0, 1.0)]), "a dict of numbers by epoch"),
        (lambda: Steps({0: 0.3, 2: None}), "the number from epoch 2 on=None: a finite number"),
        (lambda: Geometric(0.1, 0), "factor=0: what the number is multiplied by, above 0"),
        (lambda: Geometric(0.1, 2, every=0), "every=0: after how many epochs"),
        (lambda: Geometric(0.1, 2, end=math.inf), "end=inf: a finite number"),
        (
            lambda: Geometric(0.5, 2, end=0.1),
            "end=0.1: from start=0.5 the factor 2 leads away .* Pass an end that is higher",
        ),
        (lambda: Geometric(0.5, 0.9, end=0.6), "end=0.6: from start=0.5 the factor 0.9 leads away .* that is lower"),
    ],
)
def test_a_schedule_that_is_none_is_refused_with_the_rule(make, words):
    with pytest.raises(InvalidValue, match=words):
        make()


def test_a_schedule_of_ones_own_says_nothing_of_its_end_unless_it_is_told():
    class Half(Schedule):
        def __call__(self, epoch):
            return 0.5

    assert Half().last is None
