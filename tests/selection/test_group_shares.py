"""Groups get their shares, by draws or by weights: balanced, by group DRO; and the worst share of the losses by CVaR."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore, testing
from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.scoring import Forgetting, Loss, Mean
from adaptive_sampler.selection import Balanced, CVaR, Draw, Geometric, GroupDRO, Linear, Prune
from tests import references
from tests.stores import scored

GROUPS = [0] * 6 + [1] * 3 + [2]
LOSS = st.floats(0, 8, width=16)


def planned(policy, store, *, epoch=0, seed=0):
    return policy.plan(store, epoch=epoch, seed=seed)


def shares(plan, groups=GROUPS):
    """The share of the total weight that each group has."""
    return np.bincount(groups, plan.loss_weights * plan.repeats) / (plan.loss_weights * plan.repeats).sum()


@pytest.mark.parametrize("other", [Balanced(GROUPS * 10), GroupDRO("loss", GROUPS * 10, eta=0.0, how="draw")])
def test_a_draw_beside_one_by_groups_is_independent_of_it(other):
    store = scored([1.0] * 100)
    both = [(Draw("loss") & other).plan(store, epoch=0, seed=seed).num_samples for seed in range(100)]
    assert 90 < np.mean(both) < 110  # 100 ± 2: of each row the product of two expectations


# -- balanced draws --


def test_every_group_is_equally_likely_whatever_its_size():
    plan = planned(Balanced(GROUPS, num_samples=30_000), scored(np.zeros(10)))
    assert plan.num_samples == 30_000
    assert shares(plan) == pytest.approx([1 / 3] * 3, abs=0.01)  # 3.7 standard errors
    assert plan.repeats[:6] == pytest.approx([30_000 / 18] * 6, rel=0.1)


def test_balanced_weights_are_one_over_the_rows_of_the_group_and_one_on_average():
    plan = planned(Balanced(GROUPS, how="weigh"), scored(np.zeros(10)))
    assert plan.loss_weights == pytest.approx([10 / 18] * 6 + [10 / 9] * 3 + [10 / 3])
    assert planned(Balanced(GROUPS, power=1, how="weigh"), scored(np.zeros(10))).weights is None


def test_the_dynamic_balance_of_catalyst_is_a_power_that_shrinks():
    labels = [0] * 1000 + [1] * 100
    policy, store = Balanced(labels, power=Geometric(1.0, 0.9), how="weigh"), scored(np.zeros(1100))
    found = [shares(planned(policy, store, epoch=epoch), labels) for epoch in range(4)]
    assert [int(100 * large / small) for large, small in found] == [1000, 794, 645, 535]


def test_a_column_of_the_store_names_groups():
    store = scored(np.zeros(4))
    store.columns["source"] = ["web", "web", "web", "books"]
    assert planned(Balanced("source", how="weigh"), store).loss_weights == pytest.approx([2 / 3] * 3 + [2])
    with pytest.raises(UnknownName, match="groups='sources' is no column of the store, whose columns are: 'source'"):
        planned(Balanced("sources"), store)


def test_one_seed_is_one_balanced_draw_in_whatever_order_the_keys_stand():
    plans = []
    for order in (range(10), range(10)[::-1]):
        store = ScoreStore.create(None, 10, [Loss()], keys=[f"image-{row}" for row in order])
        plan = planned(Balanced([GROUPS[row] for row in order]), store)
        plans.append(sorted(store.key(row) for row in plan.indices()))
    assert plans[0] == plans[1]


# -- group DRO --


def group_q(scores, groups, eta):
    return shares(planned(GroupDRO("loss", groups, eta=eta), scored(scores)), groups)


def test_the_worked_numbers_of_group_dro():
    q = group_q([1.0, 3.0], [0, 1], 0.01)
    assert q == pytest.approx([0.49500017, 0.50499983], abs=1e-7)
    assert q @ [1, 3] == pytest.approx(2.0099999668, abs=1e-6)  # weights are float32


@settings(max_examples=30)
@given(data=st.data(), epochs=st.integers(1, 4), eta=st.floats(0, 1))
def test_a_mean_loss_gives_the_steps_of_all_epochs(data, epochs, eta):
    groups = np.array([0, 0, 1, 2, 2])
    losses = np.array(data.draw(st.lists(st.lists(LOSS, min_size=5, max_size=5), min_size=epochs, max_size=epochs)))
    with ScoreStore.create(None, 5, [Loss(fold=Mean())]) as store:
        for epoch, values in enumerate(losses):
            store.fold("loss", range(5), values, epoch=epoch)
        plan = planned(GroupDRO("loss", groups, eta=eta), store)
    by_group = [[values[groups == group].mean() for group in range(3)] for values in losses]
    assert shares(plan, groups) == pytest.approx(references.group_dro(by_group, eta), rel=1e-4, abs=1e-6)


def test_large_groups_weigh_no_more_than_small_ones_of_the_same_loss():
    assert group_q([2.0] * 10, GROUPS, 0.5) == pytest.approx([1 / 3] * 3)


def test_a_group_without_observations_counts_as_the_mean_of_the_others():
    assert group_q([1.0, 3.0, np.nan], [0, 1, 2], 1.0)[2] == pytest.approx(group_q([1.0, 3.0, 2.0], [0, 1, 2], 1.0)[2])
    assert group_q([1.0, np.nan, 3.0], [0, 0, 1], 0.01) == pytest.approx([0.49500017, 0.50499983], abs=1e-7)


def test_before_the_first_observation_all_groups_are_equal():
    assert group_q([np.nan] * 10, GROUPS, 0.5) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("how", ["draw", "weigh"])
def test_of_equal_losses_no_group_gets_more_however_often_its_rows_are_visited(how):
    groups = np.repeat([0, 1], [90, 10])
    policy = GroupDRO("loss", groups, eta=0.5, how=how)
    with ScoreStore.create(None, 100, [Loss(fold=Mean())]) as store:
        for epoch in range(8):
            drawn = planned(policy, store, epoch=epoch).indices()
            store.fold("loss", drawn, np.ones(len(drawn)), epoch=epoch)
        q = shares(planned(GroupDRO("loss", groups, eta=0.5), store), groups)
    assert q == pytest.approx([0.5, 0.5])


def test_a_group_whose_rows_are_drawn_makes_a_step_with_all_others():
    with ScoreStore.create(None, 4, [Loss(fold=Mean())]) as store:
        store.fold("loss", [0, 3, 3, 3], [1.0, 2.0, 3.0, 4.0])  # 4 observations of 2 rows: as 2 epochs
        q = shares(planned(GroupDRO("loss", [0, 0, 0, 1], eta=0.1), store), [0, 0, 0, 1])
    assert q == pytest.approx(references.group_dro([[1.0, 3.0]] * 2, 0.1), rel=1e-6)


def test_losses_at_the_end_of_float32_and_the_largest_step_overflow_nothing():
    with ScoreStore.create(None, 2, [Loss(fold=Mean())]) as store:
        for epoch in range(4):
            store.fold("loss", range(2), [3e38, 1e38], epoch=epoch)
        for eta in (1.0, 1e308):
            assert shares(planned(GroupDRO("loss", [0, 1], eta=eta), store), [0, 1]).tolist() == [1, 0]


def test_large_losses_overflow_nothing():
    assert group_q([1e4, 2e4], [0, 1], 10.0) == pytest.approx([0, 1])


def test_group_dro_draws_each_group_in_its_share():
    policy = GroupDRO("loss", [0, 0, 0, 1], eta=1.0, how="draw", num_samples=20_000)
    assert shares(planned(policy, scored([1.0, 1.0, 1.0, 2.0])), [0, 0, 0, 1]) == pytest.approx(
        [0.2689, 0.7311], abs=0.012
    )


def test_an_infinite_loss_is_refused_by_row():
    with ScoreStore.create(None, 3, [Forgetting()]) as store:
        store.fold("forgetting", range(3), [0, 1, 0])
        with pytest.raises(InvalidValue, match="'forgetting' of row 1 is inf: a group's loss must be finite"):
            planned(GroupDRO("forgetting", [0, 1, 1], eta=1.0), store)


# -- conditional value at risk --


@given(losses=st.lists(LOSS, min_size=1, max_size=40), alpha=st.floats(0.01, 1).map(lambda share: round(share, 2)))
def test_the_weighted_mean_loss_is_the_conditional_value_at_risk(losses, alpha):
    losses = np.float32(losses).tolist()
    weights = planned(CVaR(alpha, "loss"), scored(losses)).loss_weights
    assert weights @ np.array(losses) / len(losses) == pytest.approx(float(references.cvar(losses, alpha)), rel=1e-5)
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    assert weights.max() == pytest.approx(1 / alpha) or alpha * len(losses) < 1


def test_the_worst_quarter_of_ten_has_two_rows_and_a_half():
    weights = planned(CVaR(0.25, "loss"), scored(np.arange(10.0))).loss_weights
    assert weights.tolist() == [0.0] * 7 + [2.0, 4.0, 4.0]
    assert references.cvar(range(10), 0.25) == Fraction(9 + 8, 1) / Fraction(5, 2) + Fraction(7, 2) / Fraction(5, 2)


def test_rows_never_observed_have_the_weight_one():
    weights = planned(CVaR(0.5, "loss"), scored([1.0, np.nan, 2.0])).loss_weights
    assert weights.tolist() == [0.0, 1.0, 2.0]
    assert planned(CVaR(0.5, "loss"), scored([np.nan] * 3)).weights is None


def test_the_worst_share_is_each_groups_own():
    weights = planned(CVaR(0.5, "loss", per_group=[0, 0, 1, 1]), scored([1.0, 2.0, 9.0, 8.0])).loss_weights
    assert weights.tolist() == [0.0, 2.0, 2.0, 0.0]


# -- all of them --


@pytest.mark.parametrize(
    "policy",
    [
        Balanced(GROUPS),
        Balanced(GROUPS, power=Linear(1.0, 0.0, epochs=4), how="weigh"),
        GroupDRO("loss", GROUPS, eta=Linear(0, 1, epochs=3)),
        GroupDRO("loss", GROUPS, eta=0.1, how="draw", num_samples=0.5),
        CVaR(Linear(1.0, 0.2, epochs=3), "loss"),
        Prune(0.8, "loss") & GroupDRO("loss", GROUPS, eta=0.1),
    ],
    ids=lambda policy: repr(policy)[:20],
)
def test_a_policy_of_groups_is_pure_and_its_plans_can_be_restored(policy):
    testing.check_policy(policy, scored(np.arange(10.0)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Balanced(None), "groups=None: the name of a column of the store, or"),
        (lambda: Balanced(GROUPS, power=2), "power=2: 0 for balance, 1 for groups as they are"),
        (lambda: Balanced(GROUPS, how="count"), "how='count': one of 'draw', 'weigh'"),
        (lambda: Balanced(GROUPS, how="weigh", num_samples=3), "num_samples=3 with how='weigh'"),
        (lambda: Balanced(GROUPS, num_samples=-0.5), "num_samples=-0.5: a share of the rows"),
        (lambda: Balanced([0.0, np.nan]), "groups of row 1 is NaN, which is no class"),
        (lambda: GroupDRO("loss", GROUPS, eta=-1), "eta=-1: the size of a step"),
        (lambda: GroupDRO("loss", GROUPS, eta=np.inf), "eta=inf: the size of a step"),
        (lambda: GroupDRO(3, GROUPS, eta=1), "by=3: the name of a score"),
        (lambda: CVaR(0, "loss"), "alpha=0: the worst share, a fraction"),
        (lambda: CVaR(1.5, "loss"), "alpha=1.5: the worst share"),
        (lambda: CVaR(1e-45, "loss"), "alpha=1e-45: .* 1 / alpha is no float32"),
        (
            lambda: planned(Balanced(GROUPS[:9]), scored(np.zeros(10))),
            r"groups has shape \(9,\): one label for each of the 10",
        ),
    ],
)
def test_what_is_no_share_and_no_group_is_refused_with_the_rule(make, words):
    with pytest.raises(InvalidValue, match=words):
        make()
