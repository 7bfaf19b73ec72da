"""What holds for every policy, and what the simple ones keep: everything, a random share, one side of a value, mistakes."""

import numpy as np
import pytest
from hypothesis import given

from adaptive_sampler import ScoreStore, testing
from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.scoring import Error, Loss
from adaptive_sampler.selection import (
    Draw,
    Exclude,
    InfoBatch,
    KeepAll,
    Prune,
    RandomPrune,
    Threshold,
    Upsample,
    Window,
    make,
)
from tests.selection.test_prune import SCORES, kept
from tests.stores import scored

POLICIES = [
    KeepAll(),
    RandomPrune(0.4),
    Prune(0.4, "loss"),
    Prune(0.4, "loss", order="lowest", ties="row", per_class=np.arange(30) % 3, max_age=2),
    Window(0.4, 0.3, "loss"),
    Window(0.4, 0.3, "loss", ties="row", max_age=1),
    Window(0.4, 0.3, "loss", per_class=np.arange(30) % 3, max_age=1),
    RandomPrune(0.4, per_class=np.arange(30) % 4),
    Threshold(3.0, "loss", order="lowest", max_age=3),
    Upsample(300, "loss", convention="extra"),
    Draw("loss"),
    Draw("loss", 7, replacement=False),
    Draw("loss", 100, floor=0.25, unbiased=True),
    InfoBatch(0.5, "loss", epochs=10),
    Exclude("loss", lowest=0.2, highest=3, max_age=1),
    Exclude("loss", highest=0.2, ties="row", per_class=np.arange(30) % 3),
    Prune(0.9, "loss") & Exclude("loss", lowest=0.1) & Upsample(3, "loss"),
]
VALUES = {
    "all observed": np.arange(30.0) % 7,
    "some observed": np.where(np.arange(30) % 3, np.arange(30.0), np.nan),
    "none observed": np.full(30, np.nan),
    "all equal": np.ones(30),
}


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_every_policy_keeps_the_contract(policy, values):
    testing.check_policy(policy, scored(VALUES[values], epochs=np.arange(30) % 4))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_plan_depends_on_the_scores_epoch_and_seed_alone(policy):
    plans = [policy.plan(scored(VALUES["some observed"]), epoch=3, seed=5) for _ in range(2)]
    assert plans[0].id == plans[1].id


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_score_that_nobody_observed_keeps_every_row_at_weight_one(policy):
    plan = policy.plan(scored(VALUES["none observed"]), epoch=3, seed=5)
    number = 12 if isinstance(policy, RandomPrune) else 30
    assert (plan.num_samples, plan.weighted) == (number, False)


