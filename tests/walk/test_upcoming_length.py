"""`upcoming_length` is how long the epoch will be that the next iterator begins, and asking for it begins nothing."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import ResumeError, StoreError
from adaptive_sampler.selection import Draw, Prune, Threshold, Upsample
from tests.stores import scored

N = 12
SAMPLERS = {
    "warm-up": {"warmup_epochs": 2},
    "once": {"replan": "once", "warmup_epochs": 1},
    "once without warm-up": {"replan": "once"},
    "constant": {"num_samples": 17},
    "each epoch": {},
}
POLICIES = [Threshold(5.0, "loss"), Prune(0.5, "loss"), Upsample(3, "loss"), Draw("loss", 7, floor=0.1)]


@pytest.fixture
def store():
    return scored(np.arange(float(N)))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("arguments", SAMPLERS.values(), ids=SAMPLERS)
def test_each_epoch_is_as_long_as_was_foretold_though_scores_move_between(store, policy, arguments):
    sampler = AdaptiveSampler(store, policy, **arguments)
    for epoch in range(5):
        store.fold("loss", np.arange(N), np.roll(np.arange(N), epoch) * (epoch + 1) / 2)
        foretold = sampler.upcoming_length()
        assert (len(list(sampler)), sampler.epoch) == (foretold, epoch)


def test_len_stays_that_of_the_epoch_that_ended(store):
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1)
    list(sampler)
    assert (len(sampler), sampler.upcoming_length()) == (12, 6)


def test_within_an_epoch_it_is_that_of_the_next_one(store):
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1)
    next(iter(sampler))
    assert (len(sampler), sampler.upcoming_length()) == (12, 6)


def test_it_follows_the_scores_until_the_epoch_begins(store):
    sampler = AdaptiveSampler(store, Threshold(9.0, "loss"))
    before = sampler.upcoming_length()
    store.fold("loss", [0, 1], [20.0, 20.0])
    assert (before, sampler.upcoming_length(), len(list(sampler))) == (3, 5, 5)


def test_asking_begins_and_fixes_nothing(store):
    sampler, other = (AdaptiveSampler(store, Threshold(5.0, "loss"), replan="once", seed=1) for _ in range(2))
    for _ in range(3):
        assert sampler.upcoming_length() == 7
        assert sampler.state_dict() == other.state_dict()
        assert list(sampler) == list(other)
    assert sampler.plan.id == other.plan.id


def test_after_set_epoch_it_is_that_epochs(store):
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=3)
    list(sampler)
    sampler.set_epoch(3)
    assert sampler.upcoming_length() == len(sampler) == 6
    sampler.set_epoch(1)
    assert sampler.upcoming_length() == 12


def test_where_set_epoch_says_that_an_epoch_is_walked_again_it_is_that_epochs(store):
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1)
    list(sampler)
    sampler.set_epoch(0)
    assert sampler.upcoming_length() == len(list(sampler)) == 12


@pytest.mark.parametrize("position", [5, 12])
def test_after_loading_a_state_within_an_epoch_it_is_the_whole_of_that_epoch(store, position):
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1)
    walk = iter(sampler)
    list(itertools.islice(walk, position))
    resumed = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1)
    resumed.load_state_dict(sampler.state_dict())
    assert (resumed.upcoming_length(), resumed.start) == (12, position)
    assert len(list(resumed)) == 12 - position
    assert resumed.upcoming_length() == 6


def test_after_loading_the_beginning_of_an_epoch_it_is_that_epochs(store):
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1)
    list(sampler)
    resumed = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1)
    resumed.load_state_dict(sampler.state_dict())
    assert resumed.upcoming_length() == len(list(resumed)) == 6


def test_where_an_iterator_loaded_the_end_of_an_epoch_it_is_the_next_ones(store):
    """As StatefulDataLoader does, whose next iterator skips the empty rest of that epoch."""
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1)
    walk = iter(sampler)
    ended = [walk.state_dict() for _ in walk][-1]
    resumed = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1)
    iter(resumed).load_state_dict(ended)
    assert resumed.upcoming_length() == len(list(resumed)) == 6


@settings(max_examples=15)
@given(size=st.integers(1, 14), drop_last=st.booleans(), replan=st.sampled_from(["epoch", "once", 1, 2]))
def test_batches_foretell_batches(size, drop_last, replan):
    sampler = AdaptiveSampler(scored(np.arange(float(N))), Prune(0.5, "loss"), warmup_epochs=1, replan=replan)
    batches = sampler.batches(size, drop_last=drop_last)
    foretold = [(batches.upcoming_length(), len(list(batches))) for _ in range(3)]
    assert [length for length, _ in foretold] == [length for _, length in foretold]


def test_on_ranks_with_updates_that_wait_it_raises_as_planning_does(store):
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
    list(sampler)
    store.session.keep_journal()
    store.fold("loss", [0], [1.0])
    with pytest.raises(StoreError, match="sync"):
        sampler.upcoming_length()


def test_a_worker_process_has_no_scores_to_foretell_by(store):
    store.commit()
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
    list(sampler)
    with pytest.raises(ResumeError, match=r"a worker process .* asks for a new plan"):
        pickle.loads(pickle.dumps(sampler))._planner.planned(1)
