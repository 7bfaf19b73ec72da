"""The sampler walks one plan an epoch: which plan when, how long, in what order, and what `iter` leaves alone."""

import itertools

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import InvalidValue, RowError, UnknownName
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Draw, InfoBatch, KeepAll, Prune, Upsample
from tests.snapshots import snapshot
from tests.stores import scored

N = 12


@pytest.fixture
def store():
    """Row r has the loss r."""
    return scored(np.arange(float(N)))


def half(store, **arguments):
    return AdaptiveSampler(store, Prune(0.5, "loss"), **arguments)


def observe(store, values):
    store.update(range(N), loss=np.asarray(values, float))


# -- order -------------------------------------------------------------------------------------------------------------


def test_an_epoch_visits_the_plan_once(store):
    assert sorted(half(store)) == [6, 7, 8, 9, 10, 11]


def test_an_epoch_visits_a_row_as_often_as_the_plan_repeats_it(store):
    sampler = AdaptiveSampler(store, Upsample(3, "loss"))
    assert sorted(sampler) == sampler.plan.indices().tolist() == sorted([0, *list(range(1, N)) * 3])


def test_rows_are_python_ints(store):
    assert {type(row) for row in half(store)} == {int}


def test_epochs_differ_in_order(store):
    sampler = AdaptiveSampler(store, KeepAll())
    assert len({tuple(sampler) for _ in range(6)}) == 6


def test_the_order_is_a_function_of_seed_and_epoch(store):
    orders = [[tuple(AdaptiveSampler(store, KeepAll(), seed=s)) for s in range(4)] for _ in range(2)]
    assert orders[0] == orders[1]
    assert len(set(orders[0])) == 4


def test_the_seed_and_the_epoch_do_not_alias(store):
    first, second = (AdaptiveSampler(store, KeepAll(), seed=seed) for seed in (0, 1))
    first.set_epoch(1)
    assert list(first) != list(second)


def test_without_shuffling_rows_ascend(store):
    assert list(half(store, shuffle=False)) == [6, 7, 8, 9, 10, 11]


def test_every_order_of_a_small_plan_is_equally_likely():
    sampler = AdaptiveSampler(scored([1.0, 2.0, 3.0]), KeepAll())
    orders = [tuple(sampler) for _ in range(600)]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    assert min(counts) > 60  # 100 ± 9: more than four standard deviations
    assert max(counts) < 140


# -- which plan when ---------------------------------------------------------------------------------------------------


def test_warm_up_keeps_everything_for_so_many_epochs(store):
    assert [len(list(sampler)) for sampler in [half(store, warmup_epochs=2)] for _ in range(4)] == [N, N, 6, 6]


def test_a_store_without_scores_keeps_everything_until_there_are_some():
    store = scored([np.nan] * N)
    sampler = half(store)
    assert sorted(sampler) == list(range(N))
    observe(store, np.arange(N))
    assert sorted(sampler) == [6, 7, 8, 9, 10, 11]


def test_replanning_each_epoch_follows_the_scores(store):
    sampler = half(store)
    assert sorted(sampler) == [6, 7, 8, 9, 10, 11]
    observe(store, -np.arange(N))
    assert sorted(sampler) == [0, 1, 2, 3, 4, 5]


def test_planning_once_keeps_the_first_plan_for_good(store):
    sampler = half(store, replan="once")
    assert sorted(sampler) == [6, 7, 8, 9, 10, 11]
    observe(store, -np.arange(N))
    assert sorted(sampler) == [6, 7, 8, 9, 10, 11]


def test_planning_once_waits_for_the_end_of_warm_up(store):
    sampler = half(store, replan="once", warmup_epochs=1)
    assert len(list(sampler)) == N
    observe(store, -np.arange(N))
    assert sorted(sampler) == [0, 1, 2, 3, 4, 5]


def test_planning_once_waits_for_scores():
    store = scored([np.nan] * N)
    sampler = half(store, replan="once")
    assert len(list(sampler)) == N
    observe(store, np.arange(N))
    plans = [(sorted(sampler), sampler.plan.id) for _ in range(3)]
    assert plans == [plans[0]] * 3
    assert plans[0][0] == [6, 7, 8, 9, 10, 11]


def test_one_plan_is_walked_in_another_order_each_epoch(store):
    sampler = half(store, replan="once")
    assert len({tuple(sampler) for _ in range(5)}) == 5


def test_a_plan_does_not_change_while_its_epoch_is_walked(store):
    sampler = half(store)
    iterator = iter(sampler)
    rows = [next(iterator)]
    observe(store, -np.arange(N))
    assert sorted(rows + list(iterator)) == [6, 7, 8, 9, 10, 11] == sampler.plan.rows.tolist()


def test_before_the_first_draw_the_plan_is_what_the_scores_would_give(store):
    sampler = half(store)
    assert sampler.plan.rows.tolist() == [6, 7, 8, 9, 10, 11]
    observe(store, -np.arange(N))
    assert sampler.plan.rows.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_plan_is_saved_at_the_first_draw_and_not_before(store):
    sampler = half(store)
    with pytest.raises(UnknownName):
        store.plan(sampler.plan.id)
    next(iter(sampler))
    assert store.plan(sampler.plan.id).id == sampler.plan.id


def test_replanning_by_batches_follows_the_scores_within_an_epoch(store):
    sampler = half(store, replan=2)
    batches = iter(sampler.batches(2))
    first = [next(batches), next(batches)]
    observe(store, -np.arange(N))
    assert {row for batch in first for row in batch} <= {6, 7, 8, 9, 10, 11}
    assert set(next(batches)) <= {0, 1, 2, 3, 4, 5}


