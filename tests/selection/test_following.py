"""Any number of a policy may follow the epoch: a plan is that of the policy with the number of its epoch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import AdaptiveSampler, ScoreStore, testing
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import (
    Clip,
    Cosine,
    Draw,
    Exclude,
    Exponential,
    Focal,
    Geometric,
    InfoBatch,
    Linear,
    Proportional,
    Prune,
    RandomPrune,
    Root,
    Steps,
    Stratified,
    Threshold,
    Upsample,
    Weigh,
    Window,
    at_epoch,
)
from tests.stores import scored

SHARES = Linear(0.3, 0.9, epochs=4)


def half_a_tenth_more(epoch):
    return 0.5 + 0.1 * min(epoch, 4)


PAIRS = [  # a policy that follows the epoch, and the same at epoch 2
    (RandomPrune(SHARES), RandomPrune(0.6)),
    (Prune(SHARES, "loss"), Prune(0.6, "loss")),
    (Prune(half_a_tenth_more, "loss"), Prune(half_a_tenth_more(2), "loss")),
    (Prune(Steps({0: 10, 2: 20}), "loss", per_group=[0, 1] * 20), Prune(20, "loss", per_group=[0, 1] * 20)),
    (Window(0.1, SHARES, "loss"), Window(0.1, 0.6, "loss")),
    (Window(SHARES, Linear(0.7, 0.1, epochs=4), "loss"), Window(0.6, 0.4, "loss")),
    (Exclude("loss", highest=SHARES), Exclude("loss", highest=0.6)),
    (Stratified(SHARES, "loss", skip_hardest=Cosine(0.1, 0.0, epochs=2)), Stratified(0.6, "loss", skip_hardest=0.0)),
    (Threshold(Geometric(5.0, 2), "loss", order="lowest"), Threshold(20.0, "loss", order="lowest")),
    (Upsample(Steps({0: 1, 2: 3}), "loss"), Upsample(3, "loss")),
    (Draw("loss", SHARES, floor=SHARES), Draw("loss", 0.6, floor=0.6)),
    (InfoBatch(SHARES, epochs=9), InfoBatch(0.6, epochs=9)),
    (Weigh("loss", Exponential(Linear(1, 5, epochs=4))), Weigh("loss", Exponential(3.0))),
    (
        Weigh("loss", [Proportional(SHARES), Clip(highest=Linear(0.2, 0.4, epochs=4))]),
        Weigh("loss", [Proportional(0.6), Clip(highest=0.3)]),
    ),
    (Prune(SHARES, "loss") & Exclude("loss", lowest=SHARES), Prune(0.6, "loss") & Exclude("loss", lowest=0.6)),
    (Prune(0.5, "loss", max_age=Steps({0: 9, 2: 3})), Prune(0.5, "loss", max_age=3)),
]
PAIRS_ = pytest.mark.parametrize(("following", "fixed"), PAIRS, ids=[str(type(a).__name__) for a, _ in PAIRS])


@PAIRS_
def test_a_plan_is_that_of_the_policy_with_the_numbers_of_its_epoch(following, fixed):
    store = scored(np.arange(40.0))
    assert following.plan(store, epoch=2, seed=5).id == fixed.plan(store, epoch=2, seed=5).id
    assert following.plan(store, epoch=0, seed=5).policy != fixed.plan(store, epoch=2, seed=5).policy
    testing.check_policy(following, store)


@PAIRS_
def test_without_a_schedule_a_policy_is_its_own_at_every_epoch(following, fixed):
    assert at_epoch(fixed, 2) is fixed
    assert repr(at_epoch(following, 2)) == repr(fixed)


@given(epoch=st.integers(0, 12))
def test_a_plan_names_the_number_that_was_used(epoch):
    plan = Prune(Root(0.1, 1.0, epochs=10), "loss").plan(scored(np.arange(40.0)), epoch=epoch, seed=0)
    assert plan.policy["keep"] == Root(0.1, 1.0, epochs=10)(epoch)


def test_self_paced_learning_takes_what_is_below_a_threshold_that_grows():
    store = scored([0.1, 0.5, 1.0, 2.0, 4.0])
    policy = Threshold(Geometric(0.5, 2), "loss", order="lowest")
    taken = [policy.plan(store, epoch=epoch, seed=0).rows.tolist() for epoch in range(5)]
    assert taken == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]]  # strictly below .5, 1, 2, 4, 8


def test_a_curriculum_is_easy_first_and_only_grows():
    store = scored(np.arange(100.0))
    policy = Prune(Root(0.1, 1.0, epochs=4), "loss", order="lowest")
    taken = [policy.plan(store, epoch=epoch, seed=0).rows for epoch in range(6)]
    assert [len(rows) for rows in taken] == [10, 51, 71, 87, 100, 100]
    assert all(rows.tolist() == list(range(len(rows))) for rows in taken)


def test_annealing_is_a_ratio_that_ends_at_zero():
    store = scored([0.1, 0.2, 0.3, 2.0, 3.0])
    annealed, stepped = InfoBatch(epochs=8), InfoBatch(Steps({0: 0.5, 7: 0.0}), anneal=1.0, epochs=8)
    for epoch in range(8):
        one, other = (policy.plan(store, epoch=epoch, seed=1) for policy in (annealed, stepped))
        assert one.loss_weights.tolist() == other.loss_weights.tolist()
    assert other.loss_weights.tolist() == [1] * 5


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (lambda: Prune(Linear(0.5, 1.5, epochs=4), "loss"), r"in epoch 3, by keep of Linear\(.*\): keep=1.25: must be"),
        (lambda: RandomPrune(Linear(0.2, -0.2, epochs=4)), r"in epoch 2, .*: keep=0.0: must be a fraction"),
        (
            lambda: Window(Linear(0.5, 0.9, epochs=4), 0.3, "loss"),
            "in epoch 3, by keep of .*the window ends past the last",
        ),
        (lambda: Upsample(Linear(1, 4, epochs=4), "loss"), r"in epoch 0, by factor of .*factor=1.0: a whole number"),
        (lambda: Prune(Geometric(0.5, 1.1), "loss"), "in epoch 8, by keep of .*keep=1.071794405: must be"),
        (lambda: Prune(lambda epoch: 2.0, "loss"), "in epoch 0, by keep of .*<lambda>: keep=2.0: must be"),
        (lambda: Prune(lambda epoch: "all", "loss"), "keep in epoch 0 is 'all' by .*<lambda>: have it return a number"),
        (
            lambda: Draw("loss", floor=lambda epoch: None),
            "in epoch 0, by floor of .*: floor=None: the share drawn uniformly",
        ),
        (
            lambda: Weigh("loss", [Linear(0.1, 1, epochs=3)]),
            r"how=Linear\(.*\): a number for each epoch, and no weights of scores",
        ),
        (lambda: Focal(Linear(1, -1, epochs=2)), "in epoch 2, by gamma of .*gamma=-1.0: the exponent"),
        (lambda: Prune(SHARES, 3), "by=3: the name of a score"),
    ],
)
def test_a_number_that_leaves_its_rule_is_refused_with_epoch_value_and_rule_when_the_policy_is_made(policy, words):
    with pytest.raises(InvalidValue, match=words):
        policy()


def test_what_only_the_epoch_tells_is_refused_with_it_when_it_is_planned():
    store = scored(np.arange(5.0))
    late = Prune(lambda epoch: 0.5 + epoch, "loss")
    with pytest.raises(InvalidValue, match=r"in epoch 3, by keep of .*: keep=3.5: must be a fraction"):
        late.plan(store, epoch=3, seed=0)
    with pytest.raises(InvalidValue, match=r"in epoch 2, by keep of Steps.*: keep=9 asks for 9 of 5 rows"):
        Prune(Steps({0: 2, 2: 9}), "loss").plan(store, epoch=2, seed=0)


def test_what_a_plan_cannot_name_is_refused_when_the_policy_is_made():
    unnamed = [object()]
    with pytest.raises(InvalidValue, match="which a plan cannot name"):
        Prune(lambda epoch: len(unnamed) / 2, "loss")


def test_labels_are_copied_once_however_many_epochs_are_checked():
    labels = np.array([0, 1] * 20)
    policy = Prune(SHARES, "loss", per_group=labels)
    labels[:] = 0
    assert policy.per_group.tolist() == [0, 1] * 20
    assert at_epoch(policy, 3).per_group is policy.per_group


def walked(store, policy, **settings):
    return AdaptiveSampler(store, policy, seed=1, **settings)


def test_a_sampler_plans_each_epoch_with_its_number():
    sampler = walked(scored(np.arange(100.0)), Prune(Linear(0.2, 1.0, epochs=4), "loss"))
    lengths = []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        lengths.append(len(list(sampler)))
    assert lengths == [20, 40, 60, 80, 100, 100]
    assert sampler.upcoming_length() == 100


def test_one_plan_for_good_is_refused_where_a_number_follows_the_epoch():
    store = scored(np.arange(10.0))
    for policy in (Prune(SHARES, "loss"), Weigh("loss", Exponential(Linear(1, 5, epochs=4))) & Prune(0.5, "loss")):
        with pytest.raises(InvalidValue, match=r"replan='once' makes one plan for good, .* pass replan='epoch'"):
            walked(store, policy, replan="once")


def test_a_walk_goes_on_exactly_from_a_state_amid_an_epoch_of_a_schedule(tmp_path):
    with ScoreStore.create(tmp_path / "store", 50, [Loss()]) as store:
        store.fold("loss", range(50), np.arange(50.0))
        store.commit()
        sampler, rest = walked(store, Prune(SHARES, "loss")), walked(store, Prune(SHARES, "loss"))
        sampler.set_epoch(2)
        walk = iter(sampler)
        first = [next(walk) for _ in range(11)]
        rest.load_state_dict(sampler.state_dict())
        again = walked(store, Prune(SHARES, "loss"))
        again.set_epoch(2)
        assert first + list(rest) == list(again)
        assert len(again) == 30
        with pytest.raises(ResumeError):
            walked(store, Prune(Linear(0.3, 0.9, epochs=5), "loss")).load_state_dict(sampler.state_dict())


def test_a_table_is_planned_with_the_numbers_of_the_epoch():
    pa = pytest.importorskip("pyarrow")
    from adaptive_sampler.tables import plan_table

    table = pa.table({"key": np.arange(40), "loss": np.arange(40.0)})
    following, fixed = (
        Prune(SHARES, "loss") & Threshold(Geometric(1.0, 3), "loss"),
        Prune(0.6, "loss") & Threshold(9.0, "loss"),
    )
    plans = [plan_table(table, policy, key="key", epoch=2) for policy in (following, fixed)]
    assert plans[0].id == plans[1].id
