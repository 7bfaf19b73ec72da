"""A left-padded batch has the loss of Hugging Face's models and, with its attention mask, the scores of a right-padded one."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.torch import TokenLossHook
from tests.torch.tokens.samples import WORDS, hooked, make_store, outputs
from tests.torch.tokens.test_token_hook_weights import RAMP, weighing

pytestmark = pytest.mark.filterwarnings("ignore:[0-9]+ of [0-9]+ documents have no label that counts:RuntimeWarning")

LENGTHS, ROWS = [3, 1, 6], [4, 0, 2]


def padded(side, *, label=-100):
    """(logits, labels, mask) of three documents with the same logits of their tokens; padding has other logits."""
    whole, known = outputs(sum(LENGTHS))
    logits, labels = torch.full((3, 6, WORDS), 0.5), torch.full((3, 6), label)
    logits[..., 0] = 7
    mask = torch.zeros(3, 6, dtype=torch.int64)
    for b, (one, ids) in enumerate(zip(whole[0].detach().split(LENGTHS), known[0].split(LENGTHS), strict=True)):
        at = slice(6 - len(ids), 6) if side == "left" else slice(0, len(ids))
        logits[b, at], labels[b, at], mask[b, at] = one, ids, 1
    return logits.requires_grad_(), labels, mask


def same_scores(one, other):
    for name in one.store.names:
        np.testing.assert_allclose(one.store[name], other.store[name], rtol=1e-5, atol=1e-6)
        assert one.store.count(name).tolist() == other.store.count(name).tolist()


def by_call(hook, logits, labels, **named):
    hook(logits, labels, rows=ROWS, **named)


def by_outputs(hook, logits, labels, **named):
    hook.record_outputs(ROWS, logits, labels, **named)


def by_tokens(hook, logits, labels, **named):
    following = F.pad(labels, (0, 1), value=-100)[:, 1:]
    losses = F.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="none").view(labels.shape)
    hook.record_tokens(ROWS, {"loss": losses}, labels, **named)


def by_linear(hook, logits, labels, **named):
    hook.linear(logits, torch.eye(WORDS), labels, rows=ROWS, **named)


@pytest.mark.parametrize("label", [-100, 5])
@pytest.mark.parametrize("way", [by_call, by_outputs, by_tokens, by_linear])
def test_a_left_padded_batch_has_the_scores_of_a_right_padded_one(way, label):
    scores = () if way in (by_call, by_outputs) else (Loss(),)
    left, right = hooked(*scores), hooked(*scores)
    for hook, side in ((left, "left"), (right, "right")):
        logits, labels, mask = padded(side, label=label)
        way(hook, logits, labels, attention_mask=mask)
    same_scores(left, right)
    assert left.store["tokens"][ROWS].tolist() == pytest.approx([2, np.nan, 5], nan_ok=True)


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("begin", ["anew", "with the row"])
@pytest.mark.parametrize("name", ["position_ids", "seq_idx"])
def test_positions_of_padding_make_no_documents(monkeypatch, name, begin, far):
    if far:
        for module in ("bounds", "documents", "targets", "measured"):
            monkeypatch.setattr(f"adaptive_sampler.torch.tokens.{module}.on_host", lambda _: False)
    logits, labels, mask = padded("left")
    bounds = torch.arange(6).expand(3, 6) if name == "position_ids" else torch.zeros(3, 6, dtype=torch.int64)
    if begin == "anew":  # as generation numbers positions
        bounds = (mask.cumsum(1) - 1).masked_fill(mask == 0, 1) if name == "position_ids" else mask - 1
    left, right = hooked(), hooked()
    left(logits, labels, rows=ROWS, attention_mask=mask, **{name: bounds})
    left.flush()
    by_call(right, *padded("right")[:2])
    same_scores(left, right)


def test_the_value_is_that_without_the_mask_bit_for_bit():
    logits, labels, mask = padded("left")
    following = F.pad(labels, (0, 1), value=-100)[:, 1:]
    theirs = F.cross_entropy(logits.flatten(0, 1), following.flatten())
    assert torch.equal(hooked()(logits, labels, rows=ROWS, attention_mask=mask), theirs)


def test_what_padding_predicts_has_the_weight_of_its_row_of_the_batch():
    logits, labels, mask = padded("left")
    following = F.pad(labels, (0, 1), value=-100)[:, 1:]
    losses = F.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="none").view(labels.shape)
    weights = torch.from_numpy(RAMP[ROWS])[:, None]
    value = weighing(RAMP)(logits, labels, rows=ROWS, attention_mask=mask)
    torch.testing.assert_close(value, (weights * losses).sum() / (following != -100).sum(), check_dtype=False)


def test_without_a_shift_padding_itself_is_left_out():
    logits, labels, mask = padded("left", label=5)
    hook = TokenLossHook(make_store(Loss()), shift=False)
    hook(logits, labels, rows=ROWS, attention_mask=mask)
    assert hook.store["tokens"][ROWS].tolist() == LENGTHS


def test_a_row_map_may_say_the_same():
    logits, labels, mask = padded("left")
    mapped, masked = hooked(), hooked()
    mapped(logits, labels, rows=torch.where(mask == 1, torch.tensor(ROWS)[:, None], -1))
    by_call(masked, logits, labels, attention_mask=mask.bool())
    for name in mapped.store.names:
        np.testing.assert_allclose(mapped.store[name], masked.store[name], rtol=1e-6)


@pytest.mark.parametrize("mask", [torch.ones(3, 5), torch.ones(6), torch.ones(3, 1, 6, 6), [[1, 1]]])
def test_a_mask_of_another_shape_is_refused(mask):
    logits, labels, _ = padded("left")
    with pytest.raises(InvalidValue, match=r"attention_mask has shape .*, and labels \(3, 6\): .*tokenizer"):
        hooked()(logits, labels, rows=ROWS, attention_mask=mask)


def test_a_mask_that_is_added_to_attention_is_refused():
    logits, labels, mask = padded("left")
    with pytest.raises(InvalidValue, match=r"attention_mask has dtype torch.float32: .*cast it to int64"):
        hooked()(logits, labels, rows=ROWS, attention_mask=torch.zeros(3, 6).masked_fill(mask == 0, -torch.inf))
