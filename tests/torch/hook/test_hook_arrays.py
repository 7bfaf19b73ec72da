"""Rows and values come in any memory that NumPy has: the hook takes what `store.update` takes."""

import numpy as np
import pytest
import torch
from torch import nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.torch import LossHook
from tests.torch.samples import CLASSES, make_store

LOGITS, LABELS = torch.zeros(4, CLASSES, requires_grad=True), torch.zeros(4, dtype=torch.int64)


def read_only(array):
    array.flags.writeable = False
    return array


ROWS = {
    "backwards": np.arange(4)[::-1],
    "every second": np.arange(0, 8, 2),
    "big-endian": np.arange(4, dtype=">i8"),
    "unsigned": np.arange(4, dtype=np.uint16),
    "read-only": read_only(np.arange(4)),
    "range": range(4),
}
LOSSES = {
    "backwards": np.arange(4.0)[::-1],
    "big-endian": np.arange(4, dtype=">f8"),
    "read-only": read_only(np.arange(4.0)),
    "integers": np.arange(4),
    "halves": np.arange(4, dtype=np.float16),
}


@pytest.fixture
def hook():
    return LossHook(nn.CrossEntropyLoss(), make_store(Loss()))


@pytest.mark.parametrize("name", ROWS)
def test_rows_in_any_memory_are_taken_as_the_store_takes_them(hook, name):
    hook(LOGITS, LABELS, rows=ROWS[name])
    other = make_store(Loss())
    other.update(ROWS[name], loss=np.ones(4))
    assert hook.store.count("loss").tolist() == other.count("loss").tolist()


@pytest.mark.parametrize("name", ROWS)
def test_watched_rows_in_any_memory_are_taken_too(hook, name):
    for logits in hook.watch([(ROWS[name], LOGITS)]):
        hook(logits, LABELS)
    assert np.flatnonzero(hook.store.count("loss")).tolist() == sorted(ROWS[name])


@pytest.mark.parametrize("name", LOSSES)
def test_losses_in_any_memory_are_recorded(hook, name):
    hook.record([5, 6, 7, 8], loss=LOSSES[name])
    assert hook.store["loss"][5:9].tolist() == LOSSES[name].tolist()


@pytest.mark.parametrize("rows", [torch.arange(4) * (1 + 0j), np.arange(4) * (1 + 0j), list("abcd"), [None] * 4])
def test_rows_that_are_no_integers_are_refused_by_their_dtype(hook, rows):
    with pytest.raises(InvalidValue, match=r"rows have shape \(4,\) and dtype .*: one axis of integers is needed"):
        hook(LOGITS, LABELS, rows=rows)


@pytest.mark.parametrize("losses", [torch.ones(4) * 1j, np.ones(4) * 1j, np.array(list("1234"))])
def test_losses_that_are_no_real_numbers_are_refused_by_name(hook, losses):
    with pytest.raises(InvalidValue, match=r"loss has values of dtype .*: numbers are needed"):
        hook.record(range(4), loss=losses)


def test_a_record_of_nothing_is_fine(hook):
    hook.record([], loss=[])
    assert hook.store.observed("loss") == 0


def test_a_call_on_nothing_is_the_criterions(hook):
    value = hook(LOGITS[:0], LABELS[:0], rows=[])
    assert value.isnan()  # what the mean of nothing is
    assert hook.store.observed("loss") == 0


@pytest.mark.parametrize("labels", [np.arange(3)[::-1], np.arange(3, dtype=">i8"), read_only(np.arange(3))])
def test_labels_beside_logits_of_torch_come_in_any_memory(labels):
    store = make_store(Loss())
    store.update(range(3), logits=LOGITS[:3], labels=labels)
    assert store.observed("loss") == 3
