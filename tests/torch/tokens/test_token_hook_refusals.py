"""What users pass by mistake to a token loss hook is refused in one sentence, whose remedy works."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreError
from adaptive_sampler.scoring import Loss, Tokens
from adaptive_sampler.torch import TokenLossHook
from tests.torch.tokens.samples import WORDS, hooked, make_store, outputs

LOGITS, LABELS = outputs(3, 3)


@dataclass
class Outputs:
    """What a model returns."""

    logits: torch.Tensor


def refuses(words, call):
    with pytest.raises(InvalidValue, match=words):
        call()


# -- making it -----------------------------------------------------------------------------------------------------------


def test_a_criterion_is_refused_and_the_hook_is_made_of_the_store_alone():
    store = make_store()
    refuses(r"takes no criterion\..*TokenLossHook\(store\)", lambda: TokenLossHook(nn.CrossEntropyLoss(), store))
    TokenLossHook(store)


@pytest.mark.parametrize("given", [(None,), (nn.CrossEntropyLoss(),), ("texts.zarr",), (make_store(Loss()), None)])
def test_what_is_no_store_is_refused(given):
    refuses(
        r"TokenLossHook was given .*: a ScoreStore is needed, and what follows it by name",
        lambda: TokenLossHook(*given),
    )


@pytest.mark.parametrize("ignored", [None, True, -100.0, "-100"])
def test_an_ignored_label_that_is_no_int_is_refused(ignored):
    refuses(r"ignore_index=.*an int such as -100", lambda: hooked(ignore_index=ignored))


def test_a_store_that_is_open_to_read_is_told_what_the_hook_adds(tmp_path):
    with ScoreStore.create(tmp_path / "store", 3, [Loss()]) as store:
        store.commit()
    words = r"is open to read \(mode='r'\), and has no score Tokens, which the hook adds\. Open it with mode='r\+'"
    with pytest.raises(StoreError, match=words), ScoreStore.open(tmp_path / "store", mode="r") as store:
        TokenLossHook(store)
    with ScoreStore.open(tmp_path / "store", mode="r+") as store:
        TokenLossHook(store)


def test_a_store_that_is_open_to_read_and_has_the_count_is_taken(tmp_path):
    with ScoreStore.create(tmp_path / "store", 3, [Loss(), Tokens()]) as store:
        store.commit()
    with ScoreStore.open(tmp_path / "store", mode="r") as store, torch.no_grad():
        assert TokenLossHook(store)(LOGITS, LABELS).isfinite()


# -- logits and labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words", "remedy"),
    [
        (Outputs(LOGITS), r"hook\(outputs\.logits, labels\)", lambda outputs: outputs.logits),
        ({"logits": LOGITS}, r"hook\(outputs\['logits'\], labels\)", lambda outputs: outputs["logits"]),
        ((LOGITS,), r"hook\(outputs\[0\], labels\)", lambda outputs: outputs[0]),
        (LOGITS.detach().numpy(), r"torch\.as_tensor\(logits\)", torch.as_tensor),
        (LOGITS.detach().round().long(), r"logits\.float\(\)", torch.Tensor.float),
    ],
    ids=["outputs", "dict", "tuple", "numpy", "int"],
)
def test_what_is_no_logits_names_where_they_are(given, words, remedy):
    refuses(words, lambda: hooked()(given, LABELS, rows=[0]))
    hooked()(remedy(given), LABELS, rows=[0])


@pytest.mark.parametrize("axes", [(1, 2), (0, 1)])
@pytest.mark.parametrize("words", [7, WORDS])
def test_swapped_axes_are_named_and_not_taken_for_shifted_ones(axes, words):
    logits, labels = torch.randn(5, 6, words), torch.randint(words, (5, 6))
    with pytest.raises(InvalidValue, match=rf"axes are swapped: logits\.transpose\({axes[0]}, {axes[1]}\)") as refused:
        hooked()(logits.transpose(*axes), labels, rows=range(5))
    assert "shifted" not in str(refused.value)
    hooked()(logits.transpose(*axes).transpose(*axes), labels, rows=range(5))


@pytest.mark.parametrize("labels", [None, [[1, 2], [1]], "labels"])
def test_labels_that_are_no_array_are_refused(labels):
    refuses(r"labels are .*\(batch, tokens\) integers are needed", lambda: hooked()(LOGITS, labels, rows=[0]))


@pytest.mark.parametrize(
    "bias", [torch.zeros(WORDS + 1), torch.zeros(1, WORDS), torch.zeros(WORDS).long(), [0.0] * WORDS]
)
def test_a_bias_that_is_not_the_heads_is_refused(bias):
    hidden, weight = torch.randn(1, 6, 4), torch.randn(WORDS, 4)
    refuses(
        r"bias is .*\(11,\)\. It is the head's",
        lambda: hooked(Loss()).linear(hidden, weight, LABELS, bias=bias, rows=[0]),
    )
    hooked(Loss()).linear(hidden, weight, LABELS, bias=torch.zeros(WORDS), rows=[0])


# -- rows, numbers and weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_a_row_map_may_be_nested_lists(kind):
    hook, mapped = hooked(), [[4, 4, 4, 2, 2, -1]]
    labels = LABELS.clone()
    labels[0, 5] = -100
    hook(LOGITS, labels, rows=kind(mapped))
    assert hook.store["tokens"][[4, 2]].tolist() == [2, 1]


def test_a_row_map_may_be_a_list_of_arrays():
    hook = hooked()
    hook(LOGITS, LABELS, rows=[np.array([4, 4, 4, 2, 2, 2])])
    assert hook.store["tokens"][[4, 2]].tolist() == [2, 2]


def test_a_row_map_with_rows_of_several_lengths_is_refused():
    refuses(r"the row map .*Pad its rows to one length with -1", lambda: hooked()(LOGITS, LABELS, rows=[[1], [1, 2]]))


@pytest.mark.parametrize(
    "items",
    [True, "12", 0, -3, float("nan"), float("inf"), torch.tensor(True), torch.tensor(0), torch.ones(2), [5], np.True_],
)
def test_a_number_of_items_that_is_none_is_refused(items):
    words = r"num_items_in_batch=.*positive.*Leave it out"
    refuses(words, lambda: hooked()(LOGITS, LABELS, rows=[0], num_items_in_batch=items))
    hidden, weight = torch.randn(1, 6, 4), torch.randn(WORDS, 4)
    refuses(words, lambda: hooked(Loss()).linear(hidden, weight, LABELS, rows=[0], num_items_in_batch=items))


@pytest.mark.parametrize(
    "items", [8, 8.0, np.int64(8), np.array([8]), torch.tensor(8), torch.tensor([8]), torch.tensor([[8.0]])]
)
def test_the_value_is_one_number_whatever_the_number_of_items_is_given_as(items):
    value = hooked()(LOGITS, LABELS, rows=[0], num_items_in_batch=items)
    assert value.shape == ()
    assert torch.equal(value, hooked()(LOGITS, LABELS, rows=[0], num_items_in_batch=8))


def test_weights_of_recorded_tokens_may_be_a_list():
    hook = hooked(Loss())
    hook.record_tokens([4, 2], {"loss": torch.rand(1, 6)}, LABELS, cu_seqlens=[0, 3, 6], weights=[1, 3])
    assert hook.effective_samples == pytest.approx(16 / 10)


@pytest.mark.parametrize(
    "weights", [[1.0], [[1.0, 2.0]], [1.0, float("nan")], [1.0, -1.0], ["a", "b"], [[1.0], [1.0, 2.0]], 3.0]
)
def test_weights_of_recorded_tokens_that_are_none_are_refused(weights):
    hook = hooked(Loss())
    refuses(
        r"weights have shape .*for each of the 2 documents",
        lambda: hook.record_tokens([4, 2], {"loss": torch.rand(1, 6)}, LABELS, cu_seqlens=[0, 3, 6], weights=weights),
    )
    assert hook.store.observed("loss") == 0
