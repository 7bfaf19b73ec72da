"""Coverage-centric selection keeps what its twin keeps: as many rows of each stratum, none of the hardest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore, testing
from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.scoring import Forgetting, Loss
from adaptive_sampler.selection import Prune, RandomPrune, Stratified
from adaptive_sampler.selection.stratified import allocated
from tests import references
from tests.stores import scored

SCORE = st.one_of(st.integers(-9, 9), st.floats(-10, 10, width=16), st.just(np.nan))
SCORES = st.lists(SCORE, min_size=1, max_size=60)
KEEP = st.floats(0.05, 1).map(lambda share: round(share, 2))


def kept(policy, store, *, epoch=0, seed=0):
    return set(policy.plan(store, epoch=epoch, seed=seed).rows.tolist())


def by_stratum(scores, rows, number):
    """How many of `rows` each stratum of `scores` has."""
    return [len(rows.intersection(some)) for some in references.strata(scores, number)]


def test_the_worked_allocation_of_the_reference():
    assert allocated(np.array([[10, 2, 5]]), np.array([9])).tolist() == [[4, 2, 3]]
    scores = [0.0] * 10 + [1.0] * 2 + [2.0] * 5
    assert by_stratum(scores, kept(Stratified(9, "loss", strata=3), scored(scores)), 3) == [4, 2, 3]


@given(counts=st.lists(st.integers(0, 20), min_size=1, max_size=60), share=st.floats(0, 1))
def test_the_allocation_is_that_of_its_twin_and_deals_out_the_whole_budget(counts, share):
    budget = int(sum(counts) * share)
    given = allocated(np.array([counts]), np.array([budget]))[0].tolist()
    assert given == references.allocated(counts, budget)
    assert sum(given) == budget


def test_strata_without_rows_leave_their_part_to_the_others():
    scores = [0.0] * 10 + [49.0] * 10
    assert by_stratum(scores, kept(Stratified(8, "loss"), scored(scores)), 50) == [4] + [0] * 48 + [4]


@settings(max_examples=60)
@given(scores=SCORES, keep=KEEP, strata=st.integers(1, 12))
def test_each_stratum_gives_what_its_twin_gives(scores, keep, strata):
    scores = np.float32(scores).tolist()
    unseen = {row for row, score in enumerate(scores) if np.isnan(score)}
    budget = references.cut(keep, len(scores))
    if budget == 0 or len(unseen) == len(scores):
        return
    found = kept(Stratified(keep, "loss", strata=strata), scored(scores))
    given = references.allocated([*map(len, references.strata(scores, strata))], max(budget - len(unseen), 0))
    assert unseen <= found
    assert by_stratum(scores, found, strata) == given


@pytest.mark.parametrize("hardest", ["highest", "lowest"])
@settings(max_examples=60)
@given(scores=SCORES, keep=KEEP, skip=KEEP, strata=st.integers(1, 9))
def test_the_hardest_are_left_out_before_the_strata_are_made(hardest, scores, keep, skip, strata):
    scores = [float(score) for score in np.nan_to_num(np.float32(scores))]
    budget, both = references.cut(keep, len(scores)), references.cut(round(keep + skip, 2), len(scores))
    if keep + skip > 1 or budget == 0:
        return
    policy = Stratified(keep, "loss", strata=strata, skip_hardest=skip, hardest=hardest)
    found = kept(policy, scored(scores))
    easiest = sorted(scores, reverse=hardest == "lowest")[: len(scores) - (both - budget)]
    given = references.allocated([*map(len, references.strata(easiest, strata))], budget)
    ends = [min(easiest), max(easiest)]  # of the range: the strata of these rows are counted alone
    counted = by_stratum([*(scores[row] for row in sorted(found)), *ends], set(range(len(found))), strata)
    assert counted == given


def test_skipping_leaves_a_far_outlier_no_say_in_the_strata():
    scores = [
        *np.float32(np.linspace(0, 1, 99)).tolist(),
        1000.0,
    ]  # as they are stored: a rounded one may lie in another stratum
    assert max(by_stratum(scores, kept(Stratified(50, "loss", strata=10), scored(scores)), 10)) == 49
    found = kept(Stratified(50, "loss", strata=10, skip_hardest=0.01), scored(scores))
    assert by_stratum(scores[:99], found, 10) == [5] * 10


@pytest.mark.parametrize("scores", [[-5.0, -3.0, -1.0], [-1e-30, 0.0, 1e-30], [3e38, -3e38, 0.0]])
def test_each_score_lies_in_a_stratum_whatever_its_sign_and_size(scores):
    assert kept(Stratified(3, "loss", strata=3), scored(scores)) == {0, 1, 2}


def test_equal_scores_are_one_stratum_of_which_a_random_part_is_kept():
    store, policy = scored([0.5] * 100), Stratified(0.3, "loss")
    assert len(kept(policy, store)) == 30
    assert kept(policy, store) == kept(policy, store) != kept(policy, store, seed=1)
    assert kept(policy, store) != kept(policy, store, epoch=1)


def test_infinite_scores_lie_in_the_last_stratum_of_the_finite_ones():
    with ScoreStore.create(None, 6, [Forgetting()]) as store:
        store.fold("forgetting", [0, 1, 2, 3, 4, 5, 5], [1, 1, 1, 0, 0, 0, 1])  # never right, never wrong, once
        assert np.isinf(store["forgetting"][:3]).all()
        found = kept(Stratified(3, "forgetting", strata=2), store)
    assert len(found & {3, 4}) == 1  # of events 0
    assert len(found & {0, 1, 2, 5}) == 2


def test_a_store_of_infinite_scores_alone_has_one_stratum():
    with ScoreStore.create(None, 4, [Forgetting()]) as store:
        store.fold("forgetting", range(4), [1] * 4)
        assert len(kept(Stratified(2, "forgetting"), store)) == 2


def test_rows_never_observed_fill_keep_first():
    store = scored([np.nan, 1.0, 2.0, np.nan, 3.0])
    assert kept(Stratified(2, "loss"), store) == {0, 3}
    assert {0, 3} < kept(Stratified(3, "loss"), store)


def test_a_score_that_nobody_observed_keeps_everything():
    assert kept(Stratified(2, "loss"), scored([np.nan] * 5)) == set(range(5))


def test_rows_older_than_max_age_come_first():
    store = scored([1.0, 2.0, 3.0, 4.0, 5.0], epochs=[9, 2, 5, 9, 9])
    assert kept(Stratified(2, "loss", max_age=3), store, epoch=9) == {1, 2}


def test_within_groups_ranges_strata_and_shares_are_each_groups_own():
    scores, groups = [0.0, 0.0, 0.0, 1.0, 0.0, 50.0, 100.0, 100.0], ["a"] * 4 + ["b"] * 4
    found = kept(Stratified(0.5, "loss", strata=2, per_group=groups), scored(scores))
    assert 3 in found
    assert len(found & {0, 1, 2}) == 1
    assert len(found & {4}) == len(found & {5, 6, 7}) == 1


def test_a_group_keeps_one_row_at_least():
    assert kept(Stratified(0.1, "loss", per_class=[0, 0, 0, 1]), scored([1.0, 1.0, 1.0, 2.0])) >= {3}


@given(scores=st.lists(st.integers(0, 3), min_size=4, max_size=40), seed=st.integers(0, 3))
def test_one_seed_is_one_plan_in_whatever_order_the_keys_stand(scores, seed):
    keys, plans = [f"image-{row}" for row in range(len(scores))], []
    for order in (range(len(scores)), range(len(scores))[::-1]):
        store = ScoreStore.create(None, len(scores), [Loss()], keys=[keys[row] for row in order])
        store.fold("loss", range(len(scores)), [scores[row] for row in order])
        plan = Stratified(0.5, "loss", strata=3, skip_hardest=0.1).plan(store, epoch=3, seed=seed)
        plans.append(sorted(store.key(row) for row in plan.rows))
    assert plans[0] == plans[1]


def test_a_choice_at_random_beside_another_one_is_independent_of_it():
    store = scored([0.0] * 4000)
    both = kept(Stratified(0.5, "loss") & RandomPrune(0.5) & Prune(0.5, "loss"), store)
    assert 400 < len(both) < 600  # 500 ± 21


def test_a_stratified_plan_is_pure_and_names_its_policy():
    store, policy = scored(np.arange(100.0)), Stratified(0.3, "loss", strata=7, skip_hardest=0.1)
    testing.check_policy(policy, store)
    told = policy.plan(store, epoch=0, seed=0).policy
    assert {"kind": "Stratified", "keep": 0.3, "strata": 7, "skip_hardest": 0.1}.items() <= told.items()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"keep": 0}, "keep=0: must be a fraction"),
        ({"strata": 0}, "strata=0: a number of strata, 1 or more, 65536 at most"),
        ({"strata": 2.0}, "strata=2.0: a number of strata"),
        ({"skip_hardest": 1.5}, "skip_hardest=1.5: must be a fraction"),
        ({"skip_hardest": 0.6}, r"skip_hardest=0.6 \+ keep=0.5 is 1.1: more than there is. Keep at most 0.4"),
        ({"hardest": "top"}, "hardest='top': one of 'highest', 'lowest'"),
        ({"max_age": 0}, "max_age=0: a number of epochs"),
    ],
)
def test_an_argument_that_is_none_is_refused_with_the_rule(arguments, words):
    with pytest.raises(InvalidValue, match=words):
        Stratified(**{"keep": 0.5, "by": "loss"} | arguments)


def test_counts_above_the_rows_are_refused():
    with pytest.raises(InvalidValue, match=r"keep=4 \+ skip_hardest=2 asks for 6 of 5 rows"):
        Stratified(4, "loss", skip_hardest=2).plan(scored([1.0] * 5), epoch=0, seed=0)


def test_more_strata_of_all_groups_than_have_numbers_are_refused():
    policy = Stratified(0.5, "loss", strata=2**16, per_group=np.arange(2**15))
    with pytest.raises(InvalidValue, match="strata=65536 of each of 32768 groups are 2147483648 or more"):
        policy.plan(scored(np.ones(2**15)), epoch=0, seed=0)


def test_an_unknown_score_is_an_error_also_before_the_first_observation():
    with pytest.raises(UnknownName, match="no score 'el2n'"):
        Stratified(0.5, "el2n").plan(scored([np.nan] * 3), epoch=0, seed=0)
