"""A share within each group is that share of each group by itself, whichever policy takes it."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.selection import Draw, Exclude, Prune, RandomPrune, Window
from tests import references
from tests.selection.test_prune import KEEP, SCORES, kept
from tests.selection.test_window import HUNDREDTHS
from tests.stores import scored

EACH = {
    "Prune": lambda labels, keep=0.5: Prune(keep, "loss", per_class=labels),
    "Window": lambda labels, keep=0.5: Window(keep, 0, "loss", per_class=labels),
    "RandomPrune": lambda labels, keep=0.5: RandomPrune(keep, per_class=labels),
}
each = pytest.mark.parametrize("policy", EACH.values(), ids=EACH)


def labelled(data, scores):
    """A label for each row, of few classes."""
    return data.draw(st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores)))


@given(data=st.data(), scores=SCORES, first=HUNDREDTHS, length=HUNDREDTHS)
def test_a_window_per_class_keeps_what_its_twin_keeps(data, scores, first, length):
    assume(first + length <= 100 and np.isfinite(scores).any())
    labels = labelled(data, scores)

    def window(rows):
        ends = references.cut(first / 100, len(rows)), references.cut((first + length) / 100, len(rows))
        return references.window(scores[rows], *ends)

    expected = references.per_class(labels, window)
    assume(expected)
    policy = Window(length / 100, first / 100, "loss", ties="row", per_class=labels)
    assert kept(policy, scored(scores)) == expected


@given(data=st.data(), scores=SCORES, keep=KEEP)
def test_pruning_per_class_keeps_what_its_twin_keeps_rows_never_observed_too(data, scores, keep):
    assume(np.isfinite(scores).any())
    labels = labelled(data, scores)
    expected = references.per_class(labels, lambda rows: references.prune(scores[rows], keep, "lowest", least=1))
    policy = Prune(keep, "loss", order="lowest", ties="row", per_class=labels)
    assert kept(policy, scored(scores)) == expected


@pytest.mark.parametrize("ties", ["random", "row"])
@given(data=st.data(), scores=SCORES, bounds=st.lists(HUNDREDTHS, max_size=4, unique=True).map(sorted))
def test_complementary_windows_partition_every_class(ties, data, scores, bounds):
    store, labels = scored(np.nan_to_num(scores)), labelled(data, scores)
    counted = np.zeros(len(scores), int)
    for low, high in itertools.pairwise([0, *bounds, 100]):
        policy = Window((high - low) / 100, low / 100, "loss", ties=ties, per_class=labels)
        sizes = np.unique(labels, return_counts=True)[1]
        if any(references.cut(high / 100, n) > references.cut(low / 100, n) for n in sizes):
            counted[list(kept(policy, store))] += 1
    assert counted.tolist() == [1] * len(scores)


@given(data=st.data(), scores=SCORES, keep=KEEP, seed=st.integers(0, 3))
def test_a_random_share_per_class_is_that_share_of_each(data, scores, keep, seed):
    labels = np.array(labelled(data, scores))
    sizes = {label: max(references.cut(keep, int((labels == label).sum())), 1) for label in np.unique(labels)}
    rows = kept(RandomPrune(keep, per_class=labels), scored(scores), seed=seed)
    assert {label: sum(labels[row] == label for row in rows) for label in sizes} == sizes


def test_a_random_share_takes_every_row_of_a_class_as_often_as_another():
    store, policy = scored(np.zeros(12)), RandomPrune(0.5, per_class=[0, 1] * 6)
    times = np.zeros(12)
    for seed in range(400):
        times[list(kept(policy, store, seed=seed))] += 1
    assert abs(times - 200).max() < 50  # five standard errors of 10


def test_the_random_shares_of_two_classes_have_nothing_to_do_with_one_another():
    store, policy = scored(np.zeros(80)), RandomPrune(0.5, per_class=[0, 1] * 40)
    together = []
    for seed in range(40):
        rows = kept(policy, store, seed=seed)
        together.append(sum((2 * place in rows) == (2 * place + 1 in rows) for place in range(40)))
    assert 15 < np.mean(together) < 25  # of 40 places: 20 by chance, 40 where one class follows the other


@each
@pytest.mark.parametrize("labels", [["a", "a", "b", "b"], [True, True, False, False], np.array([2, 2, 9, 9], np.uint8)])
def test_labels_may_be_of_any_type(policy, labels):
    rows = kept(policy(labels), scored([1.0, 2.0, 3.0, 4.0]))
    assert sorted(row // 2 for row in rows) == [0, 1]


@each
def test_a_count_is_of_each_class(policy):
    assert len(kept(policy([0, 0, 0, 1, 1, 1], keep=2), scored(np.arange(6.0)))) == 4


@pytest.mark.parametrize("policy", ["Prune", "RandomPrune"])
def test_a_share_that_is_less_than_half_a_row_keeps_one_row_of_the_class(policy):
    labels = [0] * 40 + [1] * 4 + [2]
    rows = kept(EACH[policy](labels, keep=0.1), scored(np.arange(45.0)))
    assert np.bincount(np.array(labels)[list(rows)]).tolist() == [4, 1, 1]
    if policy == "Prune":
        assert {43, 44} <= rows  # the best of each


def test_a_window_may_hold_none_of_a_small_class():
    labels = [0] * 40 + [1] * 4
    rows = kept(Window(0.1, 0.5, "loss", per_class=labels), scored(np.arange(44.0)))
    assert np.bincount(np.array(labels)[list(rows)], minlength=2).tolist() == [4, 0]


@each
def test_a_label_for_every_row_is_needed(policy):
    with pytest.raises(InvalidValue, match=r"per_class has shape \(3,\): one label for each of the 5 rows"):
        policy([0, 1, 0]).plan(scored(np.arange(5.0)), epoch=0, seed=0)


@each
def test_labels_of_several_axes_are_refused_where_the_policy_is_made(policy):
    with pytest.raises(InvalidValue, match=r"per_class has shape \(2, 2\): one label for each row, \(n,\), is needed"):
        policy([[0, 1], [1, 0]])


@each
def test_a_plan_remembers_by_which_labels_it_was_made(policy):
    plan = policy([0, 0, 1, 1]).plan(scored(np.arange(4.0)), epoch=0, seed=0)
    other = policy([0, 1, 0, 1]).plan(scored(np.arange(4.0)), epoch=0, seed=0)
    assert plan.policy["per_class"] != other.policy["per_class"]


@each
def test_texts_as_pandas_has_them_are_labels(policy):
    store, labels = scored(np.arange(4.0)), ["a", "b", "a", "b"]
    plans = [policy(given).plan(store, epoch=0, seed=0) for given in (labels, np.array(labels, object))]
    assert plans[0].id == plans[1].id


@each
@pytest.mark.parametrize("labels", [["a", None], [1, "a"], [0, None]], ids=repr)
def test_labels_of_several_kinds_are_refused(policy, labels):
    with pytest.raises(
        InvalidValue, match=r"per_class has labels of type \w+, \w+: give numbers alone, or texts alone"
    ):
        policy(np.array(labels, object))


@each
def test_a_label_that_is_nan_is_refused(policy):
    with pytest.raises(
        InvalidValue, match=r"per_class of row 1 is NaN, which is no class\. Give rows without a label one"
    ):
        policy([0.0, np.nan])


# -- per_group: labels under another name, or a column of the store ---------------------------------------------------

GROUPED = {
    "Prune": lambda groups: Prune(0.5, "loss", per_group=groups),
    "Window": lambda groups: Window(0.5, 0.2, "loss", per_group=groups),
    "Exclude": lambda groups: Exclude("loss", lowest=0.4, per_group=groups),
    "RandomPrune": lambda groups: RandomPrune(0.5, per_group=groups),
    "Draw": lambda groups: Draw("loss", 0.5, per_group=groups),
    "Draw without replacement": lambda groups: Draw("loss", 0.5, replacement=False, per_group=groups),
}
grouped = pytest.mark.parametrize("policy", GROUPED.values(), ids=GROUPED)
SOURCES = np.array(["web", "book", "web", "code"] * 10)


@grouped
@pytest.mark.parametrize("labels", [SOURCES, np.unique(SOURCES, return_inverse=True)[1], SOURCES == "web"])
def test_a_column_of_the_store_names_the_groups_as_their_labels_do(policy, labels):
    store = scored(np.arange(1.0, 41.0))
    store.columns["source"] = labels
    by_name, by_labels = (policy(groups).plan(store, epoch=1, seed=2) for groups in ("source", labels))
    assert by_name.indices().tolist() == by_labels.indices().tolist()


@grouped
def test_each_group_has_its_share(policy):
    indices = policy(SOURCES).plan(scored(np.arange(1.0, 41.0)), epoch=0, seed=0).indices()
    sizes = dict(zip(*np.unique(SOURCES[indices], return_counts=True), strict=True))
    share = 0.6 if policy is GROUPED["Exclude"] else 0.5
    assert sizes == {"book": 10 * share, "code": 10 * share, "web": 20 * share}


@pytest.mark.parametrize("policy", ["Prune", "Window", "Exclude", "RandomPrune"])
def test_labels_of_groups_are_labels_of_classes_by_another_name(policy):
    made = GROUPED[policy](SOURCES)
    other = type(made)(**vars(made) | {"per_group": None, "per_class": SOURCES})
    one, again = (some.plan(scored(np.arange(40.0)), epoch=0, seed=0) for some in (made, other))
    assert one.rows.tolist() == again.rows.tolist()


@pytest.mark.parametrize("policy", ["Prune", "Window", "Exclude", "RandomPrune"])
def test_groups_and_classes_at_once_are_refused(policy):
    made = GROUPED[policy](SOURCES)
    with pytest.raises(InvalidValue, match=r"per_class and per_group are two names for the groups.*pass one of them"):
        type(made)(**vars(made) | {"per_class": SOURCES})


@grouped
def test_a_column_that_the_store_does_not_have_is_named_with_the_remedy(policy):
    store = scored(np.arange(1.0, 41.0))
    store.columns["length"] = np.arange(40)
    words = (
        r"per_group='source' is no column of the store, whose columns are: 'length'\. Set store\.columns\['source'\]"
    )
    with pytest.raises(UnknownName, match=words):
        policy("source").plan(store, epoch=0, seed=0)
    store.columns["source"] = SOURCES
    assert policy("source").plan(store, epoch=0, seed=0).num_samples > 0


@grouped
def test_a_column_with_nan_names_no_groups(policy):
    store = scored(np.arange(1.0, 41.0))
    store.columns["source"] = np.where(np.arange(40) == 7, np.nan, 1.0)
    with pytest.raises(InvalidValue, match="column 'source' of row 7 is NaN, which is no class"):
        policy("source").plan(store, epoch=0, seed=0)


@grouped
def test_groups_need_a_label_a_row(policy):
    with pytest.raises(InvalidValue, match=r"per_group has shape \(3,\): one label for each of the 5 rows"):
        policy([0, 1, 0]).plan(scored(np.arange(1.0, 6.0)), epoch=0, seed=0)


@grouped
def test_a_column_that_is_missing_is_told_before_the_first_observation(policy):
    store = scored(np.full(4, np.nan))
    with pytest.raises(UnknownName, match="per_group='source' is no column of the store"):
        policy("source").plan(store, epoch=0, seed=0)


@grouped
def test_labels_that_change_afterwards_change_no_plan(policy):
    labels, store = np.arange(40) % 4, scored(np.arange(1.0, 41.0))
    made = policy(labels)
    before = made.plan(store, epoch=0, seed=0)
    labels[:] = 0
    assert made.plan(store, epoch=0, seed=0).id == before.id


@each
def test_a_list_of_texts_and_numbers_is_refused_as_an_array_of_both_is(policy):
    with pytest.raises(InvalidValue, match="per_class has labels of type int, str: give numbers alone"):
        policy([1, "1", 1])


@grouped
def test_texts_that_differ_by_a_nul_at_the_end_are_two_groups(policy):
    store = scored(np.arange(1.0, 41.0))
    store.columns["source"] = ["a", "a\0"] * 20
    by_text, by_number = (policy(groups).plan(store, epoch=0, seed=0) for groups in ("source", np.arange(40) % 2))
    assert by_text.indices().tolist() == by_number.indices().tolist()


@grouped
@pytest.mark.parametrize(
    "labels",
    [
        np.array([-128, 127] * 20, np.int8),
        np.array([0, 2**64 - 1] * 20, np.uint64),
        np.array([-(2**63), 2**63 - 1] * 20),
        np.array([True, True] * 20),
        np.array([0.5, -np.inf] * 20),
    ],
    ids=["int8", "uint64", "int64", "bool", "float"],
)
def test_groups_are_told_apart_at_the_ends_of_a_dtype(policy, labels):
    store = scored(np.arange(1.0, 41.0))
    codes = np.unique(labels, return_inverse=True)[1]
    found, expected = (policy(groups).plan(store, epoch=0, seed=0).indices().tolist() for groups in (labels, codes))
    assert found == expected
