"""What a token loss hook records of a training whose loss is computed elsewhere, with or without the logits."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Confidence, Entropy, Error, Loss, Margin, Score, Variability, measures
from tests.torch.tokens.samples import WORDS, hooked, outputs

LENGTHS, CU, ROWS = [4, 2, 5], [0, 4, 6, 11], [7, 2, 9]
PACKED = {"cu_seqlens": CU}


def same(one, other):
    assert one.store.names == other.store.names
    for name in one.store.names:
        np.testing.assert_allclose(one.store[name], other.store[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shift", [True, False])
def test_outputs_are_recorded_as_a_call_records_them(shift):
    logits, labels = outputs(*LENGTHS)
    called, given = hooked(shift=shift), hooked(shift=shift)
    called(logits, labels, rows=ROWS, **PACKED)
    given.record_outputs(ROWS, logits, labels, **PACKED)
    same(called, given)


@pytest.mark.parametrize(
    "scores", [[], [Loss(), Score("top", lambda logits: logits.amax(1), Loss().fold)]], ids=["ours", "own"]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_measured_in_float32(dtype, scores):
    logits, labels = outputs(*LENGTHS)
    half, full = hooked(*scores), hooked(*scores)
    half.record_outputs(ROWS, logits.to(dtype), labels, **PACKED)
    full.record_outputs(ROWS, logits.to(dtype).float(), labels, **PACKED)
    same(half, full)


@pytest.mark.parametrize("words", [2, 99, 100, 300])
def test_a_score_of_your_own_beside_ours_changes_none_of_ours(words):
    logits, labels = outputs(*LENGTHS, words=words)
    labels[0, 2] = -100
    alone, beside = hooked(), hooked()
    beside.store.add(Score("top", lambda logits: logits.amax(1), Loss().fold))
    alone.record_outputs(ROWS, logits, labels, **PACKED)
    beside.record_outputs(ROWS, logits, labels, **PACKED)
    for name in alone.store.names:
        np.testing.assert_allclose(alone.store[name], beside.store[name], rtol=1e-5, atol=1e-6)


def test_logits_that_are_not_in_one_piece_are_measured_where_they_lie():
    logits, labels = outputs(24)
    logits, labels = logits.detach().view(3, 8, WORDS), labels.view(3, 8)
    cut, whole = hooked(), hooked()
    cut.record_outputs([1, 2, 3], logits[:, :6], labels[:, :6])
    whole.record_outputs([1, 2, 3], logits[:, :6].contiguous(), labels[:, :6])
    same(cut, whole)


@pytest.mark.parametrize("block", [1, 40, 1 << 20])
def test_the_size_of_a_block_changes_nothing(monkeypatch, block):
    monkeypatch.setattr("adaptive_sampler.torch.tokens.measured._BLOCK", block)
    logits, labels = outputs(*LENGTHS)
    labels[0, 2] = -100
    own = Score("top", lambda logits, loss: logits.amax(1) - loss, Loss().fold)  # blocks are for scores of your own
    ours, whole = hooked(Loss(), EL2N(), own), hooked(Loss(), EL2N(), own)
    ours.record_outputs(ROWS, logits, labels, **PACKED)
    monkeypatch.undo()
    whole.record_outputs(ROWS, logits, labels, **PACKED)
    same(ours, whole)


# -- values measured elsewhere ---------------------------------------------------------------------------------------------


def measured(logits, labels):
    """What a fused head gives, (1, tokens − 1) each: of the positions that predict, 0 where a label is ignored."""
    flat, following = logits.detach()[0, :-1], labels[0, 1:]
    kept = following != -100
    some = {
        "loss": F.cross_entropy(flat, following, reduction="none"),
        "entropy": measures.entropy(flat),
        "error": measures.incorrect(flat, following.clamp(min=0)),
        "el2n": measures.el2n(flat, following.clamp(min=0)),
        "margin": measures.margin(flat, following.clamp(min=0)),
        "confidence": measures.confidence(flat, following.clamp(min=0)),
    }
    return {name: torch.where(kept, torch.as_tensor(value), 0)[None] for name, value in some.items()}


@pytest.mark.parametrize("wide", [False, True], ids=["predicting positions", "all positions"])
def test_values_of_tokens_are_recorded_as_a_call_records_them(wide):
    logits, labels = outputs(*LENGTHS)
    labels[0, 2] = -100
    called, given = hooked(), hooked()
    called(logits, labels, rows=ROWS, **PACKED)
    values = measured(logits, labels)
    if wide:
        values = {name: F.pad(value, (0, 1)) for name, value in values.items()}
    given.record_tokens(ROWS, values, labels, **PACKED)
    same(called, given)


def test_a_value_is_found_by_the_kind_of_a_score_of_another_name():
    logits, labels = outputs(*LENGTHS)
    kinds = [Loss(name="nats"), EL2N(squared=True, name="squared"), Variability(name="spread")]
    called, given = hooked(*kinds), hooked(*kinds)
    called(logits, labels, rows=ROWS, **PACKED)
    given.record_tokens(ROWS, measured(logits, labels), labels, **PACKED)
    same(called, given)


def test_a_score_of_your_own_takes_the_value_of_its_name():
    logits, labels = outputs(*LENGTHS)
    hook = hooked(Score("surprise", lambda loss: loss, Loss().fold))
    hook.record_tokens(ROWS, {"surprise": measured(logits, labels)["loss"]}, labels, **PACKED)
    assert hook.store.observed("surprise") == 3


def test_a_score_without_a_value_is_named():
    logits, labels = outputs(*LENGTHS)
    hook = hooked(Loss(), Entropy(), Margin(), Confidence(), Error())
    values = measured(logits, labels)
    with pytest.raises(InvalidValue, match=r"score 'margin' .*score 'error' .*\(loss, entropy, confidence\) is none"):
        hook.record_tokens(ROWS, {n: values[n] for n in ("loss", "entropy", "confidence")}, labels, **PACKED)
    assert hook.store.observed("loss") == 0


@pytest.mark.parametrize("shape", [(1, 9), (2, 10), (10,)])
def test_values_of_another_shape_are_refused(shape):
    _, labels = outputs(*LENGTHS)
    words = r"values 'loss' have shape .*: one a label is needed, \(1, 11\) or \(1, 10\)"
    with pytest.raises(InvalidValue, match=words):
        hooked(Loss()).record_tokens(ROWS, {"loss": torch.zeros(shape)}, labels, **PACKED)


def test_without_a_shift_values_have_the_labels_shape():
    _, labels = outputs(*LENGTHS)
    with pytest.raises(InvalidValue, match=r"one a label is needed, \(1, 11\)\."):
        hooked(Loss(), shift=False).record_tokens(ROWS, {"loss": torch.zeros(1, 10)}, labels, **PACKED)


# -- without the logits --------------------------------------------------------------------------------------------------


def head(dtype=torch.float32, bias=False):
    generator = torch.Generator().manual_seed(1)
    hidden, weight = (torch.randn(*s, generator=generator).to(dtype) for s in ((1, sum(LENGTHS), 5), (WORDS, 5)))
    offset = torch.randn(WORDS, generator=generator).to(dtype) if bias else None
    return [None if x is None else x.requires_grad_() for x in (hidden, weight, offset)]


@pytest.mark.parametrize("items", [None, 20])
@pytest.mark.parametrize("bias", [False, True])
def test_the_linear_loss_and_its_gradients_are_those_through_the_logits(bias, items):
    (hidden, weight, offset), (_, labels) = head(bias=bias), outputs(*LENGTHS)
    labels[0, 1] = -100
    given = {"rows": ROWS, "num_items_in_batch": items, **PACKED}
    ours, through = hooked(Loss()), hooked(Loss())
    values = (
        ours.linear(hidden, weight, labels, bias=offset, **given),
        through(F.linear(hidden, weight, offset), labels, **given),
    )
    torch.testing.assert_close(*values)
    leaves = [x for x in (hidden, weight, offset) if x is not None]
    for one, other in zip(*(torch.autograd.grad(value, leaves) for value in values), strict=True):
        torch.testing.assert_close(one, other)
    same(ours, through)


def test_the_linear_loss_is_that_of_a_batch_of_several_rows_too():
    (hidden, weight, _), (_, labels) = head(), outputs(*LENGTHS)
    hidden, labels = hidden[:, :10].reshape(2, 5, 5), labels[:, :10].view(2, 5)
    ours, through = hooked(Loss()), hooked(Loss())
    value = ours.linear(hidden, weight, labels, rows=[1, 2])
    torch.testing.assert_close(value, through(hidden @ weight.T, labels, rows=[1, 2]))
    same(ours, through)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_linear_loss_of_half_precision_is_summed_in_float32(dtype):
    (hidden, weight, _), (_, labels) = head(dtype), outputs(*LENGTHS)
    hook, full = hooked(Loss()), hooked(Loss())
    value = hook.linear(hidden, weight, labels, rows=ROWS, **PACKED)
    expected = full.linear(hidden.float(), weight.float(), labels, rows=ROWS, **PACKED)
    torch.testing.assert_close(value, expected, rtol=1e-2, atol=0)
    assert value.dtype == torch.float32
    np.testing.assert_allclose(hook.store["loss"], full.store["loss"], rtol=1e-2)


def test_scores_of_more_than_the_loss_are_refused_by_name():
    (hidden, weight, _), (_, labels) = head(), outputs(*LENGTHS)
    hook = hooked(Loss(), Entropy(), EL2N())
    words = r"score 'entropy' takes logits; score 'el2n' takes logits \+ labels: hook.linear never has the logits"
    with pytest.raises(InvalidValue, match=words):
        hook.linear(hidden, weight, labels, rows=ROWS, **PACKED)


def test_a_head_of_another_width_is_refused():
    (hidden, weight, _), (_, labels) = head(), outputs(*LENGTHS)
    words = r"hidden \(1, 11, 5\) and weight \(11, 4\): \(batch, tokens, width\) and \(vocabulary, width\)"
    with pytest.raises(InvalidValue, match=words):
        hooked(Loss()).linear(hidden, weight[:, :4], labels, rows=ROWS, **PACKED)


def test_a_torch_without_it_is_told_of_the_version_that_has_it(monkeypatch):
    (hidden, weight, _), (_, labels) = head(), outputs(*LENGTHS)
    monkeypatch.delattr(torch.nn, "LinearCrossEntropyOptions")
    with pytest.raises(InvalidValue, match=r"pip install 'torch>=2.13', or compute the logits"):
        hooked(Loss()).linear(hidden, weight, labels, rows=ROWS, **PACKED)