@pytest.mark.parametrize("policy", [p for p in POLICIES if hasattr(p, "by")], ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("values", ["all observed", "none observed"])
def test_an_unknown_score_is_an_error_that_lists_the_known(policy, values):
    with pytest.raises(UnknownName, match="no score 'loss'; it has other"):
        policy.plan(scored(VALUES[values], name="other"), epoch=0, seed=0)


# -- RandomPrune -------------------------------------------------------------------------------------------------------


def test_a_random_share_is_another_one_each_epoch_and_seed():
    store, policy = scored(np.arange(60.0)), RandomPrune(0.5)
    assert len({frozenset(kept(policy, store, epoch=e, seed=s)) for e in range(3) for s in range(3)}) == 9


def test_a_random_share_keeps_every_row_equally_often():
    store, policy = scored(np.arange(20.0)), RandomPrune(0.25)
    times = np.zeros(20)
    for epoch in range(400):
        times[list(kept(policy, store, epoch=epoch))] += 1
    assert times.min() > 65  # 100 ± 8.7, at 20 rows four standard deviations
    assert times.max() < 135


# -- Threshold ---------------------------------------------------------------------------------------------------------


@given(scores=SCORES)
def test_the_two_sides_of_a_value_partition_the_observed_rows(scores):
    store, unseen = scored(np.append(scores, [-200.0, 200.0])), set(np.flatnonzero(np.isnan(scores)).tolist())
    high = kept(Threshold(0.0, "loss"), store)
    low = kept(Threshold(0.0, "loss", order="lowest"), store)
    assert high & low == unseen
    assert high | low == set(range(len(scores) + 2))


def test_the_value_itself_is_on_the_high_side():
    store = scored([1.0, 2.0, 3.0])
    assert kept(Threshold(2.0, "loss"), store) == {1, 2}
    assert kept(Threshold(2.0, "loss", order="lowest"), store) == {0}


def test_rows_older_than_max_age_come_back():
    store = scored([1.0, 2.0, 3.0], epochs=[0, 6, 9])
    assert kept(Threshold(3.0, "loss", max_age=4), store, epoch=10) == {0, 2}
    assert kept(Threshold(3.0, "loss", max_age=3), store, epoch=10) == {0, 1, 2}


def test_a_value_that_no_row_reaches_is_refused_with_where_the_scores_lie():
    with pytest.raises(InvalidValue, match=r"no row's 'loss' reaches 9.0: they lie in 1 … 3.*Move the value"):
        Threshold(9.0, "loss").plan(scored([1.0, 2.0, 3.0]), epoch=0, seed=0)


@pytest.mark.parametrize(
    ("value", "high"), [(1e300, set()), (-1e300, {0, 1, 2}), (2**200, set()), (np.int64(2), {1, 2})]
)
def test_a_value_may_lie_beyond_float32(value, high):
    store = scored([1.0, 2.0, 3.0])
    assert set(np.flatnonzero(Threshold(value, "loss").keeps(store["loss"]))) == high
    assert set(np.flatnonzero(Threshold(value, "loss", order="lowest").keeps(store["loss"]))) == {0, 1, 2} - high


def test_a_value_is_compared_as_float32_whatever_its_type():
    assert kept(Threshold(np.float64(0.7), "loss"), scored([0.7, 0.6])) == {0}
    assert kept(Threshold(0.7, "loss"), scored([0.7, 0.6])) == {0}


@pytest.mark.parametrize("value", [float("nan"), "0.5", None, 10**400, True])
def test_a_value_that_is_no_number_is_refused(value):
    with pytest.raises(InvalidValue, match=r"value=.*: a number on the scale of the score 'loss'"):
        Threshold(value, "loss")


# -- Upsample: JTT -----------------------------------------------------------------------------------------------------


def mistakes(n, wrong):
    store = ScoreStore.create(None, n, [Error()])
    store.fold("error", range(n), [float(row in wrong) for row in range(n)])
    return store


@pytest.mark.parametrize(("convention", "most"), [("total", 2**32 - 1), ("extra", 2**32 - 2)])
def test_no_factor_asks_for_more_visits_of_a_row_than_a_plan_holds(convention, most):
    with pytest.raises(InvalidValue, match=f"factor={most + 1}: .* {most} at most"):
        Upsample(most + 1, convention=convention)
    plan = Upsample(most, convention=convention).plan(mistakes(2, {1}), epoch=0, seed=0)
    assert plan.repeats.tolist() == [1, 2**32 - 1]


@pytest.mark.parametrize(("convention", "length", "times"), [("extra", 16, 4), ("total", 14, 3)])
def test_ten_rows_two_mistakes_and_a_factor_of_three(convention, length, times):
    plan = Upsample(3, convention=convention).plan(mistakes(10, {4, 7}), epoch=0, seed=0)
    assert plan.num_samples == length
    assert plan.repeats.tolist() == [times if row in (4, 7) else 1 for row in range(10)]


def test_the_papers_objective_is_the_default():
    assert Upsample(3) == Upsample(3, "error", convention="total")


def test_rows_never_observed_are_no_mistakes():
    store = ScoreStore.create(None, 3, [Error()])
    store.fold("error", [0], [1.0])
    assert Upsample(5).plan(store, epoch=0, seed=0).repeats.tolist() == [5, 1, 1]


def test_a_mistake_that_was_learned_is_none_any_more():
    store = mistakes(3, {0, 1})
    store.fold("error", [0], [0.0])
    assert Upsample(2).plan(store, epoch=0, seed=0).repeats.tolist() == [1, 2, 1]


@pytest.mark.parametrize("factor", [0, -1, 2.0, True, "3", None])
def test_a_factor_that_is_no_number_of_occurrences_is_refused(factor):
    with pytest.raises(InvalidValue, match=r"factor=.*: a whole number of occurrences, 1 or more"):
        Upsample(factor)


def test_a_convention_that_is_none_is_refused_with_those_there_are():
    with pytest.raises(InvalidValue, match="convention='both': one of 'total', 'extra'"):
        Upsample(2, convention="both")


def test_a_policy_of_ones_own_may_give_a_mask_of_the_rows():
    plan = make(scored(np.arange(10.0)), None, 0, 0, kept=np.arange(10) > 6)
    assert plan.rows.tolist() == [7, 8, 9]


@pytest.mark.parametrize("kept", [np.ones(9, np.bool_), np.ones(10, np.uint8), np.ones(3, np.uint8), np.ones(2)])
def test_what_is_no_mask_of_the_rows_is_refused_with_the_two_that_are(kept):
    words = rf"kept has dtype {kept.dtype} and shape .*\(10,\) bool.*\(2,\) uint8, which np.packbits\(mask, bitorder='little'\)"
    with pytest.raises(InvalidValue, match=words):
        make(scored(np.arange(10.0)), None, 0, 0, kept=kept)


# -- what a policy goes by ---------------------------------------------------------------------------------------------

GO_BY = {
    "Draw": lambda by: Draw(by),
    "InfoBatch": lambda by: InfoBatch(0.5, by, epochs=3),
    "Prune": lambda by: Prune(0.5, by),
    "Threshold": lambda by: Threshold(0.5, by),
    "Upsample": lambda by: Upsample(3, by=by),
    "Window": lambda by: Window(0.5, 0.1, by),
}


@pytest.mark.parametrize("policy", GO_BY)
@pytest.mark.parametrize("by", [Threshold(0.5, "el2n"), Loss(), 0.5, None, ["loss"]])
def test_what_names_no_score_is_refused_where_the_policy_is_made(policy, by):
    with pytest.raises(InvalidValue, match=r"by=.*: the name of a score of the store, as a str such as 'el2n'"):
        GO_BY[policy](by)


def test_a_policy_within_a_policy_is_told_that_they_do_not_nest():
    with pytest.raises(InvalidValue, match=r"by=Draw\(by='loss'.*Policies do not nest: take the score that it goes by"):
        Prune(0.5, by=Draw("loss"))
