"""Loss weights of a plan in the Trainer: over the denominator of the model's own loss, under accumulation too."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    DataCollatorWithPadding,
)

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.selection.base import describe
from adaptive_sampler.torch import LossHook
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from tests.torch.trainers.small import (
    BATCH,
    SMALL,
    Given,
    N,
    causal,
    documents,
    new_store,
    quiet,
    sequence_to_sequence,
    token_losses,
    tokenizer,
    trained,
    weights_of,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers, on its own deprecations
SGD = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}


@dataclass(frozen=True)
class Ones:
    """A policy that visits every row, with weights that are all 1, and says so for each."""

    def plan(self, store: Any, *, epoch: int, seed: int) -> Plan:
        return Plan(len(store), describe(self), seed, epoch, store.made_from, weights=np.ones(len(store), np.float32))


VARIED = np.linspace(0, 2.2, N)


def classifier() -> Any:
    torch.manual_seed(0)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.5}
    return BertForSequenceClassification(BertConfig(**SMALL, **still, num_labels=3))


def classified() -> Dataset:
    return Dataset.from_list([sample | {"labels": row % 3} for row, sample in enumerate(documents())])


def language() -> Dataset:
    return Dataset.from_list(documents())


def translated() -> Dataset:
    return Dataset.from_list(documents("labels"))


def plain() -> Any:
    return DataCollatorForLanguageModeling(tokenizer(), mlm=False)


def by_class(store: Any) -> LossHook:
    return LossHook(nn.CrossEntropyLoss(), store)


def unshifted(store: Any) -> TokenLossHook:
    return TokenLossHook(store, shift=False)


KINDS: dict[str, tuple[Any, Any, Any, Any]] = {
    "causal": (causal, language, plain, TokenLossHook),
    "flattened": (causal, language, DataCollatorWithFlattening, TokenLossHook),
    "sequence to sequence": (sequence_to_sequence, translated, lambda: DataCollatorForSeq2Seq(tokenizer()), unshifted),
    "classes": (classifier, classified, lambda: DataCollatorWithPadding(tokenizer()), by_class),
}


def final(kind: str, place: Path, policy: Any, **settings: Any) -> dict[str, Tensor]:
    """The weights of the model after one epoch of gradient descent."""
    model, dataset, collator, hook = KINDS[kind]
    place.mkdir()
    trainer = trained(
        model(), hook(new_store(place / "store")), dataset(), collator(), place, policy, **(SGD | settings)
    )
    return weights_of(trainer.model)


def same(one: dict[str, Tensor], other: dict[str, Tensor], near: float) -> None:
    for name, x in one.items():
        torch.testing.assert_close(x, other[name], rtol=near, atol=near)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_weight_is_twice_the_gradient(kind: str, accumulate: int, place: Path) -> None:
    settings = {"gradient_accumulation_steps": accumulate}
    weighed = final(kind, place.with_name("a"), Given(np.full(N, 2)), **settings)
    faster = final(kind, place.with_name("b"), KeepAll(), **settings, learning_rate=0.2)
    same(weighed, faster, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_1_give_the_unweighted_run_bit_for_bit(kind: str, place: Path) -> None:
    weighed = final(kind, place.with_name("a"), Ones())
    plain = final(kind, place.with_name("b"), KeepAll())
    same(weighed, plain, 0.0)


class Bare(transformers.Trainer):
    """transformers' Trainer, over the rows that a sampler of ours draws."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.sampler


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_changes_nothing_of_the_training(kind: str, place: Path) -> None:
    hooked = final(kind, place.with_name("a"), KeepAll())
    model, dataset, collator, _ = KINDS[kind]
    bare = Bare(model(), quiet(place.parent, **SGD), train_dataset=dataset(), data_collator=collator())
    bare.sampler = AdaptiveSampler(new_store(place), KeepAll(), seed=1)
    bare.train()
    same(hooked, weights_of(bare.model), 0.0)


@pytest.mark.parametrize("kind", ["causal", "flattened"])
def test_two_batches_accumulated_are_one_of_twice_the_size(kind: str, place: Path) -> None:
    settings = {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2}
    same(
        final(kind, place.with_name("a"), Given(VARIED), **settings),
        final(kind, place.with_name("b"), Given(VARIED)),
        1e-6,
    )