def test_replanning_by_batches_is_refused_where_single_rows_are_drawn(store):
    with pytest.raises(InvalidValue, match=r"replan=2 counts batches.*batch_sampler=sampler.batches\(batch_size\)"):
        iter(half(store, replan=2))


@pytest.mark.parametrize("policy", [InfoBatch(epochs=9), Draw("loss", unbiased=True)])
def test_replanning_by_batches_is_refused_for_plans_that_weigh_the_loss(store, policy):
    with pytest.raises(InvalidValue, match=r"replan=2 with .*, whose plans weigh the loss.*Use replan='epoch'"):
        next(iter(AdaptiveSampler(store, policy, replan=2).batches(2)))


# -- length ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "length"), [(0.5, 6), (0.3, 4), (1.0, 12)])
def test_the_length_is_known_before_the_epoch(store, keep, length):
    sampler = AdaptiveSampler(store, Prune(keep, "loss"))
    assert len(sampler) == length == len(list(sampler))


def test_the_length_stays_that_of_the_epoch_until_the_next_one_is_drawn_from(store):
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1)
    list(sampler)
    assert len(sampler) == N
    next(iter(sampler))
    assert len(sampler) == 6


@pytest.mark.parametrize("num_samples", [4, 6, 15])
def test_num_samples_truncates_or_cycles_the_shuffled_plan(store, num_samples):
    plain = list(half(store))
    sampler = half(store, num_samples=num_samples)
    assert len(sampler) == num_samples
    assert list(sampler) == (plain * 3)[:num_samples]


def test_truncation_takes_other_rows_each_epoch(store):
    sampler = half(store, num_samples=2)
    assert len({frozenset(sampler) for _ in range(20)}) > 5


# -- what iter leaves alone --------------------------------------------------------------------------------------------


def test_making_iterators_has_no_side_effect(store):
    sampler = half(store)
    before = (sampler.state_dict(), sampler.epoch, len(sampler), snapshot(store))
    iterators = [iter(sampler) for _ in range(5)]
    assert (sampler.state_dict(), sampler.epoch, len(sampler), snapshot(store)) == before
    assert sorted(iterators[3]) == [6, 7, 8, 9, 10, 11]
    assert sampler.epoch == 0


def test_making_a_second_iterator_does_not_disturb_the_first(store):
    expected = list(half(store))
    sampler = half(store)
    first = iter(sampler)
    rows = [next(first)]
    iter(sampler)
    assert rows + list(first) == expected


def test_an_exhausted_iterator_stays_exhausted(store):
    iterator = iter(half(store))
    list(iterator)
    assert next(iterator, None) is None


# -- loss weights ------------------------------------------------------------------------------------------------------


def test_loss_weights_are_those_of_the_current_plan_as_float32(store):
    sampler = AdaptiveSampler(store, Draw("loss", 200, unbiased=True))
    rows = list(sampler)[:5]
    weights = sampler.loss_weights(rows)
    np.testing.assert_allclose(weights, [66 / (N * row) for row in rows], rtol=1e-5)
    assert weights.dtype == np.float32


def test_a_row_outside_the_plan_has_no_loss_weight(store):
    with pytest.raises(RowError, match="row 0 is not in plan"):
        half(store).loss_weights([7, 0])


@pytest.mark.parametrize("replan", ["epoch", 2])
def test_loss_weights_are_one_where_the_plan_weighs_nothing(store, replan):
    sampler = AdaptiveSampler(store, KeepAll(), replan=replan)
    assert (sampler.loss_weights([7, 0]).tolist(), sampler.weights_or_none(np.array([7, 0]))) == ([1, 1], None)


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": -1}, "seed=-1: a whole number, 0 or more"),
        ({"seed": 0.5}, "seed=0.5: a whole number"),
        ({"warmup_epochs": -1}, "warmup_epochs=-1: a whole number, 0 or more"),
        ({"replan": 0}, "replan=0: a whole number, 1 or more or 'epoch' or 'once'"),
        ({"replan": "never"}, "replan='never': a whole number"),
        ({"replan": True}, "replan=True: a whole number"),
        ({"num_samples": 0}, "num_samples=0: a whole number, 1 or more or None"),
        ({"num_samples": 2.5}, "num_samples=2.5: a whole number"),
    ],
)
def test_an_argument_that_breaks_a_rule_is_refused(store, arguments, words):
    with pytest.raises(InvalidValue, match=words):
        half(store, **arguments)


def test_a_policy_of_a_score_that_is_not_there_is_refused_where_the_sampler_is_made(store):
    with pytest.raises(UnknownName, match="no score 'el2n'; it has loss"):
        AdaptiveSampler(store, Prune(0.5, "el2n"))


@pytest.mark.parametrize("policy", [None, "prune", Loss()])
def test_what_is_no_policy_is_refused(store, policy):
    with pytest.raises(InvalidValue, match=r"has no plan method: pass one of adaptive_sampler.selection"):
        AdaptiveSampler(store, policy)


def test_a_sampler_shows_its_store_policy_seed_and_epoch(store):
    shown = repr(half(store, seed=3))
    assert shown.startswith(f"AdaptiveSampler({store!r}, Prune(keep=0.5, by='loss'")
    assert shown.endswith("seed=3, epoch=0)")
