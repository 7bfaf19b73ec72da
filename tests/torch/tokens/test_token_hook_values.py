"""The value of a token loss hook is Hugging Face's, bit for bit, and what it records are means over counted tokens."""

import pytest
import torch
from torch.nn import functional as F

from adaptive_sampler.scoring import Loss, measures
from tests.torch.tokens.samples import SCORES, WORDS, hooked, outputs

transformers = pytest.importorskip("transformers.loss.loss_utils")


def batch(rows=3, tokens=7):
    """(logits, labels) of a batch in which some labels are ignored."""
    logits, labels = outputs(rows * tokens)
    logits, labels = logits.detach().view(rows, tokens, WORDS).requires_grad_(), labels.view(rows, tokens)
    labels[0, :3] = labels[-1, -2:] = -100
    return logits, labels


@pytest.mark.parametrize("items", [None, 40, torch.tensor(40)], ids=["mean", "number", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shift", [True, False])
def test_the_value_and_its_gradient_are_those_of_hugging_face_bit_for_bit(shift, dtype, items):
    logits, labels = batch()
    logits = logits.detach().to(dtype).requires_grad_()
    theirs = (transformers.ForCausalLMLoss if shift else transformers.ForMaskedLMLoss)(
        logits, labels, WORDS, num_items_in_batch=items
    )
    ours = hooked(shift=shift)(logits, labels, rows=[3, 1, 4], num_items_in_batch=items)
    assert torch.equal(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(value, logits)[0] for value in (ours, theirs)))


@pytest.mark.parametrize("kind", SCORES)
def test_a_score_is_the_mean_of_its_measure_over_counted_tokens(kind):
    hook, (logits, labels) = hooked(kind(fold=Loss().fold)), batch()
    hook(logits, labels, rows=[3, 1, 4])
    score = hook.store.scores[0]
    for row, one, label in zip([3, 1, 4], logits.detach(), labels, strict=True):
        counted = label[1:] != -100
        given = {"logits": one[:-1][counted], "labels": label[1:][counted]}
        if kind().kind == "loss":
            values = measures.cross_entropy(**given)
        else:
            values = score.measure(**{name: given[name] for name in score.inputs[0]})
        assert hook.store[score.name][row] == pytest.approx(float(torch.as_tensor(values).double().mean()), rel=1e-6)


def test_the_number_of_counted_tokens_is_kept_beside_the_scores():
    hook, (logits, labels) = hooked(), batch()
    hook(logits, labels, rows=[3, 1, 4])
    assert hook.store["tokens"][[3, 1, 4]].tolist() == [4, 6, 4]


def test_the_mean_of_the_scores_weighted_by_tokens_is_the_loss():
    hook, (logits, labels) = hooked(), batch()
    value = hook(logits, labels, rows=[3, 1, 4])
    loss, tokens = hook.store["loss"][[3, 1, 4]], hook.store["tokens"][[3, 1, 4]]
    assert (loss * tokens).sum() / tokens.sum() == pytest.approx(value.item(), rel=1e-6)
    torch.testing.assert_close(value, F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()))
