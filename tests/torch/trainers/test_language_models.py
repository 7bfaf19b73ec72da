"""Causal, masked and sequence-to-sequence models in the Trainer: a document's score is the mean over its counted tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from torch import nn
from transformers import DataCollatorForLanguageModeling, DataCollatorForSeq2Seq, DataCollatorWithFlattening

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Entropy, Error, Loss
from adaptive_sampler.selection import Draw
from adaptive_sampler.torch import LossHook
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from tests.torch.trainers.small import (
    BATCH,
    SMALL,
    Given,
    N,
    alone,
    causal,
    documents,
    expected,
    masked,
    new_store,
    sequence_to_sequence,
    token_ids,
    tokenizer,
    trained,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers, on its own deprecations


def masking() -> Any:
    torch.manual_seed(0)
    return DataCollatorForLanguageModeling(tokenizer(), mlm=True, mlm_probability=0.5)


KINDS = {
    "causal": (causal, True, (), lambda: DataCollatorForLanguageModeling(tokenizer(), mlm=False)),
    "masked": (masked, False, (), masking),
    "sequence to sequence": (
        sequence_to_sequence,
        False,
        ("labels",),
        lambda: DataCollatorForSeq2Seq(tokenizer(), label_pad_token_id=-100),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_recorded_loss_is_the_mean_over_a_documents_counted_tokens(kind: str, place: Path) -> None:
    make, shift, names, collator = KINDS[kind]
    store = new_store(place)
    trainer = trained(
        make(), TokenLossHook(store, shift=shift), Dataset.from_list(documents(*names)), collator(), place.parent
    )
    np.testing.assert_allclose(store["loss"], expected(make(), trainer, shift=shift), rtol=1e-5)
    assert store.count("loss").tolist() == [int(np.isfinite(x)) for x in store["loss"]]  # some have no masked token


def test_documents_laid_into_one_row_of_the_batch_have_the_scores_that_they_have_alone(place: Path) -> None:
    store = new_store(place)
    trainer = trained(
        causal(),
        TokenLossHook(store),
        Dataset.from_list(documents()),
        DataCollatorWithFlattening(),
        place.parent,
    )
    assert {len(inputs["labels"]) for inputs in trainer.seen} == {1}
    np.testing.assert_allclose(store["loss"], [alone(causal(), row) for row in range(N)], rtol=1e-5)


def test_evaluation_during_training_records_nothing(place: Path) -> None:
    store = new_store(place)
    collator = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    trainer = trained(causal(), TokenLossHook(store), Dataset.from_list(documents()), collator, place.parent)
    trainer.evaluate(Dataset.from_list(documents()))
    assert store.count("loss").tolist() == [1] * N
    assert trainer.data_collator is collator


@pytest.mark.parametrize(("make", "right"), [(causal, True), (masked, False)])
def test_the_wrong_shift_is_told_at_the_first_batch(make: Any, right: bool, place: Path) -> None:
    store = new_store(place, EL2N())
    collator = DataCollatorForLanguageModeling(tokenizer(), mlm=not right)
    with pytest.raises(
        InvalidValue, match=rf"the training's loss of this batch is .*TokenLossHook\(store, shift={right}\)"
    ):
        trained(make(), TokenLossHook(store, shift=not right), Dataset.from_list(documents()), collator, place.parent)
    assert store.observed("el2n") == 0
    trained(make(), TokenLossHook(store, shift=right), Dataset.from_list(documents()), collator, place.parent)


def test_a_hook_of_single_samples_names_the_one_of_tokens(place: Path) -> None:
    collator = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    hook = LossHook(nn.CrossEntropyLoss(), new_store(place))
    with pytest.raises(InvalidValue, match=r"labels \(4, \d\) are of tokens.*hook=TokenLossHook\(store\)"):
        trained(causal(), hook, Dataset.from_list(documents()), collator, place.parent)


def untrained(words: float, kind: torch.dtype = torch.float32) -> Any:
    """A Llama whose losses are all near log 40, as all words are near to each other: by `words`."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=2, tie_word_embeddings=False)
    model = transformers.LlamaForCausalLM(config).to(kind)
    with torch.no_grad():
        model.lm_head.weight.mul_(words)
    return model


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_wrong_shift_of_a_model_that_has_learned_nothing_is_told(
    kind: torch.dtype, weighted: bool, place: Path
) -> None:
    collator = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    policy = Given(np.linspace(0.5, 2, N)) if weighted else None
    model = untrained(1e-2, kind)
    hook = TokenLossHook(new_store(place), shift=False)
    with pytest.raises(InvalidValue, match=r"TokenLossHook\(store, shift=True\)"):
        trained(model, hook, Dataset.from_list(documents()), collator, place.parent, policy)
    hook = TokenLossHook(new_store(place.with_name("other")))
    trained(model, hook, Dataset.from_list(documents()), collator, place.parent, policy)


def test_a_wrong_shift_that_cannot_be_told_at_the_first_step_is_told_at_the_second(place: Path) -> None:
    collator = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    store = new_store(place)
    given = (TokenLossHook(store, shift=False), Dataset.from_list(documents()), collator, place.parent)
    with pytest.raises(InvalidValue, match=r"TokenLossHook\(store, shift=True\)"):
        trained(untrained(0), *given, learning_rate=0.1, lr_scheduler_type="constant")
    assert store.observed("loss") == BATCH


