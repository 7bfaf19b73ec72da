"""On an accelerator nothing waits for a value: what is wrong is seen when the values have come to the host.

There is none here; the arrays are said to lie on one, and take the way of those that do.
"""

import numpy as np
import pytest
import torch

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from tests.torch.tokens.packs import WAYS, made
from tests.torch.tokens.samples import WORDS, hooked, of_two_documents, outputs
from tests.torch.tokens.test_token_hook_weights import RAMP, weighing

MODULES = ("bounds", "documents", "targets", "measured")


@pytest.fixture
def afar(monkeypatch):
    """Every tensor counts as one of an accelerator."""

    def go():
        for module in MODULES:
            monkeypatch.setattr(f"adaptive_sampler.torch.tokens.{module}.on_host", lambda _: False)

    return go


@pytest.mark.filterwarnings("ignore:[0-9]+ of [0-9]+ documents have no label that counts:RuntimeWarning")
@pytest.mark.parametrize(
    ("way", "padded", "cut"),
    [
        *((way, False, cut) for way in WAYS for cut in (False, True)),
        *((way, True, False) for way in WAYS if way != "cu_seqlens"),  # lengths have no padding within the batch
    ],
)
def test_the_scores_are_those_of_the_host(afar, way, padded, cut):
    pack = made(5, 6, 3, padded=padded, cut=cut)
    near, far = hooked(), hooked()
    near(pack.logits, pack.labels, **pack.given(way))
    afar()
    far(pack.logits, pack.labels, **pack.given(way))
    for name in near.store.names:
        np.testing.assert_allclose(far.store[name], near.store[name], rtol=1e-6, atol=1e-7)
        assert far.store.count(name).tolist() == near.store.count(name).tolist()


def test_logits_not_in_one_piece_have_the_scores_of_the_host(afar):
    logits, labels = outputs(24)
    logits, labels = logits.detach().view(3, 8, WORDS)[:, :6], labels.view(3, 8)[:, :6]
    near, far = hooked(), hooked()
    near.record_outputs([1, 2, 3], logits, labels)
    afar()
    far.record_outputs([1, 2, 3], logits, labels)
    for name in near.store.names:
        np.testing.assert_allclose(far.store[name], near.store[name], rtol=1e-6, atol=1e-7)


@of_two_documents
@pytest.mark.parametrize("rows", [[4], [4, 5, 6]])
def test_bounds_that_do_not_fit_the_rows_raise_when_they_are_seen(afar, bounds, rows):
    hook = hooked(Loss())
    afar()
    with pytest.raises(InvalidValue, match=rf"do not make the {len(rows)} documents that its rows are of"):
        hook(*outputs(6), rows=rows, **bounds)
    assert hook.store.observed("loss") == 0


@pytest.mark.parametrize(
    "bounds",
    [
        {"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]] * 3)},
        {"seq_idx": torch.tensor([[0, 0, 0, 1, 1, 1]] * 3)},
        {"cu_seqlens": [0, 3, 6, 9, 12, 15, 18]},
    ],
    ids=lambda bounds: next(iter(bounds)),
)
@pytest.mark.parametrize("count", [0, 1, 3, 5, 9])
@pytest.mark.parametrize("weighed", [False, True])
def test_rows_too_few_or_too_many_for_several_packs_raise_when_they_are_seen(afar, bounds, count, weighed):
    hook, (logits, labels) = weighing(RAMP) if weighed else hooked(Loss()), outputs(18)
    afar()
    with pytest.raises(InvalidValue, match=rf"do not make the {count} documents that its rows are of"):
        hook(logits.view(3, 6, WORDS), labels.view(3, 6), rows=list(range(count)), **bounds)
    assert hook.store.observed("loss") == 0


@pytest.mark.parametrize("weighed", [False, True])
def test_a_row_map_that_names_no_document_raises_when_it_is_seen(afar, weighed):
    hook = weighing(RAMP) if weighed else hooked(Loss())
    afar()
    with pytest.raises(InvalidValue, match="a label that counts is of no document"):
        hook(*outputs(6), rows=torch.full((1, 6), -1))


def test_a_row_map_that_names_no_document_where_no_label_counts_records_nothing(afar):
    hook, (logits, labels) = hooked(Loss()), outputs(6)
    afar()
    hook(logits, torch.full_like(labels, -100), rows=torch.full((1, 6), -1))
    assert (hook.store.observed("loss"), hook.skipped_documents) == (0, 0)


def test_bounds_that_disagree_raise_when_they_are_seen(afar):
    hook = hooked(Loss())
    afar()
    with pytest.raises(InvalidValue, match="several of them disagree"):
        hook(*outputs(6), rows=[0, 1], cu_seqlens=[0, 2, 6], position_ids=torch.tensor([[0, 1, 2, 0, 1, 2]]))


@pytest.mark.parametrize("lengths", [[1, 3, 6], [0, 4, 3, 6], [0, 3, 7]])
def test_lengths_that_are_none_raise_when_they_are_seen(afar, lengths):
    hook = hooked(Loss())
    afar()
    with pytest.raises(InvalidValue, match="the bounds of a batch"):
        hook(*outputs(6), rows=list(range(len(lengths) - 1)), cu_seqlens=lengths)


def test_indices_that_decrease_raise_when_they_are_seen(afar):
    hook = hooked(Loss())
    afar()
    with pytest.raises(InvalidValue, match="the bounds of a batch"):
        hook(*outputs(6), rows=[0, 1], seq_idx=torch.tensor([[1, 1, 1, 0, 0, 0]]))


def test_a_row_map_that_leaves_a_counted_label_out_raises_when_it_is_seen(afar):
    hook = hooked(Loss())
    afar()
    with pytest.raises(InvalidValue, match="the bounds of a batch"):
        hook(*outputs(6), rows=torch.tensor([[0, 0, 0, 0, 0, -1]]))
