"""How often a choice is right, where we know what is."""

import numpy as np
import pytest

from adaptive_sampler.choice import choose
from adaptive_sampler.choice.dunnett import critical, detectable, p_value, power, seeds_for
from adaptive_sampler.choice.result import compare
from tests.choice.simulated import CANDIDATES, PLANTED, chosen

RUNS = 200


@pytest.mark.parametrize("seeds", [3, 10])
def test_of_200_runs_on_noise_16_at_most_claim_a_winner(seeds: int) -> None:
    assert sum(chosen(run, seeds).name != "random" for run in range(RUNS)) <= 16


@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_noise_stays_noise_where_one_candidate_spreads_five_times_as_much(tails: str) -> None:
    def train(candidate: int, seed: int, share: float) -> float:
        figure = rng.normal() if tails == "normal" else rng.standard_t(3)
        return figure * (5 if candidate == 3 else 1)

    claimed = 0
    for run in range(RUNS):
        rng = np.random.default_rng(run)
        claimed += choose(CANDIDATES, train, seeds=5).name != "random"
    assert claimed <= 16


def test_a_gain_of_two_and_a_half_deviations_is_found_in_80_percent_at_ten_seeds() -> None:
    assert sum(chosen(run, 10, 2.5).name == PLANTED for run in range(RUNS)) >= 0.8 * RUNS


def test_the_power_that_is_told_is_that_of_simulated_runs() -> None:
    found = sum(chosen(run, 3, 2.5).name == PLANTED for run in range(RUNS))
    assert abs(found / RUNS - power(2.5, 0.025, 2, 3)) < 3 * np.sqrt(0.25 / RUNS)


def test_what_is_detectable_is_found_with_that_chance() -> None:
    for arms, seeds in ((1, 3), (2, 10), (4, 5)):
        assert power(detectable(0.8, 0.025, arms, seeds), 0.025, arms, seeds) == pytest.approx(0.8)


def test_the_seeds_that_are_asked_for_are_the_fewest_that_suffice() -> None:
    seeds = seeds_for(2.5, 0.8, 0.025, 2)
    assert power(2.5, 0.025, 2, seeds) >= 0.8 > power(2.5, 0.025, 2, seeds - 1)


@pytest.mark.parametrize(
    ("arms", "df", "value"),
    [(1, 10, 1.81), (2, 10, 2.15), (3, 10, 2.34), (1, 20, 1.72), (2, 20, 2.03), (3, 20, 2.19), (1, 1, 6.314)],
)
def test_critical_values_are_those_of_dunnetts_table(arms: int, df: int, value: float) -> None:
    assert critical(0.05, arms, df) == pytest.approx(value, abs=0.005)


@pytest.mark.parametrize(("t", "arms", "df"), [(2.0, 2, 18), (3.0, 3, 4), (0.0, 2, 2), (1.5, 5, 45)])
def test_a_p_value_is_the_upper_tail_of_a_multivariate_t(t: float, arms: int, df: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    shape = 0.5 + 0.5 * np.eye(arms)
    below = stats.multivariate_t(shape=shape, df=df, seed=0).cdf([t] * arms)
    assert p_value(t, arms, df) == pytest.approx(1 - below, abs=1e-3)


@pytest.mark.parametrize("df", [1, 2, 9, 400])
def test_against_one_arm_it_is_students_t(df: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    for t in (-2.0, 0.5, 4.0):
        assert p_value(t, 1, df) == pytest.approx(stats.t.sf(t, df), abs=1e-9)


def test_with_one_finalist_the_standard_error_is_that_of_paired_differences() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 9))
    found, _ = compare(a, {"b": b})
    assert found["b"].mean == pytest.approx((b - a).mean())
    assert found["b"].standard_error == pytest.approx((b - a).std(ddof=1) / 3)


@pytest.mark.parametrize("twin", ["of the finalist", "of the baseline"])
@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_a_twin_makes_no_gain_more_certain(twin: str, seeds: int) -> None:
    """The variance that is pooled is too small then, by a third."""
    for run in range(20):
        baseline, finalist = np.random.default_rng(run).normal(size=(2, seeds))
        alone, _ = compare(baseline, {"a": finalist})
        found, _ = compare(baseline, {"a": finalist, "twin": finalist if twin == "of the finalist" else baseline})
        assert found["a"].p_value >= alone["a"].p_value


def test_one_that_spreads_more_is_held_against_its_own_spread() -> None:
    for run in range(20):
        baseline, finalist, other = np.random.default_rng(run).normal(size=(3, 5)) * [[1], [5], [1]]
        found, _ = compare(baseline, {"a": finalist, "b": other})
        alone = compare(baseline, {"a": finalist})[0]["a"].p_value
        # where its own spread decides, both are one number, but for rounding
        assert found["a"].p_value >= alone * (1 - 1e-12)


def test_what_a_seed_does_to_all_arms_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    arms, common = rng.normal(size=(3, 8)), 100 * rng.normal(size=8)
    one, spread = compare(arms[0], {"a": arms[1], "b": arms[2]})
    other, same = compare(arms[0] + common, {"a": arms[1] + common, "b": arms[2] + common})
    assert other["b"].standard_error == pytest.approx(one["b"].standard_error)
    assert same == pytest.approx(spread)
    assert other["a"].p_value == pytest.approx(one["a"].p_value)