@pytest.mark.parametrize("policy", [None, Given(np.linspace(0.5, 2, N))], ids=["plain", "weighted"])
def test_documents_padded_on_the_left_have_the_scores_that_they_have_alone(policy: Any, place: Path) -> None:
    store, left = new_store(place), tokenizer()
    left.padding_side = "left"
    table = Dataset.from_list([x | {"attention_mask": [1] * len(x["input_ids"])} for x in documents()])
    collator = DataCollatorForLanguageModeling(left, mlm=False)
    trained(causal(), TokenLossHook(store), table, collator, place.parent, policy)
    np.testing.assert_allclose(store["loss"], [alone(causal(), row) for row in range(N)], rtol=1e-5)
    assert store["tokens"].tolist() == [len(token_ids(row)) - 1 for row in range(N)]


def drawing(place: Path, *, joins: bool) -> Any:
    """(The store, a hook, and how many observations there were before), of a plan that draws two rows again and again."""
    store = new_store(place)
    hook = TokenLossHook(store, joins=joins)
    store.fold("loss", np.arange(N), np.r_[np.full(N - 2, 0.01), [5, 5]].astype(np.float32))
    return store, hook, store.count("loss").sum()


def test_each_visit_of_a_row_in_a_pack_is_an_observation(place: Path) -> None:
    store, hook, before = drawing(place, joins=False)
    trained(
        causal(),
        hook,
        Dataset.from_list(documents()),
        DataCollatorWithFlattening(),
        place.parent,
        Draw("loss", N),
    )
    assert store.count("loss").sum() - before == N
    assert store["loss"][N - 1] == pytest.approx(alone(causal(), N - 1), rel=1e-5)


def test_pieces_are_not_joined_under_a_plan_that_visits_rows_several_times(place: Path) -> None:
    _, hook, _ = drawing(place, joins=True)
    given = Dataset.from_list(documents()), DataCollatorWithFlattening(), place.parent, Draw("loss", N)
    with pytest.raises(InvalidValue, match=r"joins=True, and the plan visits rows several times"):
        trained(causal(), hook, *given)
    hook.joins = False
    trained(causal(), hook, *given)


class Runs:
    """A collator that lays documents into one row, and lets each document's first token be predicted from the one before."""

    def __call__(self, samples: Any) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(sample["input_ids"]) for sample in samples]
        whole = torch.cat(ids)[None]
        return {
            "input_ids": whole,
            "labels": whole.clone(),
            "position_ids": torch.cat([torch.arange(len(x)) for x in ids])[None],
        }


def test_a_loss_across_the_bounds_of_documents_is_told(place: Path) -> None:
    with pytest.raises(InvalidValue, match="predicts the first token of a document from the one before"):
        trained(causal(), TokenLossHook(new_store(place)), Dataset.from_list(documents()), Runs(), place.parent)


class Doubled:
    """A collator that makes two documents of each."""

    def __call__(self, samples: Any) -> dict[str, torch.Tensor]:
        ids = torch.tensor([token_ids(1) for _ in range(2 * len(samples))])
        return {"input_ids": ids, "labels": ids.clone()}


def test_a_collator_that_adds_documents_is_told(place: Path) -> None:
    with pytest.raises(InvalidValue, match="4 rows for 8 rows of the batch"):
        trained(causal(), TokenLossHook(new_store(place)), Dataset.from_list(documents()), Doubled(), place.parent)


def test_labels_smoothed_by_the_trainer_have_no_token_loss_but_logits(place: Path) -> None:
    collator = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    given = (Dataset.from_list(documents()), collator, place.parent)
    with pytest.raises(InvalidValue, match=r"label_smoothing_factor=0.1 makes .*leave Loss\(\) out of the store"):
        trained(causal(), TokenLossHook(new_store(place)), *given, label_smoothing_factor=0.1)
    store = new_store(place.with_name("other"), EL2N(), Entropy(), Error())
    trained(causal(), TokenLossHook(store), *given, label_smoothing_factor=0.1)
    assert store.observed("el2n") == N


def test_scores_are_those_of_a_training_with_gradient_accumulation(place: Path) -> None:
    store, collator = new_store(place), DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    trained(
        causal(),
        TokenLossHook(store),
        Dataset.from_list(documents()),
        collator,
        place.parent,
        gradient_accumulation_steps=3,
    )
    np.testing.assert_allclose(store["loss"], [alone(causal(), row) for row in range(N)], rtol=1e-5)


def test_the_store_keeps_loss_entropy_error_and_el2n_of_a_document(place: Path) -> None:
    store = new_store(place, Loss(), Entropy(), Error(), EL2N())
    collator = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    trained(causal(), TokenLossHook(store), Dataset.from_list(documents()), collator, place.parent)
    assert store["tokens"].tolist() == [len(token_ids(row)) - 1 for row in range(N)]
    assert all(store.observed(name) == N for name in store.names)
