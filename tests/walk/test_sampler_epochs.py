"""Epochs and states: when an epoch turns, what set_epoch may do, and what a saved state says."""

import json

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.selection import KeepAll, Prune, Window
from tests.stores import scored

N = 12


@pytest.fixture
def store():
    return scored(np.arange(float(N)))


@pytest.fixture
def sampler(store):
    return AdaptiveSampler(store, KeepAll())


def orders(store, number, **arguments):
    """The orders of so many epochs, each from a sampler of its own."""
    made = []
    for epoch in range(number):
        fresh = AdaptiveSampler(store, KeepAll(), **arguments)
        fresh.set_epoch(epoch)
        made.append(list(fresh))
    return made


# -- turning -----------------------------------------------------------------------------------------------------------


def test_a_plain_loop_walks_epoch_after_epoch(store, sampler):
    assert [list(sampler) for _ in range(3)] == orders(store, 3)


def test_a_loop_that_breaks_goes_on_to_the_next_epoch(store, sampler):
    for _ in sampler:
        break
    assert list(sampler) == orders(store, 2)[1]


def test_a_peek_counts_as_an_epoch(store, sampler):
    next(iter(sampler))
    assert (list(sampler), sampler.epoch) == (orders(store, 2)[1], 1)


def test_the_epoch_stays_while_its_last_batches_are_in_flight(sampler):
    list(sampler)
    assert sampler.epoch == 0
    iterator = iter(sampler)
    assert sampler.epoch == 0
    next(iterator)
    assert sampler.epoch == 1


def test_an_epoch_drawn_from_sets_the_clock_of_the_store(store, sampler):
    clocks = []
    for _ in range(3):
        next(iter(sampler))
        clocks.append(store.epoch)
    assert clocks == [0, 1, 2]


def test_the_first_iterator_may_go_on_after_the_second_has_begun(store, sampler):
    first, second = iter(sampler), iter(sampler)
    rows = [next(first)]
    assert list(second) == orders(store, 2)[1]
    assert rows + list(first) == orders(store, 1)[0]


# -- set_epoch ---------------------------------------------------------------------------------------------------------


def test_set_epoch_goes_to_the_beginning_of_that_epoch(store, sampler):
    sampler.set_epoch(2)
    assert (sampler.epoch, list(sampler)) == (2, orders(store, 3)[2])


def test_set_epoch_before_each_epoch_is_what_a_plain_loop_does_by_itself(store, sampler):
    walked = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        walked.append(list(sampler))
    assert walked == orders(store, 3)


def test_set_epoch_may_go_back(store, sampler):
    list(sampler), list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == orders(store, 1)[0]


def test_set_epoch_to_the_current_epoch_keeps_an_iterator_where_it_is(store, sampler):
    iterator = iter(sampler)
    rows = [next(iterator) for _ in range(5)]
    sampler.set_epoch(0)  # Lightning draws with workers before it calls set_epoch
    assert rows + list(iterator) == orders(store, 1)[0]


@pytest.mark.parametrize("drawn", [1, 5])
def test_set_epoch_to_another_epoch_makes_an_iterator_that_was_drawn_from_raise(sampler, drawn):
    iterator = iter(sampler)
    for _ in range(drawn):
        next(iterator)
    sampler.set_epoch(3)
    with pytest.raises(
        ResumeError, match=r"this iterator began epoch 0, and then set_epoch\(3\) was called.*before iter"
    ):
        next(iterator)


def test_an_iterator_that_was_not_drawn_from_follows_set_epoch(store, sampler):
    iterator = iter(sampler)
    sampler.set_epoch(1)
    assert list(iterator) == orders(store, 2)[1]


@pytest.mark.parametrize("batched", [False, True])
def test_after_a_mid_epoch_state_set_epoch_to_that_epoch_keeps_the_position(store, sampler, batched):
    iterator = iter(sampler)
    rows = [next(iterator) for _ in range(4)]
    again = AdaptiveSampler(store, KeepAll())
    again.load_state_dict(sampler.state_dict())
    again.set_epoch(0)
    rest = [row for batch in again.batches(4) for row in batch] if batched else list(again)
    assert rows + rest == orders(store, 1)[0]


def test_after_a_mid_epoch_state_set_epoch_to_another_epoch_raises_with_the_remedy(store, sampler):
    next(iter(sampler))
    again = AdaptiveSampler(store, KeepAll())
    again.load_state_dict(sampler.state_dict())
    with pytest.raises(
        ResumeError, match=r"set_epoch\(1\) after loading a state at sample 1 of epoch 0: .*Resume the loop at"
    ):
        again.set_epoch(1)


