"""Batches: lists of the sampler's rows, one pass an epoch."""

import gc
import itertools
import weakref

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.walk.batches import Batches
from tests.stores import scored

N = 10


@pytest.fixture
def sampler():
    return AdaptiveSampler(scored(np.arange(float(N))), KeepAll())


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 11])
def test_batches_are_the_samplers_rows_cut_into_lists(sampler, batch_size, drop_last):
    rows = list(AdaptiveSampler(sampler.store, KeepAll()))
    expected = [rows[i : i + batch_size] for i in range(0, N, batch_size)]
    if drop_last:
        expected = [batch for batch in expected if len(batch) == batch_size]
    batches = sampler.batches(batch_size, drop_last=drop_last)
    assert len(batches) == len(expected)
    assert list(batches) == expected


def test_batches_are_lists_of_python_ints(sampler):
    batch = next(iter(sampler.batches(4)))
    assert type(batch) is list
    assert {type(row) for row in batch} == {int}


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 11])
def test_as_arrays_they_hold_the_same_rows(sampler, batch_size, drop_last):
    lists = list(AdaptiveSampler(sampler.store, KeepAll()).batches(batch_size, drop_last=drop_last))
    arrays = list(sampler.batches(batch_size, drop_last=drop_last, arrays=True))
    assert [batch.tolist() for batch in arrays] == lists
    assert {batch.dtype for batch in arrays} <= {np.dtype(np.int64)}


def test_an_array_is_the_users_to_write_to(sampler):
    first, second = itertools.islice(sampler.batches(3, arrays=True), 2)
    rows = second.tolist()
    first[:] = 0
    assert second.tolist() == rows


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("drawn", [1, 2, 3])
def test_a_state_within_an_epoch_counts_the_batches_drawn(sampler, drawn, arrays):
    iterator = iter(sampler.batches(4, arrays=arrays))
    for _ in range(drawn):
        next(iterator)
    assert sampler.drawn == iterator.position == min(4 * drawn, N)
    again = AdaptiveSampler(sampler.store, KeepAll())
    again.load_state_dict(iterator.state_dict())
    if drawn < 3:
        assert [row for batch in iterator for row in batch] == list(again)


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("drawn", [1, 3])
def test_an_iterator_of_an_epoch_that_was_left_raises_at_its_next_batch(sampler, drawn, arrays):
    iterator = iter(sampler.batches(4, arrays=arrays))
    for _ in range(drawn):
        next(iterator)
    sampler.set_epoch(5)
    with pytest.raises(ResumeError, match="rows of two epochs would mix"):
        next(iterator)


@pytest.mark.parametrize("walk", ["rows", "batches"])
def test_an_iterator_that_is_left_gives_its_memory_back_at_once(sampler, walk):
    iterator = iter(sampler if walk == "rows" else sampler.batches(4))
    next(iterator)
    left = weakref.ref(iterator)
    gc.disable()
    try:
        del iterator
        sampler.set_epoch(1)
        assert left() is None
    finally:
        gc.enable()


def test_an_epoch_of_many_blocks_loses_no_row():
    n = 3 * (1 << 16) + 5
    rows = [row for batch in AdaptiveSampler(scored(np.zeros(n)), KeepAll()).batches(1000) for row in batch]
    assert sorted(rows) == list(range(n))


def test_each_pass_is_the_next_epoch_also_after_a_break(sampler):
    batches = sampler.batches(3)
    next(iter(batches))
    list(batches)
    assert sampler.epoch == 1


def test_batches_that_drop_the_last_begin_the_next_epoch_all_the_same(sampler):
    batches = sampler.batches(3, drop_last=True)
    passes = [list(batches) for _ in range(2)]
    assert passes[0] != passes[1]
    assert (sampler.epoch, [len(batch) for batch in passes[1]]) == (1, [3, 3, 3])


def test_making_iterators_has_no_side_effect(sampler):
    batches = sampler.batches(3)
    before = batches.state_dict()
    iter(batches), iter(batches)
    assert batches.state_dict() == before


def test_they_show_what_a_framework_looks_for(sampler):
    batches = sampler.batches(3, drop_last=True)
    assert (batches.sampler, batches.batch_size, batches.drop_last) == (sampler, 3, True)


def test_set_epoch_and_states_are_the_samplers(sampler):
    batches = sampler.batches(3)
    batches.set_epoch(4)
    iterator = iter(batches)
    rows = next(iterator)
    again = AdaptiveSampler(sampler.store, KeepAll()).batches(3)
    again.load_state_dict(batches.state_dict())
    assert (again.sampler.epoch, list(again)) == (4, list(iterator))
    assert len(rows) == 3


def test_a_batch_size_may_change_when_resuming(sampler):
    iterator = iter(sampler.batches(3))
    rows = next(iterator)
    again = AdaptiveSampler(sampler.store, KeepAll())
    again.load_state_dict(sampler.state_dict())
    rest = [row for batch in again.batches(2) for row in batch]
    assert rows + rest == list(AdaptiveSampler(sampler.store, KeepAll()))


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, None])
def test_a_batch_size_that_is_none_is_refused(sampler, batch_size):
    with pytest.raises(InvalidValue, match=r"batch_size=.*: a whole number, 1 or more"):
        sampler.batches(batch_size)


@pytest.mark.parametrize("foreign", [range(10), [1, 2], None])
def test_a_foreign_sampler_is_refused_because_the_selection_would_be_lost(foreign):
    with pytest.raises(
        InvalidValue, match=r"is none of ours: the selection would be lost.*use_distributed_sampler=False"
    ):
        Batches(foreign, 4)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("delivered", range(1, 8))
def test_a_walk_resumed_within_a_batch_of_a_block_gives_every_row_that_is_left_of_the_block(delivered, drop_last):
    """A loader that counts for itself may stop anywhere; the first block then ends with a short batch, within the epoch."""
    store = scored(np.arange(float(N)))

    def sampler():
        return AdaptiveSampler(store, KeepAll(), replan=2)

    whole, first = list(itertools.chain(*sampler().batches(4))), sampler()
    walk = iter(first.batches(4))
    drawn = [next(walk), next(walk)]
    assert [*itertools.chain(*drawn)] == whole[:8]
    second = sampler()
    second.load_state_dict(first.state_dict(delivered=delivered))
    rest = list(second.batches(4, drop_last=drop_last))
    in_block = [whole[start : min(start + 4, 8)] for start in range(delivered, 8, 4)]
    expected = [*in_block, whole[8:]]
    assert rest == [batch for batch in expected if len(batch) == 4 or not drop_last]
