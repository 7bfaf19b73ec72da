"""What `choose` makes of figures that are none and of trainings that raise, and what it refuses."""

import logging
from typing import Any

import numpy as np
import pytest

from adaptive_sampler.choice import choose, grid
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import Prune, RandomPrune
from tests.choice.simulated import CANDIDATES, PLANTED, told, training


def test_a_budget_without_room_is_refused_with_what_is_needed() -> None:
    with pytest.raises(InvalidValue, match=r"budget=33 .* Allow 33\.75 or more"):
        choose(CANDIDATES, told()[1], budget=33)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float32("-inf")])
def test_a_candidate_without_a_finite_figure_is_out_and_named(bad: float, caplog: pytest.LogCaptureFixture) -> None:
    train = training(0)
    with caplog.at_level(logging.WARNING, "adaptive_sampler"):
        found = choose(CANDIDATES, lambda c, seed, share: bad if c == 3 else train(c, seed, share))
    assert list(found.out) == [PLANTED]
    assert found.out[PLANTED] == f"train returned {bad} at seed 10, share 0.25"
    assert PLANTED in caplog.text
    assert "out" in str(found)


def test_a_candidate_whose_training_raises_is_out_and_the_others_go_on() -> None:
    train = training(0, gain=5)

    def failing(candidate: int, seed: int, share: float) -> float:
        if candidate == 5:
            raise RuntimeError("out of memory")
        return train(candidate, seed, share)

    found = choose(CANDIDATES, failing)
    assert found.name == PLANTED
    assert found.out == {"candidate 5": "train raised RuntimeError: out of memory at seed 10, share 0.25"}


def test_a_finalist_that_fails_in_the_last_comparison_is_no_winner() -> None:
    def failing(candidate: int, seed: int, share: float) -> float:
        if candidate == 1 and share == 1 and seed == 4:
            raise ValueError("no")
        return candidate * 9 + np.sin(seed * (candidate + 1))

    found = choose({"random": 0, "a": 1}, failing)
    assert (found.name, list(found.out), found.differences) == ("random", ["a"], {})
    assert "no other candidate is left" in str(found)


def test_an_interrupt_passes() -> None:
    def interrupted(candidate: int, seed: int, share: float) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        choose(CANDIDATES, interrupted)


def test_a_baseline_that_fails_is_an_error() -> None:
    with pytest.raises(InvalidValue, match="the baseline 'random' at seed 0: train returned nan"):
        choose({"random": 0, "a": 1}, lambda c, seed, share: float("nan") if c == 0 else 1.0)


def test_a_number_beyond_floats_is_no_figure() -> None:
    with pytest.raises(InvalidValue, match="return the validation figure, a number"):
        choose(CANDIDATES, lambda c, seed, share: 10**400)


@pytest.mark.parametrize("figure", [None, "0.5"])
def test_a_training_that_returns_no_number_is_an_error_of_the_caller(figure: str | None) -> None:
    with pytest.raises(InvalidValue, match=f"train returned {figure!r} for 'random': return the validation figure"):
        choose(CANDIDATES, lambda c, seed, share: figure)


def test_fewer_seeds_than_a_standard_error_needs_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"seeds=1: .*2 or more.*a standard error needs two"):
        choose(CANDIDATES, told()[1], seeds=1)


def test_too_few_seeds_for_the_correction_are_warned_of_with_the_number() -> None:
    with pytest.warns(RuntimeWarning, match=r"seeds=3: corrected for 2 finalists, .* in 32% .* Pass seeds=5 or more"):
        choose(CANDIDATES, training(0), seeds=3)


def test_a_fault_of_train_shows_before_anything_else_is_trained() -> None:
    calls = []

    def train(candidate: int, seed: int, share: float) -> float:
        calls.append((candidate, seed, share))
        raise NameError("undefined")

    with pytest.raises(InvalidValue, match="the baseline 'random' at seed 0: train raised NameError") as caught:
        choose(CANDIDATES, train)
    assert isinstance(caught.value.__cause__, NameError)
    assert calls == [(0, 0, 1.0)]


def test_the_log_shows_where_a_training_raised(caplog: pytest.LogCaptureFixture) -> None:
    choose({"random": 0, "a": 1}, lambda c, seed, share: seed / (1 - c))
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ({"random": 0}, "'random' is the only candidate"),
        ({}, "baseline='random' is no candidate: add it"),
        ([0, 1], r"candidates=\[0, 1\]: a dict of policies by name"),
        ({"random": 0, 1: 1}, "the names being texts"),
        ({"random": 0, "a": Prune}, "'a' is the class Prune"),
        (
            {"random": 0, "w(keep=2)": 1, "w": grid(lambda keep: keep, keep=[2, 3])},
            r"two candidates are called 'w\(keep=2\)'",
        ),
    ],
)
def test_candidates_that_cannot_be_compared_are_refused(candidates: Any, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        choose(candidates, told()[1])


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("better", "most"),
        ("finalists", 0),
        ("first_share", 0),
        ("first_share", 2),
        ("level", 0.6),
        ("level", 1e-18),
        ("budget", float("nan")),
        ("budget", -1),
        ("seeds", 2.5),
        ("finalists", True),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(argument: str, value: Any) -> None:
    with pytest.raises(InvalidValue, match=f"{argument}={value!r}"):
        choose(CANDIDATES, told()[1], **{argument: value})


@pytest.mark.parametrize("arguments", [{"keep": 0.5}, {"keep": []}, {"keep": [2.0, 3.0]}, {"keep": [0.5, 0.5]}])
def test_a_grid_without_a_policy_of_its_own_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        grid(RandomPrune, **arguments)


def test_a_wrong_keyword_in_a_grid_is_no_refused_combination() -> None:
    with pytest.raises(TypeError, match="share"):
        grid(RandomPrune, share=[0.5])