@pytest.mark.parametrize("epoch", [-1, 1.0, True, None])
def test_an_epoch_that_is_no_whole_number_is_refused(sampler, epoch):
    with pytest.raises(InvalidValue, match=r"epoch=.*: a whole number, 0 or more"):
        sampler.set_epoch(epoch)


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", [0, 1, 5, N - 1, N])
def test_a_state_says_where_the_walk_is_the_end_of_an_epoch_too(sampler, drawn):
    iterator = iter(sampler)
    for _ in range(drawn):
        next(iterator)
    state = sampler.state_dict()
    assert (state["epoch"], state["position"]) == (0, drawn)
    assert iterator.state_dict() == state


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("how", ["drawn", "delivered"])
def test_once_the_loop_is_over_the_state_is_the_beginning_of_the_next_epoch(sampler, batched, how):
    for _ in sampler.batches(5) if batched else sampler:
        state = sampler.state_dict()
        assert state["epoch"] == 0
    delivered = {"delivered": N} if how == "delivered" else {}
    state = sampler.state_dict(**delivered)
    assert (state["epoch"], state["position"]) == (1, 0)


def at_the_end(sampler):
    """The state that a loop takes while it holds an epoch's last row."""
    for _ in sampler:
        state = sampler.state_dict()
    return state


@pytest.mark.parametrize("count", [{}, {"delivered": 0}])
def test_asking_for_the_state_of_an_epoch_that_has_not_begun_makes_no_plan(store, count):
    class Unwanted:
        def plan(self, store, *, epoch, seed):
            raise AssertionError("a plan was made")

    assert AdaptiveSampler(store, Unwanted()).state_dict(**count)["position"] == 0


def test_a_loop_that_held_the_last_batch_goes_on_with_a_pass_of_no_samples(store, sampler):
    for _ in sampler.batches(5):
        state = sampler.state_dict()
    again = AdaptiveSampler(store, KeepAll())
    again.load_state_dict(state)
    assert [list(again), list(again)] == [[], orders(store, 2)[1]]
    assert again.epoch == 1


def test_the_epoch_after_a_state_at_the_end_of_one_may_be_set_at_once(store, sampler):
    state, again = at_the_end(sampler), AdaptiveSampler(store, KeepAll())
    again.load_state_dict(state)
    again.set_epoch(1)
    assert list(again) == orders(store, 2)[1]


def test_an_iterator_that_only_primes_a_loader_is_no_epoch(store, sampler):
    """StatefulDataLoader loads a finished epoch's state by an iterator that it then drops."""
    state, again = at_the_end(sampler), AdaptiveSampler(store, KeepAll())
    primed = iter(again)
    primed.load_state_dict(state)
    assert list(again) == orders(store, 2)[1]


def test_an_iterator_that_loaded_the_end_of_an_epoch_has_nothing_left(store, sampler):
    state, again = at_the_end(sampler), AdaptiveSampler(store, KeepAll())
    resumed = iter(again)
    resumed.load_state_dict(state)
    assert [list(resumed), list(again)] == [[], orders(store, 2)[1]]


def test_the_state_of_an_iterator_that_has_not_begun_is_the_state_it_loaded(store, sampler):
    walk = iter(sampler)
    for _ in range(5):
        next(walk)
    again = iter(AdaptiveSampler(store, KeepAll()))
    again.load_state_dict(walk.state_dict())
    assert again.state_dict() == walk.state_dict()


def test_an_epoch_begun_a_third_time_after_being_left_early_is_warned_of(sampler):
    """What Accelerate does to a loop that breaks: it counts only whole passes."""
    for _ in range(2):
        sampler.set_epoch(0)
        next(iter(sampler))
    sampler.set_epoch(0)
    with pytest.warns(RuntimeWarning, match=r"epoch 0 is begun 3 times, and was left after 1 of 12.*watch"):
        next(iter(sampler))


def test_only_the_state_turns_at_the_end_of_an_epoch(sampler):
    list(sampler)
    assert (sampler.state_dict()["epoch"], sampler.epoch, len(sampler)) == (1, 0, N)


