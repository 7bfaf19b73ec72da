"""`a & b` visits what both keep, with the products of their visits and weights; `Exclude` is what a window leaves out."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.scoring import EL2N, Error, Loss, Margin
from adaptive_sampler.selection import (
    Balanced,
    Composed,
    Draw,
    Exclude,
    GroupDRO,
    InfoBatch,
    KeepAll,
    Prune,
    RandomPrune,
    Stratified,
    Threshold,
    Upsample,
    Window,
    make,
)
from tests import references
from tests.selection.test_prune import SCORES, kept
from tests.statistics import SIGMAS
from tests.stores import scored

N = 40
HUNDREDTHS = st.integers(1, 99)
LOW = st.integers(1, 60)
PARTS = [
    KeepAll(),
    RandomPrune(0.8),
    Prune(0.7, "el2n"),
    Window(0.6, 0.3, "el2n"),
    Threshold(0.2, "loss"),
    Upsample(3, "loss"),
    Draw("loss", 100, floor=0.2, unbiased=True),
    InfoBatch(0.5, "loss", epochs=10),
    Exclude("el2n", lowest=0.1, highest=2),
]
NAMES = [type(part).__name__ for part in PARTS]


class Evens:
    """A policy of one's own, which inherits nothing."""

    def plan(self, store, *, epoch, seed):
        return make(store, self, epoch, seed, kept=np.arange(len(store)) % 2 == 0)


def two_scores(n=N):
    rng, store = np.random.default_rng(1), ScoreStore.create(None, n, [EL2N(), Loss(), Error(), Margin()])
    for name, values in (("el2n", rng.random(n)), ("loss", rng.random(n)), ("margin", rng.normal(size=n))):
        store.fold(name, np.arange(n), values)
    store.fold("error", np.arange(n), (rng.random(n) < 0.3).astype(float))
    return store


def visits(plan):
    """Row -> (how often it is visited, its loss weight)."""
    rows = plan.rows
    return {
        int(row): (int(times), np.float32(weight))
        for row, times, weight in zip(rows, plan.repeats_of(rows), plan.loss_weights_of(rows), strict=True)
    }


# -- a & b ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", PARTS, ids=NAMES)
@pytest.mark.parametrize("first", PARTS, ids=NAMES)
def test_rows_intersect_and_visits_and_weights_multiply(first, second):
    store = two_scores()
    parts = [visits(policy.plan(store, epoch=2, seed=7)) for policy in (first, second)]
    composed = visits((first & second).plan(store, epoch=2, seed=7))
    assert composed == references.composed(parts)


@given(scores=SCORES, keep=HUNDREDTHS, lowest=LOW)
def test_three_parts_keep_what_the_twin_keeps(scores, keep, lowest):
    store, n = scored(np.nan_to_num(scores)), len(scores)
    assume(references.cut(keep / 100, n) and references.cut(lowest / 100, n) < n)
    parts = [Prune(keep / 100, "loss"), Exclude("loss", lowest=lowest / 100), Upsample(2, "loss")]
    expected = references.composed([visits(part.plan(store, epoch=0, seed=0)) for part in parts])
    assume(expected)
    assert visits((parts[0] & parts[1] & parts[2]).plan(store, epoch=0, seed=0)) == expected


def test_the_order_of_parts_makes_no_difference_but_for_the_description():
    store, (a, b) = two_scores(), (Prune(0.5, "el2n"), RandomPrune(0.5))
    plans = [policy.plan(store, epoch=1, seed=3) for policy in (a & b, b & a)]
    assert visits(plans[0]) == visits(plans[1])


def test_random_shares_of_one_seed_are_the_same_draw():
    assert kept(RandomPrune(0.5) & RandomPrune(0.2), two_scores()) == kept(RandomPrune(0.2), two_scores())


