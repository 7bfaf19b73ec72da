"""What `choose` trains, in which rounds and on which seeds, and what its table says."""

import warnings

import numpy as np
import pytest

from adaptive_sampler.choice import choose, grid
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import Prune, RandomPrune, Window
from tests.choice.simulated import CANDIDATES, PLANTED, told, training


def test_the_example_of_the_page_takes_policies_and_grids() -> None:
    found = choose(
        {
            "random": RandomPrune(0.5),
            "hard": Prune(0.5, "el2n"),
            "window": grid(Window, keep=[0.5, 0.75], offset=[0, 0.05, 0.3], by="el2n"),
        },
        lambda policy, seed, share: (
            np.sin(seed) + (off := getattr(policy, "offset", 0)) + np.cos(7 * seed + off + policy.keep) / 9
        ),
    )
    assert found.name == "window(keep=0.5, offset=0.3)"
    assert found.best.offset == 0.3
    assert list(found.out) == ["window(keep=0.75, offset=0.3)"]
    assert "ends past the last row" in found.out["window(keep=0.75, offset=0.3)"]


def test_half_of_the_candidates_go_on_with_twice_the_share() -> None:
    calls, train = told({i: i for i in range(8)})
    found = choose(CANDIDATES, train)
    assert found.name == "candidate 7"
    assert [(one.size, one.kept, one.share) for one in found.rounds] == [(7, 4, 0.25), (4, 2, 0.5)]
    by_share = {share: {candidate for candidate, _, of in calls if of == share} for share in (0.25, 0.5, 1.0)}
    assert by_share == {0.25: set(range(1, 8)), 0.5: {4, 5, 6, 7}, 1.0: {0, 6, 7}}


def test_the_last_comparison_has_seeds_that_no_round_has_seen() -> None:
    calls, train = told()
    choose(CANDIDATES, train)
    assert {seed for _, seed, share in calls if share == 1} == set(range(10))
    assert not {seed for _, seed, share in calls if share < 1} & set(range(10))


def test_the_baseline_and_every_finalist_train_on_the_same_seeds() -> None:
    calls, train = told()
    choose(CANDIDATES, train)
    last = [(candidate, seed) for candidate, seed, share in calls if share == 1]
    assert len(last) == len(set(last)) == 30


@pytest.mark.parametrize("budget", [35.0, 40.0, 60.0])
def test_no_more_is_trained_than_the_budget(budget: float) -> None:
    calls, train = told()
    found = choose(CANDIDATES, train, budget=budget)
    assert found.trainings == sum(share for *_, share in calls) <= budget
    assert found.trainings > budget - 3.75  # a seed more in every round


def test_by_default_half_of_the_grid_is_trained() -> None:
    _, train = told()
    many = {"random": 0, **{str(i): i for i in range(1, 16)}}
    assert choose(many, train).trainings <= 80


def test_a_lower_figure_can_be_the_better_one() -> None:
    _, train = told({i: i for i in range(8)})
    found = choose(CANDIDATES, train, better="lower")
    assert found.name == "random"
    _, train = told({0: 5, 1: 1, 2: 2, 3: 3, 4: 4})
    found = choose({"random": 0, "a": 1, "b": 2, "c": 3, "d": 4}, train, better="lower")
    assert found.name == "a"
    assert found.differences["a"].mean == pytest.approx(4, abs=0.1)
    assert found.mean("a") == pytest.approx(1, abs=0.1)


def test_another_baseline_can_be_named() -> None:
    assert choose({"everything": 0, "a": 1}, told({1: 9})[1], baseline="everything").name == "a"
    with pytest.raises(InvalidValue, match="baseline='random' is no candidate: name one of 'everything', 'a'"):
        choose({"everything": 0, "a": 1}, told()[1])


@pytest.mark.parametrize("seeds", [2, 10])
def test_a_gain_that_is_the_same_at_every_seed_is_told_and_not_chosen(seeds: int) -> None:
    """Shares of a few validation samples often differ by the same amount at two seeds: that shows no chance, not certainty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of two seeds
        found = choose({"random": 0, "a": 1}, lambda c, seed, share: 0.1 * c + seed, seeds=seeds)
    assert found.name == "random"
    assert found.differences["a"].p_value == 1
    assert "'a' differs from 'random' by 0.1 at every seed" in str(found)


def test_equal_candidates_say_nothing_of_a_gain() -> None:
    found = choose({"random": 0, "a": 0}, lambda c, seed, share: 0.5)
    assert np.isnan(found.detectable)
    assert str(found).startswith("'random': nothing beats it at seeds=10.\n")


@pytest.mark.parametrize("unit", [1e-300, 1e-170, 1e170, 1e300])
def test_the_unit_of_the_figures_changes_nothing(unit: float) -> None:
    train = training(0)
    one, other = choose(CANDIDATES, train), choose(CANDIDATES, lambda c, seed, share: unit * train(c, seed, share))
    assert other.name == one.name == "random"
    for name, found in one.differences.items():
        assert other.differences[name].p_value == pytest.approx(found.p_value)
        assert other.differences[name].mean == pytest.approx(unit * found.mean)


def test_a_grid_is_every_combination_of_the_lists() -> None:
    found = grid(Window, keep=[0.25, 0.5], offset=[0.1, 0.2], by="loss")
    assert list(found) == [f"keep={keep}, offset={offset}" for keep in (0.25, 0.5) for offset in (0.1, 0.2)]
    assert all(policy.by == "loss" for policy in found.values())


def test_progress_is_told_by_trainings() -> None:
    seen: list[tuple[int, int | None]] = []
    choose({"random": 0, "a": 1}, training(0), progress=lambda done, of: seen.append((done, of)))
    assert seen[:2] == [(0, 20), (1, 20)]
    assert seen[-1] == (20, 20)


def test_the_table_has_a_line_for_each_candidate_finalists_first() -> None:
    found = choose(CANDIDATES, training(0, gain=5))
    table = found.table
    assert {line["candidate"] for line in table} == set(CANDIDATES)
    assert table[0]["candidate"] == PLANTED
    assert [line["verdict"] for line in table[:3]] == ["chosen", "not better", ""]
    assert str(found).startswith(f"'{PLANTED}' beats 'random' by ")


@pytest.mark.parametrize(
    ("others", "finalists", "first_share", "steps"),
    [
        (1, 2, 0.25, []),
        (2, 2, 0.25, []),
        (3, 2, 0.25, [(3, 2, 0.5)]),
        (7, 2, 0.25, [(7, 4, 0.25), (4, 2, 0.5)]),
        (7, 1, 0.1, [(7, 4, 0.125), (4, 2, 0.25), (2, 1, 0.5)]),
        (64, 2, 0.25, [(64, 4, 0.25), (4, 2, 0.5)]),
        (7, 2, 1.0, [(7, 2, 1.0)]),
    ],
)
def test_rounds_halve_candidates_and_double_shares(
    others: int, finalists: int, first_share: float, steps: list[tuple[int, int, float]]
) -> None:
    candidates = {"random": 0, **{str(i): i for i in range(1, others + 1)}}
    found = choose(candidates, told()[1], finalists=finalists, first_share=first_share)
    assert [(one.size, one.kept, one.share) for one in found.rounds] == steps
    assert len(found.differences) == min(others, finalists)


def test_a_finalist_that_beats_the_baseline_by_less_is_told_to_be_better_too() -> None:
    found = choose({"random": 0, "most": 2, "some": 1}, told({2: 2, 1: 1})[1])
    verdicts = {line["candidate"]: line["verdict"] for line in found.table}
    assert verdicts == {"most": "chosen", "some": "better too", "random": ""}