def test_the_weighted_loss_is_the_sum_of_weight_times_loss_over_the_tokens_that_count(place: Path) -> None:
    trainer = trained(
        causal(), TokenLossHook(new_store(place)), language(), plain(), place.parent, Given(VARIED), logging_steps=1
    )
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    model = causal().eval()
    for inputs, loss in zip(trainer.seen, logged, strict=True):
        rows = inputs.pop("row").numpy()
        with torch.no_grad():
            logits = model(**inputs).logits
        counted = (inputs["labels"][:, 1:] != -100).sum(1).numpy()
        means = np.array(list(token_losses(logits, inputs["labels"], shift=True)))
        assert loss == pytest.approx(float((VARIED[rows] * means * counted).sum() / counted.sum()), rel=1e-5)


def test_what_is_recorded_is_not_weighted_and_the_hook_says_how_many_samples_the_weights_are_worth(
    place: Path,
) -> None:
    store = new_store(place)
    hook = TokenLossHook(store)
    trained(causal(), hook, language(), plain(), place.parent, Given(VARIED))
    other = new_store(place.with_name("other"))
    trained(causal(), TokenLossHook(other), language(), plain(), place.parent)
    np.testing.assert_allclose(store["loss"], other["loss"], rtol=1e-6)
    assert hook.effective_samples == pytest.approx(VARIED.sum() ** 2 / (VARIED**2).sum(), rel=1e-6)


def test_a_loss_that_the_trainer_computes_behind_the_model_is_not_weighted(place: Path) -> None:
    store = new_store(place, EL2N())
    with pytest.raises(InvalidValue, match=r"weighs samples, and the model returned no loss.*label_smoothing_factor"):
        trained(
            causal(), TokenLossHook(store), language(), plain(), place.parent, Given(VARIED), label_smoothing_factor=0.1
        )


def test_a_hook_that_weighs_by_another_sampler_is_refused(place: Path) -> None:
    store = new_store(place, Loss())
    hook = TokenLossHook(store, sampler=AdaptiveSampler(store, KeepAll(), seed=7))
    with pytest.raises(InvalidValue, match="is another sampler than the Trainer's"):
        trained(causal(), hook, language(), plain(), place.parent, Given(VARIED))


def experts(factor: float, policy: Any, place: Path) -> float:
    """The first batch's loss of a mixture of experts, which is balanced by `factor`."""
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        **SMALL, num_key_value_heads=2, num_local_experts=4, output_router_logits=True, router_aux_loss_coef=factor
    )
    place.mkdir()
    hook = TokenLossHook(new_store(place / "store"))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*requires_grad")
        trainer = trained(transformers.MixtralForCausalLM(config), hook, language(), plain(), place, policy)
    loss: float = trainer.state.log_history[0]["loss"]
    return loss


def test_what_balances_experts_stays_in_the_loss_and_is_not_weighed(place: Path) -> None:
    alone = experts(0.0, KeepAll(), place.with_name("a"))
    balanced = experts(0.5, KeepAll(), place.with_name("b"))
    weighed = experts(0.5, Given(np.full(N, 2)), place.with_name("c"))
    assert balanced > alone + 0.1
    assert weighed - balanced == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("policy", [None, Given(VARIED)], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", ["sequence to sequence", "classes"])
def test_a_model_whose_gradient_grows_with_accumulation_is_named_and_the_remedy_mends_it(
    kind: str, policy: Any, place: Path
) -> None:
    model, dataset, collator, hook = KINDS[kind]
    settings = SGD | {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2, "max_steps": 1}

    def run(mended: bool, **more: Any) -> dict[str, Tensor]:
        own = model()
        if mended:
            own.accepts_loss_kwargs = False
        store = new_store(place.with_name(f"{mended}{len(more)}"))
        given = hook(store), dataset(), collator(), place.parent, policy
        return weights_of(trained(own, *given, **(settings | more)).model)

    with pytest.warns(
        RuntimeWarning, match=r"ignores num_items_in_batch.*gradient_accumulation_steps=2.*2 times as large"
    ):
        run(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*num_items_in_batch")
        mended = run(True)
    if kind == "classes":  # as many samples in either batch: the mean of means is the mean
        whole = run(True, per_device_train_batch_size=BATCH, gradient_accumulation_steps=1)
        same(mended, whole, 1e-6)