@pytest.mark.parametrize(
    "policy",
    [
        lambda by, groups: Draw(by, unbiased=True, floor=0.5),
        lambda by, groups: InfoBatch(0.5, by, epochs=9),
        lambda by, groups: Draw(by, 0.5, replacement=False, floor=0.5),
        lambda by, groups: Stratified(0.5, by, strata=1),
        lambda by, groups: Balanced(groups),
        lambda by, groups: Balanced([*map(str, groups)]),
        lambda by, groups: GroupDRO(by, [0] * 16, eta=0.0, how="draw"),
    ],
)
def test_by_different_scores_or_groups_rows_are_drawn_independently(policy):
    """So the mean weight of a row is the product of its means, and what is unbiased by itself is so composed."""
    groups = [0, 1] * 8, [0, 0, 1, 1] * 4
    store = ScoreStore.create(None, 16, [Loss(), Loss(name="other")])
    for name, labels in zip(store.names, groups, strict=True):
        store.fold(name, np.arange(16), labels)
    parts = [policy(name, labels) for name, labels in zip(store.names, groups, strict=True)]

    def weights(policy):
        plans = [policy.plan(store, epoch=0, seed=seed) for seed in range(600)]
        return np.array([plan.repeats * plan.loss_weights for plan in plans])

    one, other, both = map(weights, (*parts, parts[0] & parts[1]))
    product = one.mean(0) * other.mean(0)
    error = both.mean(1).std() / len(both) ** 0.5
    assert abs(both.mean() - product.mean()) < SIGMAS * error


@pytest.mark.parametrize("order", ["highest", "lowest"])
def test_a_random_share_does_not_depend_on_how_ties_are_broken(order):
    store = scored(np.zeros(4000))
    both = (Prune(0.5, "loss", order=order) & RandomPrune(0.5)).plan(store, epoch=0, seed=0)
    assert 850 < both.num_rows < 1150, "a quarter of 4,000; 5 standard deviations are 140"


def test_parts_are_flattened_and_each_is_described_in_the_plan():
    policy = Prune(0.5, "el2n") & (Exclude("margin", lowest=0.02) & KeepAll())
    described = policy.plan(two_scores(), epoch=0, seed=0).policy
    assert [part["kind"] for part in described["parts"]] == ["Prune", "Exclude", "KeepAll"]
    assert (described["kind"], described["parts"][1]["lowest"]) == ("Composed", 0.02)
    assert repr(policy).count(" & ") == 2


def test_a_policy_of_ones_own_composes_on_either_side():
    store = two_scores()
    expected = {row for row in kept(Prune(0.5, "el2n"), store) if row % 2 == 0}
    for policy in (Composed(Evens(), Prune(0.5, "el2n")), Evens() & Prune(0.5, "el2n"), Prune(0.5, "el2n") & Evens()):
        assert kept(policy, store) == expected
    assert kept(Composed(Evens(), Evens()), store) == set(range(0, N, 2))


def test_hard_but_not_suspect_leaves_out_the_lowest_margins():
    store = two_scores()
    suspect = set(np.argsort(store["margin"])[:4].tolist())
    assert kept(Prune(0.5, "el2n") & Exclude("margin", lowest=0.1), store) == kept(Prune(0.5, "el2n"), store) - suspect


def test_jtt_without_the_suspect_does_not_repeat_them():
    store = two_scores()
    plan = (Upsample(20) & Exclude("margin", lowest=0.1)).plan(store, epoch=0, seed=0)
    suspect = np.argsort(store["margin"])[:4]
    assert not plan.repeats[suspect].any()
    assert set(plan.repeats.tolist()) == {0, 1, 20}


def test_an_unobserved_part_keeps_every_row_and_the_sampler_names_it():
    store = ScoreStore.create(None, 10, [Loss(), EL2N()])
    store.fold("loss", np.arange(10), np.arange(10.0))
    policy = Prune(0.5, "loss") & Exclude("el2n", lowest=0.2)
    assert kept(policy, store) == {5, 6, 7, 8, 9}
    sampler = AdaptiveSampler(store, policy)
    list(sampler)
    with pytest.warns(RuntimeWarning, match=r"leaves out no row by 'el2n'"):
        list(sampler)


