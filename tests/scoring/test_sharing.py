"""Measures of one observation share their work, and say what each says alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adaptive_sampler import ScoreStore
from adaptive_sampler.arrays import to_host
from adaptive_sampler.scoring import EL2N, Confidence, Entropy, Error, Forgetting, Loss, Margin
from adaptive_sampler.scoring.sharing import once, shared
from tests.libraries import LIBRARIES, ONE_EACH

SCORES = [EL2N(), Forgetting(), Loss(), Margin(), Confidence(), Entropy(), Error()]
LOGITS = arrays(np.float32, (4, 3), elements=st.floats(-50, 50, width=32) | st.sampled_from([-np.inf, np.inf, np.nan]))


class Counted:
    """A function that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.remembered = once(self.call)

    def call(self, x: object) -> list[object]:
        self.calls += 1
        return [x]


@pytest.mark.parametrize("library", ONE_EACH)
@given(logits=LOGITS, labels=arrays(np.int64, 4, elements=st.integers(0, 2)))
def test_measures_taken_together_are_those_taken_alone(library, logits, labels) -> None:
    observation = {"logits": LIBRARIES[library](logits), "labels": LIBRARIES[library](labels)}
    together = ScoreStore.create(None, 4, SCORES).session.measure(**observation)
    for score in SCORES:
        alone = score.measure(**{name: observation[name] for name in score.inputs[-1]})
        # Together by NumPy, alone by torch; an entropy alone is of sums that leave out another class.
        rounding = 2e-6 if library == "torch float32" or score.name == "entropy" else 0
        np.testing.assert_allclose(to_host(together[score.name]), to_host(alone), rtol=rounding, atol=rounding)


def test_while_shared_a_function_is_called_once_for_the_same_objects() -> None:
    f, x = Counted(), object()
    with shared():
        assert f.remembered(x) is f.remembered(x)
        f.remembered(object())
    assert f.calls == 2


def test_one_sharing_inside_another_is_the_same() -> None:
    f, x = Counted(), object()
    with shared():
        with shared():
            f.remembered(x)
        f.remembered(x)
    assert f.calls == 1


def test_nothing_is_remembered_outside_or_afterwards() -> None:
    f, x = Counted(), object()
    with shared():
        f.remembered(x)
    f.remembered(x)
    f.remembered(x)
    assert f.calls == 3


def test_what_was_shared_ends_with_an_error_too() -> None:
    f, x = Counted(), object()

    def fail() -> None:
        with shared():
            f.remembered(x)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    f.remembered(x)
    assert f.calls == 2


def test_equal_arguments_that_are_other_objects_are_not_mistaken_for_one_another() -> None:
    f = Counted()
    with shared():
        for number in range(100):  # each may get the address of the one before, unless that is kept
            assert f.remembered(np.array([number]))[0] == number
