"""Budgets in units of a column, such as tokens: what is kept is what a slow twin keeps, and adjacent windows partition."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore, seeds
from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.kernels import grouped, select
from adaptive_sampler.kernels.identity import RowIdentity
from adaptive_sampler.kernels.splitmix import number as splitmix_number
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune, RandomPrune, Window
from tests import references
from tests.stores import scored

SCORE = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -2.0]), st.floats(-100, 100, width=16), st.just(np.nan))
LINES = st.lists(st.tuples(SCORE, st.integers(0, 5)), min_size=1, max_size=25).filter(lambda s: any(x[1] for x in s))
SHARE = st.floats(0.05, 1).map(lambda share: round(share, 2))


def rank_at(scores, sizes, unit, **told):
    return grouped.ranks_at(scores, sizes, np.array([0, len(scores)]), np.array([unit]), **told)[0]


def store_of(lines, epochs=0):
    store = scored([score for score, _ in lines], epochs=epochs)
    store.columns["tokens"] = [size for _, size in lines]
    return store


def kept(policy, store, *, epoch=0, seed=0):
    """The rows that it keeps; none where it says that this would be an epoch without samples."""
    try:
        return set(policy.plan(store, epoch=epoch, seed=seed).rows.tolist())
    except InvalidValue as error:
        if "keeps none of" not in str(error):
            raise
        return set()


def split(lines):
    return np.array([score for score, _ in lines]), [size for _, size in lines]


def observed(lines):
    return any(np.isfinite(score) for score, _ in lines)


def has_units(lines):
    """Whether the rows that have a score have a unit."""
    return any(np.isfinite(score) and size for score, size in lines)


@pytest.mark.parametrize("order", ["highest", "lowest"])
@given(lines=LINES.filter(observed), keep=SHARE)
def test_pruning_keeps_the_share_of_units_that_its_twin_keeps(order, lines, keep):
    policy = Prune(keep, "loss", order=order, ties="row", size="tokens")
    assert kept(policy, store_of(lines)) == references.sized_stretch(*split(lines), (0, keep), order)


@given(lines=LINES.filter(observed), keep=SHARE, offset=SHARE)
def test_a_window_keeps_the_stretch_of_units_that_its_twin_keeps(lines, keep, offset):
    keep = round(min(keep, 1 - offset), 2)
    if keep > 0:
        policy = Window(keep, offset, "loss", ties="row", size="tokens")
        assert kept(policy, store_of(lines)) == references.sized_stretch(*split(lines), (offset, keep), "lowest")


@given(
    lines=LINES.filter(observed), ages=st.lists(st.integers(0, 3), min_size=25, max_size=25, unique=False), keep=SHARE
)
def test_the_oldest_scores_come_next_by_their_units(lines, ages, keep):
    scores, sizes = split(lines)
    ages = np.array(ages[: len(lines)], float)
    alone = [
        row for row in range(len(lines)) if np.isnan(scores[row]) or ages[row] <= 1 or (ages == ages[row]).sum() > 1
    ]
    ages[alone] = np.minimum(ages[alone], 1)  # ages that tie are ordered by a hash
    policy = Prune(keep, "loss", ties="row", max_age=1, size="tokens")
    told = np.where((ages > 1) & ~np.isnan(scores), ages, np.nan)
    found = kept(policy, store_of(lines, epochs=(3 - ages).astype(int)), epoch=3)
    assert found == references.sized_stretch(scores, sizes, (0, keep), "highest", told)


@given(
    lines=LINES,
    cuts=st.lists(st.integers(1, 19), max_size=3, unique=True),
    groups=st.booleans(),
    seed=st.integers(0, 2),
)
def test_adjacent_windows_partition_the_ranked_rows(lines, cuts, groups, seed):
    lines = [(score, max(size, int(groups))) for score, size in lines if not np.isnan(score)]
    if not lines or not any(size for _, size in lines):
        return
    store, bounds = store_of(lines), [0, *sorted(cuts), 20]
    labels = np.arange(len(lines)) % 2 if groups else None
    parts = [
        kept(Window((stop - start) / 20, start / 20, "loss", per_group=labels, size="tokens"), store, seed=seed)
        for start, stop in pairwise(bounds)
    ]
    assert sorted(row for part in parts for row in part) == [*range(len(lines))]


@given(lines=LINES.filter(observed), keep=SHARE, seed=st.integers(0, 2))
def test_the_highest_and_the_lowest_partition_too(lines, keep, seed):
    lines = [(0.0 if np.isnan(score) else score, size) for score, size in lines]
    total = sum(size for _, size in lines)
    count = math.floor(Fraction(str(keep)) * total + Fraction(1, 2))
    if 1 < count < total - 1:
        store = store_of(lines)
        parts = [
            kept(Prune(share, "loss", order=order, size="tokens"), store, seed=seed)
            for share, order in ((count, "lowest"), (total - count, "highest"))
        ]
        assert sorted(row for part in parts for row in part) == [*range(len(lines))]


@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=25).filter(any), keep=SHARE, seed=st.integers(0, 3))
def test_a_random_share_of_units_begins_as_the_share_of_rows_does(sizes, keep, seed):
    store = store_of([(0.0, size) for size in sizes])
    start = select.premix(seeds.key(seed, 0, seeds.Purpose.SHARE))
    order = store.identity.ordered(start, np.arange(len(sizes))).tolist()
    assert kept(RandomPrune(keep, size="tokens"), store, seed=seed) == references.sized(
        order, sizes, 0, references.cut(keep, sum(sizes))
    )
    if len(sizes) > 2:
        assert kept(RandomPrune(2), store, seed=seed) == set(order[:2])


@given(lines=LINES.filter(observed), keep=SHARE)
def test_sizes_of_one_are_rows(lines, keep):
    store = store_of([(score, 1) for score, _ in lines])
    for policy in (Prune, RandomPrune):
        by = ("loss",) if policy is Prune else ()
        assert kept(policy(keep, *by, size="tokens"), store) == kept(policy(keep, *by), store)


@given(lines=LINES.filter(observed), keep=SHARE, labels=st.lists(st.integers(0, 2), min_size=25, max_size=25))
def test_within_groups_each_share_is_of_the_groups_units_and_no_group_becomes_empty(lines, keep, labels):
    lines = [(score, size + 1) for score, size in lines]
    labels = labels[: len(lines)]
    scores, sizes = split(lines)

    def alone(rows):
        mine = [sizes[row] for row in rows]
        found = references.sized_stretch(scores[rows], mine, (0, max(references.cut(keep, sum(mine)), 1)), "lowest")
        return found or {references.ascending(scores[rows])[0]}

    policy = Prune(keep, "loss", order="lowest", ties="row", per_group=labels, size="tokens")
    assert kept(policy, store_of(lines)) == references.per_class(labels, alone)


def test_a_group_whose_highest_row_is_larger_than_its_share_keeps_that_row():
    store = store_of([(1.0, 1), (2.0, 9), (1.0, 5), (2.0, 5)])
    assert kept(Prune(0.1, "loss", per_group=[0, 0, 1, 1], size="tokens"), store) == {1, 3}


@given(lines=LINES.filter(has_units), units=st.integers(-3, 200), seed=st.integers(0, 3))
def test_ranks_of_units_agree_with_the_ranking_that_breaks_ties_at_random(lines, units, seed):
    scores, sizes = split(lines)
    scores, names = scores.astype(np.float32), RowIdentity(len(lines))
    ranked: list[int] = []
    for rank in range(int(np.count_nonzero(~np.isnan(scores)))):
        bits = select.rank_window(scores, rank, rank + 1, salt=seed, ties="random")
        ranked += np.flatnonzero(np.unpackbits(bits, bitorder="little")).tolist()
    rank = rank_at(scores, np.array(sizes), units, salt=seed, ties="random", identity=names)
    assert set(ranked[:rank]) == references.sized(ranked, sizes, 0, units)


def test_many_ties_are_cut_as_few_are():
    n = 5000
    sizes = np.array([int(splitmix_number(np.uint64(1), np.uint64(i)) % np.uint64(9)) for i in range(n)])
    identity = RowIdentity(n)
    order = identity.ordered(select.premix(7), np.arange(n))
    begins = np.cumsum(sizes[order]) - sizes[order]
    for unit in (1, 2, 500, 9_000, int(sizes.sum()) - 1):
        found = rank_at(np.zeros(n, np.float32), sizes, unit, salt=7, ties="random", identity=identity)
        assert found == np.count_nonzero(begins < unit)


def test_a_worked_example():
    store = store_of([(0.1, 3), (0.2, 1), (0.3, 4), (0.4, 2)])
    assert kept(Prune(0.5, "loss", order="lowest", size="tokens"), store) == {0, 1, 2}  # first units 0, 3, 4 of 5
    assert kept(Prune(0.5, "loss", size="tokens"), store) == {3}  # first unit 8 of 5 … 9
    assert kept(Prune(2, "loss", order="lowest", size="tokens"), store) == {0}  # a count is a count of units


def test_a_size_is_a_column_or_else_a_score():
    store = ScoreStore.create(None, 3, [Loss(), Loss(name="length")])
    store.fold("loss", range(3), [1, 2, 3])
    store.fold("length", range(3), [1, 1, 8])
    policy = Prune(0.2, "loss", order="lowest", size="length")
    assert kept(policy, store) == {0, 1}
    store.columns["tokens"] = [2, 1, 7]
    assert kept(Prune(0.2, "loss", order="lowest", size="tokens"), store) == {0}


def test_plans_by_rows_and_by_units_are_told_apart():
    store = store_of([(0.1, 1), (0.2, 1), (0.3, 1)])
    plans = [Prune(0.5, "loss", size=size).plan(store, epoch=0, seed=0) for size in (None, "tokens")]
    assert plans[0].rows.tolist() == plans[1].rows.tolist()
    assert plans[0].id != plans[1].id
    assert plans[1].policy["size"] == "tokens"


# -- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 0.5, ["tokens"], b"tokens"], ids=str)
@pytest.mark.parametrize("policy", [(Prune, 0.5, "loss"), (Window, 0.5, 0.1, "loss"), (RandomPrune, 0.5)], ids=str)
def test_a_size_is_a_name(policy, size):
    kind, *arguments = policy
    with pytest.raises(InvalidValue, match="the name of a column of the store, or of a score"):
        kind(*arguments, size=size)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([1, -1, 2], "is -1 in row 1. A size is a whole number, 0 or more"),
        ([1.0, 2.5, 2], "is 2.5 in row 1"),
        ([1.0, 2, np.nan], "is nan in row 2"),
        ([1.0, np.inf, 2], "is inf in row 1"),
        (["a", "b", "c"], "holds object"),
        ([True, False, True], "holds bool"),
        ([0, 0, 0], "all rows together have 0 units"),
        ([2**62, 1, 2**62], "2\\*\\*62 at most"),
    ],
)
@pytest.mark.parametrize(
    "policy", [Prune(0.5, "loss", size="tokens"), RandomPrune(0.5, size="tokens")], ids=["prune", "random"]
)
def test_sizes_that_are_none_are_refused_by_row(policy, sizes, words):
    store = scored([1.0, 2.0, 3.0])
    store.columns["tokens"] = sizes
    with pytest.raises(InvalidValue, match=f"size='tokens'.*{words}"):
        policy.plan(store, epoch=0, seed=0)
    store.columns["tokens"] = [1, 2, 3]  # the remedy
    policy.plan(store, epoch=0, seed=0)


def test_a_score_that_was_not_observed_everywhere_is_no_size():
    store = scored([1.0, np.nan, 3.0])
    with pytest.raises(InvalidValue, match="size='loss' is nan in row 1"):
        RandomPrune(0.5, size="loss").plan(store, epoch=0, seed=0)


@pytest.mark.parametrize("scores", [[1.0, 2.0], [np.nan, np.nan]])
def test_an_unknown_size_is_told_with_the_columns_also_before_anything_was_observed(scores):
    store = scored(scores)
    store.columns["source"] = ["a", "b"]
    with pytest.raises(
        UnknownName, match="size='tokens' is no column of the store, whose columns are: source; and no score"
    ):
        Prune(0.5, "loss", size="tokens").plan(store, epoch=0, seed=0)


def test_more_units_than_there_are_cannot_be_asked_for():
    with pytest.raises(InvalidValue, match="keep=11 asks for 11 of 10"):
        Prune(11, "loss", size="tokens").plan(store_of([(0.1, 3), (0.2, 7)]), epoch=0, seed=0)


def test_a_group_without_a_unit_is_refused():
    store = store_of([(0.1, 3), (0.2, 0), (0.3, 0)])
    with pytest.raises(InvalidValue, match="row 1 and the others of its group have size 0 together"):
        Prune(0.5, "loss", per_group=[0, 1, 1], size="tokens").plan(store, epoch=0, seed=0)
