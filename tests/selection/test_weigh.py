"""`Weigh` keeps every row and weighs its loss by its score, in the ways of the literature or by a function of one's own."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import AdaptiveSampler, ScoreStore, testing
from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.scoring import Confidence, Loss
from adaptive_sampler.selection import (
    Clip,
    Draw,
    Exponential,
    Focal,
    InfoBatch,
    KeepAll,
    Proportional,
    Prune,
    Ratio,
    Upsample,
    Weigh,
    make,
)
from tests import references
from tests.stores import scored

LOSSES = st.lists(st.floats(0, 16, width=16), min_size=1, max_size=40)
SHARES = st.tuples(st.integers(0, 49), st.integers(1, 49))  # hundredths at either end
EXAMPLE = [0.5, 2.0, 1.0, 4.5]  # mean 2


def weights(policy, store, epoch=2, seed=0):
    return policy.plan(store, epoch=epoch, seed=seed).loss_weights


def of(values, how, **more):
    """The weights that `how` makes of these scores."""
    return weights(Weigh("loss", how, **more), scored(values))


def near(values, relative=1e-5):
    return pytest.approx(values, rel=relative, abs=1e-7)


def two_scores(first, second, names=("target", "proposal")):
    store = ScoreStore.create(None, len(first), [Loss(name=name) for name in names])
    for name, values in zip(names, (first, second), strict=True):
        rows = np.flatnonzero(~np.isnan(values))
        store.fold(name, rows, np.asarray(values, np.float32)[rows])
    return store


# -- the ways of the literature ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "gamma", "weight"), [(0.9, 2, 0.01), (0.5, 2, 0.25), (1.0, 2, 0.0), (0.0, 5, 1.0), (0.5, 0.5, 0.5**0.5)]
)
def test_focal_weighs_by_what_is_missing_to_certainty(p, gamma, weight):
    assert of([p, 0.5], Focal(gamma))[0] == near(weight)


def test_focal_with_gamma_zero_weighs_nothing():
    plan = Weigh("loss", Focal(0)).plan(scored([0.0, 0.3, 1.0]), epoch=1, seed=0)
    assert not plan.weighted


def test_linear_is_the_score_over_the_mean_score():
    assert of(EXAMPLE, "linear").tolist() == [0.25, 1.0, 0.5, 2.25]


def test_a_floor_leaves_every_row_a_share_of_equal_weight():
    assert of([0.0, 2.0], Proportional(floor=0.1)) == near([0.1, 1.9])


@pytest.mark.parametrize(("floor", "weight"), [(0.0, 0.0), (0.1, 1.0)])
def test_where_all_scores_are_zero_a_floor_makes_all_weights_one(floor, weight):
    assert of([0.0, 0.0, np.nan], Proportional(floor)).tolist() == [weight, weight, 1.0]


def test_exponential_makes_a_factor_of_e_of_each_temperature():
    found = of([0.0, 1.0, 2.0], Exponential(0.5))
    assert (found[1] / found[0], found[2] / found[1]) == (near(np.e**2), near(np.e**2))
    assert found.mean() == near(1)


def test_a_negative_temperature_weighs_high_scores_down():
    assert of([0.0, 1.0, 2.0], Exponential(-1)) == near(of([2.0, 1.0, 0.0], Exponential(1)))


def test_exponential_weights_of_any_finite_scores_are_finite():
    assert of([0.0, 3e38, 3e38], Exponential(1e-30)).tolist() == [0, 1.5, 1.5]


def test_clip_brings_in_the_ends_of_scores_before_and_of_weights_after_another_step():
    scores = [1.0, 2.0, 3.0, 100.0]
    before, after = of(scores, [Clip(highest=0.25), "linear"]), of(scores, ["linear", Clip(highest=0.25)])
    assert before == near(np.array([1, 2, 3, 3]) / 2.25)
    assert after == near(np.array([1, 2, 3, 3]) / 26.5)


def test_ratio_is_the_first_score_over_the_second():
    store = two_scores([1.0, 2.0, 3.0], [2.0, 2.0, 1.0])
    assert weights(Weigh(["target", "proposal"], "ratio"), store).tolist() == [0.5, 1.0, 3.0]


def test_draw_beside_the_ratio_to_a_uniform_target_is_the_unbiased_draw():
    store = two_scores(np.ones(50), np.linspace(0.5, 1.5, 50))  # equal sums
    composed = Draw("proposal") & Weigh(["target", "proposal"], Ratio())
    plans = [policy.plan(store, epoch=1, seed=3) for policy in (composed, Draw("proposal", unbiased=True))]
    assert plans[0].indices().tolist() == plans[1].indices().tolist()
    assert plans[0].loss_weights == near(plans[1].loss_weights)


@given(st.lists(st.floats(0, 1, width=16), min_size=1, max_size=40), st.sampled_from([0.5, 1.0, 2.0, 5.0]))
def test_focal_weights_are_those_of_the_twin(values, gamma):
    scores = [*values, 0.5]
    assert of(scores, Focal(gamma)) == near(references.focal(scores, gamma))


@given(LOSSES, st.sampled_from([0.0, 0.25, 1.0]))
def test_proportional_weights_are_those_of_the_twin(values, floor):
    scores = [*values, 1.0]
    assert of(scores, Proportional(floor)) == near(references.proportional(scores, floor))


@given(LOSSES, st.sampled_from([0.5, 2.0, -1.0]))
def test_exponential_weights_are_those_of_the_twin(values, temperature):
    assert of(values, Exponential(temperature)) == near(references.exponential(values, temperature))


@given(LOSSES, SHARES)
def test_clipped_weights_are_those_of_the_twin(values, shares):
    lowest, highest = (share / 100 for share in shares)
    scores = [float(np.float32(value + 1)) for value in values]
    assert of(scores, Clip(lowest, highest)).tolist() == references.clip(scores, lowest, highest)


# -- functions of one's own -------------------------------------------------------------------------------------------


def truncated(scores):
    """Ionides 2008: a weight is no more than √m times the mean."""
    return np.minimum(scores, scores.mean() * len(scores) ** 0.5)


def test_a_function_gets_the_scores_of_observed_rows_as_float32():
    seen = []
    of([3.0, np.nan, 1.0], lambda scores: seen.append(scores) or scores)
    assert (seen[0].tolist(), seen[0].dtype) == ([3.0, 1.0], np.float32)


@pytest.mark.parametrize(
    "how", [truncated, np.sqrt, [np.log1p, truncated], lambda scores: scores > 1], ids=["def", "ufunc", "list", "mask"]
)
def test_a_function_of_ones_own_weighs(how):
    steps = how if isinstance(how, list) else [how]
    expected = np.float32(EXAMPLE)
    for step in steps:
        expected = np.float32(step(expected))
    assert of(EXAMPLE, how) == near(expected)


def test_a_function_of_several_scores_gets_those_of_rows_observed_for_all_of_them():
    store = two_scores([1.0, 2.0, 3.0, np.nan], [4.0, np.nan, 2.0, 1.0])
    found = weights(Weigh(("target", "proposal"), lambda target, proposal: target + proposal), store)
    assert found.tolist() == [5, 1, 5, 1]


def test_a_function_that_changes_what_it_gets_changes_no_score():
    def halved(scores):
        scores /= 2
        return scores

    store = scored(EXAMPLE)
    for _ in range(2):
        assert weights(Weigh("loss", halved), store) == near(np.array(EXAMPLE) / 2)
    assert store["loss"].tolist() == EXAMPLE


def test_a_function_may_return_an_array_of_float64():
    assert of(EXAMPLE, lambda scores: scores.astype(np.float64) / 3).dtype == np.float32


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda scores: None, r"<lambda> returns NoneType of shape \(\) .*one real number for each is needed, \(4,\)"),
        (lambda scores: scores[:, None], r"of shape \(4, 1\) and dtype float32 for 4 scores"),
        (lambda scores: scores[1:], r"of shape \(3,\)"),
        (lambda scores: scores.mean(), r"returns float32 of shape \(\)"),
        (lambda scores: scores + 1j, "dtype complex64"),
    ],
)
def test_what_is_no_number_for_each_score_is_refused(how, words):
    with pytest.raises(InvalidValue, match=words):
        of(EXAMPLE, how)


# -- rows, means and zeros --------------------------------------------------------------------------------------------


def test_every_row_is_visited_once():
    plan = Weigh("loss", "linear").plan(scored(EXAMPLE), epoch=1, seed=0)
    assert (plan.num_samples, plan.num_rows, plan.weighted) == (4, 4, True)


def test_rows_never_observed_have_weight_one():
    assert of([np.nan, 1.0, 3.0], "linear").tolist() == [1, 0.5, 1.5]


def test_as_long_as_no_row_was_observed_nothing_is_weighed_and_no_function_called():
    def never(scores):
        raise AssertionError

    assert of([np.nan] * 3, never).tolist() == [1, 1, 1]


@pytest.mark.parametrize("values", [[7.0], [0.25] * 5], ids=["one row", "equal scores"])
@pytest.mark.parametrize("how", ["linear", "exponential"])
def test_what_has_mean_one_weighs_nothing_where_scores_are_equal(values, how):
    assert not Weigh("loss", how).plan(scored(values), epoch=1, seed=0).weighted


def test_weights_are_what_the_function_made_unless_their_mean_is_to_be_one():
    assert of([0.9, 0.5], Focal()) == near([0.01, 0.25])
    assert of([0.9, 0.5, np.nan], Focal(), normalize=True) == near([0.01 / 0.13, 0.25 / 0.13, 1])


def test_rows_of_weight_zero_are_visited():
    plan = Weigh("loss", Focal()).plan(scored([1.0, 0.5]), epoch=1, seed=0)
    assert (plan.num_rows, plan.loss_weights.tolist()) == (2, [0, 0.25])


@pytest.mark.parametrize("normalize", [False, True])
def test_zero_for_all_observed_rows_is_allowed_beside_rows_that_were_not(normalize):
    assert of([1.0, 1.0, np.nan], Focal(), normalize=normalize).tolist() == [0, 0, 1]


def test_an_epoch_without_any_weight_is_refused():
    with pytest.raises(InvalidValue, match=r"Weigh\(.*every loss weight is 0, so that nothing would be learned"):
        of([1.0, 1.0], Focal())
    assert of([1.0, 1.0], [Focal(), lambda weights: weights + 0.01]) == near([0.01, 0.01])  # the remedy


def test_an_epoch_of_which_no_kept_row_has_a_weight_is_refused():
    store = scored([1.0, 0.5])
    with pytest.raises(InvalidValue, match="every loss weight is 0"):
        (Prune(0.5, "loss") & Weigh("loss", "focal")).plan(store, epoch=1, seed=0)


# -- beside other policies, in a sampler ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", [Prune(0.5, "loss"), Upsample(3, "loss"), InfoBatch(0.5, "loss", epochs=10), Weigh("loss", "linear")]
)
def test_weights_multiply_and_the_order_makes_no_difference(other):
    store, weigh = scored(np.linspace(0.1, 0.9, 20)), Weigh("loss", Exponential(0.3))
    plans = [policy.plan(store, epoch=2, seed=5) for policy in (other & weigh, weigh & other)]
    alone = other.plan(store, epoch=2, seed=5)
    assert all(np.array_equal(plan.repeats, alone.repeats) for plan in plans)
    expected = np.where(alone.repeats > 0, alone.loss_weights.astype(np.float64) * weights(weigh, store), 0)
    for plan in plans:
        assert plan.loss_weights == near(expected)


def test_the_mean_is_that_of_all_observed_rows_not_of_what_another_part_keeps():
    plan = (Prune(2, "loss") & Weigh("loss", "linear")).plan(scored(EXAMPLE), epoch=1, seed=0)
    assert plan.loss_weights.tolist() == [0, 1.0, 0, 2.25]


@pytest.mark.parametrize(
    "how",
    [
        "focal",
        "linear",
        Exponential(0.5),
        ["exponential", Clip(0.05, 0.05)],
        truncated,
        np.sqrt,
        lambda scores: scores + 1,
    ],
    ids=["focal", "linear", "temperature", "several", "def", "ufunc", "lambda"],
)
def test_a_way_to_weigh_keeps_the_contract_of_policies(how):
    testing.check_policy(Weigh("loss", how), scored([*np.linspace(0, 1, 30), np.nan]))


def test_a_ratio_keeps_the_contract_of_policies():
    store = two_scores([1.0, 2.0, np.nan], [1.0, 3.0, 2.0])
    testing.check_policy(Weigh(["target", "proposal"], "ratio", normalize=True) & Draw("proposal"), store)


def test_a_sampler_gives_the_weights_of_its_rows():
    sampler = AdaptiveSampler(scored(EXAMPLE), Prune(2, "loss") & Weigh("loss", "linear"))
    rows = np.array(list(sampler))
    assert dict(zip(rows.tolist(), sampler.loss_weights(rows).tolist(), strict=True)) == {1: 1.0, 3: 2.25}


def test_a_sampler_names_each_score_that_is_not_in_its_store():
    with pytest.raises(UnknownName, match="no score 'proposal'"):
        AdaptiveSampler(scored(EXAMPLE), Weigh(["loss", "proposal"], "ratio"))


def test_a_sampler_warns_of_the_score_that_nothing_feeds():
    store = ScoreStore.create(None, 4, [Confidence(), Loss()])
    sampler = AdaptiveSampler(store, Weigh("confidence", "focal"))
    list(sampler)
    with pytest.warns(RuntimeWarning, match="goes by 'confidence', and no row of it was observed"):
        list(sampler)


# -- what is refused --------------------------------------------------------------------------------------------------


def folded(values):
    """A store with scores that may be infinite, which no loss is."""

    @dataclass(frozen=True)
    class Held:
        made_from = scored([1.0]).made_from

        def __len__(self):
            return len(values)

        def __getitem__(self, name):
            return np.float32(values)

    return Held()


@pytest.mark.parametrize(
    ("how", "values", "words"),
    [
        (
            "focal",
            [0.5, np.nan, 1.2],
            r"row 2 has 'loss' 1\.2, and Focal\(gamma=2\.0\) makes nan of it\. It takes prob",
        ),
        (Focal(0), [0.5, -0.1], r"row 1 has 'loss' -0\.1, and Focal"),
        ("linear", [1.0, 1.0, -0.5], r"row 2 has 'loss' -0\.5, and Proportional.*takes finite scores that are not neg"),
        ("linear", [1.0, np.inf], "row 1 has 'loss' inf, and Proportional"),
        (
            "exponential",
            [1.0, 0.0, np.inf],
            r"row 2 has 'loss' inf, and Exponential.*It takes finite scores\. Weigh by",
        ),
        (
            lambda s: s - 2,
            [3.0, 1.0],
            r"row 1 has 'loss' 1, and <lambda> makes -1 of it\. A loss weight is a finite num",
        ),
        (lambda s: np.subtract(s, 2, out=s), [3.0, 1.0], "row 1 has 'loss' 1, and <lambda> makes -1 of it"),
        (lambda s: 1 / s, [3.0, 0.0], r"row 1 has 'loss' 0, and <lambda> makes inf of it"),
        (lambda s: s.astype(float) * 1e39, [0.0, 1.0], r"row 1 has 'loss' 1, and <lambda> makes inf"),
        ([np.log, np.exp], [1.0, -1.0], "row 1 has 'loss' -1, and log makes nan of it"),
    ],
)
def test_what_is_no_weight_is_refused_by_row_score_and_value(how, values, words):
    with pytest.raises(InvalidValue, match=words):
        Weigh("loss", how).plan(folded(values), epoch=0, seed=0)


def test_an_infinite_score_can_be_clipped_first():
    found = Weigh("loss", [Clip(highest=0.5), "linear"]).plan(folded([1.0, np.inf]), epoch=0, seed=0)
    assert found.loss_weights.tolist() == [1, 1]


def test_a_ratio_to_zero_names_both_scores():
    store = two_scores([1.0, 2.0], [1.0, 0.0])
    with pytest.raises(
        InvalidValue, match=r"row 1 has 'target' 2 and 'proposal' 0, and Ratio\(\) makes nan.*the second abov"
    ):
        weights(Weigh(["target", "proposal"], "ratio"), store)


@pytest.mark.parametrize(
    ("by", "how", "words"),
    [
        ("loss", "focus", "how='focus': one of 'focal', 'linear', 'exponential', 'ratio'"),
        ("loss", Focal, r"how=Focal is a class: pass one of it, Focal\(\)"),
        ("loss", 2.0, r"how=2\.0: one of 'focal', .*a function from scores"),
        ("loss", [], r"how=\[\] makes no weights"),
        ("loss", KeepAll(), "a function from scores"),
        (["loss"], "ratio", r"Ratio\(\) cannot be called with by=\('loss',\), one array of scores: missing"),
        (["loss", "el2n"], "focal", r"Focal\(gamma=2\.0\) cannot be called with by=\('loss', 'el2n'\), 2 arrays"),
        ("loss", ["focal", "ratio"], r"Ratio\(\) cannot be called with what Focal\(gamma=2\.0\) returns, one array"),
        (3, "focal", "by=3: the name of a score"),
        ([], "focal", r"by=\[\]: the name of a score"),
        (["loss", None], "ratio", "by=None: the name of a score"),
    ],
    ids=str,
)
def test_an_argument_that_breaks_a_rule_is_refused(by, how, words):
    with pytest.raises(InvalidValue, match=words):
        Weigh(by, how)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Focal(-1), "gamma=-1: the exponent of 1 − p"),
        (lambda: Focal(np.inf), "gamma=inf"),
        (lambda: Focal("2"), "gamma='2'"),
        (lambda: Proportional(1.5), r"floor=1\.5: the share of equal weights"),
        (lambda: Exponential(0), "temperature=0: the difference of scores"),
        (lambda: Exponential(np.nan), "temperature=nan"),
        (lambda: Clip(), "bring in a part of the values"),
        (lambda: Clip(0.5, 0.5), r"lowest=0\.5 and highest=0\.5: bring in a part"),
        (lambda: Clip(highest=1), "highest=1: the share of values"),
        (lambda: Weigh("loss", "focal", normalize="yes"), "normalize='yes': one of True, False"),
    ],
)
def test_a_number_that_breaks_a_rule_is_refused(made, words):
    with pytest.raises(InvalidValue, match=words):
        made()


def test_weights_of_a_policy_of_ones_own_that_are_all_zero_are_refused():
    store = scored(EXAMPLE)
    with pytest.raises(InvalidValue, match="every loss weight is 0"):
        make(store, KeepAll(), 0, 0, weights=np.zeros(4, np.float32))