def test_a_plan_for_all_epochs_waits_until_every_part_has_scores():
    store = ScoreStore.create(None, 10, [Loss(), EL2N()])
    store.fold("loss", np.arange(10), np.arange(10.0))
    sampler = AdaptiveSampler(store, Prune(0.5, "loss") & Prune(0.8, "el2n", order="lowest"), replan="once")
    assert len(list(sampler)) == 5
    store.fold("el2n", np.arange(10), np.arange(10.0))
    assert sorted(sampler) == [5, 6, 7]


def test_a_composed_policy_resumes_in_the_middle_of_an_epoch():
    store = two_scores()
    policy = Upsample(3, "loss") & Exclude("margin", highest=0.2)
    sampler = AdaptiveSampler(store, policy, seed=2)
    walk = iter(sampler)
    begun = [next(walk) for _ in range(5)]
    state = sampler.state_dict()
    rest = list(walk)
    resumed = AdaptiveSampler(store, Upsample(3, "loss") & Exclude("margin", highest=0.2), seed=2)
    resumed.load_state_dict(state)
    assert begun + list(resumed) == [*begun, *rest]


# -- what is refused --------------------------------------------------------------------------------------------------


def test_parts_without_a_common_row_are_named_with_what_each_keeps():
    both = Prune(0.3, "loss") & Prune(0.2, "loss", order="lowest")
    with pytest.raises(InvalidValue, match=r"of 10 rows Prune.* keeps 3, Prune.* keeps 2, and no row is kept by all"):
        both.plan(scored(np.arange(10.0)), epoch=0, seed=0)


@pytest.mark.parametrize("other", [None, 0.5, "el2n", Prune, [KeepAll()]], ids=repr)
def test_what_is_no_policy_cannot_be_composed(other):
    with pytest.raises(InvalidValue, match="cannot be composed: it has no method plan"):
        KeepAll() & other


def test_a_sampler_is_no_policy_though_it_has_a_plan():
    with pytest.raises(InvalidValue, match=r"AdaptiveSampler\(.*cannot be composed: it has no method plan"):
        KeepAll() & AdaptiveSampler(two_scores(), KeepAll())


@pytest.mark.parametrize("answer", [None, np.arange(3)], ids=["nothing", "rows"])
def test_a_policy_of_ones_own_that_returns_no_plan_is_named(answer):
    class Wrong:
        def plan(self, store, *, epoch, seed):
            return answer

    with pytest.raises(
        InvalidValue, match=r"Wrong object .* plans .*, no Plan: have its method plan return what selec"
    ):
        (KeepAll() & Wrong()).plan(two_scores(), epoch=0, seed=0)


def test_one_policy_alone_is_not_composed():
    with pytest.raises(InvalidValue, match=r"two policies or more, and got 1: pass Composed\(a, b\)"):
        Composed(KeepAll())


def test_visits_without_measure_are_refused():
    policy = Upsample(70_000, "loss") & Upsample(70_000, "loss")
    with pytest.raises(InvalidValue, match=r"visited up to 4900000000 times.*smaller factors"):
        policy.plan(scored([1.0, 2.0]), epoch=0, seed=0)


class Heavy:
    def plan(self, store, *, epoch, seed):
        return make(store, self, epoch, seed, weights=np.full(len(store), 1e30, np.float32))


def test_weights_without_measure_are_refused():
    with pytest.raises(InvalidValue, match=r"a loss weight is inf\. Weigh by finite"):
        Composed(Heavy(), Heavy()).plan(scored([1.0, 2.0]), epoch=0, seed=0)


class Shorter:
    def plan(self, store, *, epoch, seed):
        return make(scored([1.0]), self, epoch, seed)


def test_a_plan_of_other_rows_is_refused():
    with pytest.raises(InvalidValue, match="plans 1 rows for a store of 2: plan all rows"):
        Composed(KeepAll(), Shorter()).plan(scored([1.0, 2.0]), epoch=0, seed=0)


def test_an_unknown_score_of_a_part_is_named_when_the_sampler_is_made():
    with pytest.raises(UnknownName, match="no score 'el2n'"):
        AdaptiveSampler(scored([1.0, 2.0]), KeepAll() & Exclude("el2n", lowest=0.5))