@pytest.mark.parametrize(("delivered", "where"), [(0, (0, 0)), (3, (0, 3)), (N, (1, 0))])
def test_a_state_counts_what_was_delivered_where_that_is_told(sampler, delivered, where):
    list(sampler)
    state = sampler.state_dict(delivered=delivered)
    assert (state["epoch"], state["position"]) == where


@pytest.mark.parametrize("replan", ["epoch", "once", 2])
@pytest.mark.parametrize("drawn", [0, 2, 6])
def test_a_state_is_json_and_of_constant_size(store, replan, drawn):
    sampler = AdaptiveSampler(store, Prune(0.5, "loss", per_class=np.arange(N) % 2), replan=replan)
    iterator = iter(sampler.batches(2))
    for _ in range(drawn // 2):
        next(iterator)
    state = sampler.state_dict()
    assert json.loads(json.dumps(state)) == state
    assert len(json.dumps(state)) < 1000


@pytest.mark.parametrize("stop", range(N + 1))
@pytest.mark.parametrize("through_json", [False, True])
def test_resumed_at_any_sample_it_walks_as_if_it_had_not_stopped(store, sampler, stop, through_json):
    iterator = iter(sampler)
    rows = [next(iterator) for _ in range(stop)]
    state = sampler.state_dict()
    again = AdaptiveSampler(store, KeepAll())
    again.load_state_dict(json.loads(json.dumps(state)) if through_json else state)
    expected = orders(store, 2)
    assert rows + [row for _ in range(2) for row in again] == expected[0] + expected[1]


def test_a_state_loaded_is_the_state_saved(store, sampler):
    iterator = iter(sampler)
    for _ in range(5):
        next(iterator)
    again = AdaptiveSampler(store, KeepAll())
    again.load_state_dict(sampler.state_dict())
    assert again.state_dict() == sampler.state_dict()
    assert len(again) == N


def test_loading_a_state_makes_an_older_iterator_raise(sampler):
    iterator = iter(sampler)
    next(iterator)
    sampler.load_state_dict(sampler.state_dict())
    with pytest.raises(ResumeError, match="load_state_dict was called after this iterator began"):
        next(iterator)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"policy": Prune(0.6, "loss")}, "policy"),
        ({"policy": Window(0.5, 0.1, "loss")}, "policy"),
        ({"seed": 1}, "seed"),
        ({"shuffle": False}, "shuffle"),
        ({"warmup_epochs": 1}, "warmup_epochs"),
        ({"replan": "once"}, "replan"),
        ({"num_samples": 5}, "num_samples"),
    ],
)
def test_the_state_of_another_sampler_is_refused_by_the_name_of_what_differs(store, arguments, name):
    saved = AdaptiveSampler(store, Prune(0.5, "loss"))
    next(iter(saved))
    other = AdaptiveSampler(store, **({"policy": Prune(0.5, "loss")} | arguments))
    with pytest.raises(ResumeError, match=rf"saved with {name}=.*, this sampler has {name}="):
        other.load_state_dict(saved.state_dict())


def test_the_state_of_another_store_is_refused(store, sampler):
    with pytest.raises(ResumeError, match="saved with store="):
        AdaptiveSampler(scored(np.arange(float(N))), KeepAll()).load_state_dict(sampler.state_dict())


def test_a_refused_state_changes_nothing(store, sampler):
    iterator = iter(sampler)
    rows = [next(iterator) for _ in range(3)]
    with pytest.raises(ResumeError):
        sampler.load_state_dict(sampler.state_dict() | {"seed": 5})
    assert rows + list(iterator) == orders(store, 1)[0]


def unfed(**options):
    return AdaptiveSampler(ScoreStore.create(None, 4, [Loss(), EL2N()]), Prune(0.5, "el2n"), **options)


@pytest.mark.parametrize("options", [{}, {"warmup_epochs": 2}, {"replan": "once"}])
def test_a_score_that_nobody_feeds_is_warned_of_once_when_it_is_first_missed(options):
    sampler = unfed(**options)
    for _ in range(max(options.get("warmup_epochs", 0), 1)):
        list(sampler)  # and nothing is said
    words = r"epoch [12] keeps every row: .* goes by 'el2n', and no row of it was observed. It takes logits \+ labels"
    with pytest.warns(RuntimeWarning, match=words):
        list(sampler)
    list(sampler)


def test_a_score_that_is_fed_is_not_warned_of():
    sampler = unfed()
    list(sampler)
    sampler.store.fold("el2n", [0], [1])
    list(sampler)
