"""Trainers with a compute_loss of their own: it calls the hook, which knows the rows, or its loss is the hook's, or it is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from transformers import DataCollatorWithPadding

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.torch import LossHook
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from adaptive_sampler.torch.transformers import AdaptiveTrainer, AdaptiveTrainerMixin
from tests.torch.trainers.small import BATCH, Given, N, causal, new_store, quiet, tokenizer, trained, weights_of
from tests.torch.trainers.test_weights import SGD, VARIED, classified, classifier, language, plain, same

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers, on its own deprecations


class OwnLoss(transformers.Trainer):
    """A Trainer with a loss of its own, made of the logits."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        labels = inputs["labels"]
        outputs = model(**inputs)
        loss = nn.functional.cross_entropy(outputs.logits, labels, weight=torch.tensor([1.0, 2.0, 3.0]))
        return (loss, outputs) if return_outputs else loss


def own_loss(store: Any, criterion: nn.Module, place: Path, policy: Any) -> Any:
    from adaptive_sampler.torch.transformers import AdaptiveTrainerMixin

    class Both(AdaptiveTrainerMixin, OwnLoss):
        """With ours in front."""

    sampler = AdaptiveSampler(store, policy, seed=1)
    given = {"train_dataset": classified(), "data_collator": DataCollatorWithPadding(tokenizer())}
    Both(classifier(), quiet(place.parent), **given, sampler=sampler, hook=LossHook(criterion, store)).train()


def test_a_loss_of_the_trainers_own_is_recorded_if_it_is_the_hooks_and_else_told(place: Path) -> None:
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    store = new_store(place)
    with pytest.raises(InvalidValue, match=r"the training's loss of this batch is .*CrossEntropyLoss gives"):
        own_loss(store, nn.CrossEntropyLoss(), place, KeepAll())
    own_loss(store, weighted, place, KeepAll())
    assert store.observed("loss") == N


def test_weights_that_would_not_reach_a_trainers_own_loss_are_told(place: Path) -> None:
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(InvalidValue, match=r"weights would not reach it.*return hook\(outputs.logits, inputs"):
        own_loss(new_store(place), weighted, place, Given(VARIED))


def calls_hook(self: Any, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
    outputs = model(**inputs)
    loss = self.hook(outputs.logits, inputs["labels"], num_items_in_batch=num_items_in_batch)
    return (loss, outputs) if return_outputs else loss


def gives_no_labels(self: Any, model: Any, inputs: Any, *given: Any, num_items_in_batch: Any = None) -> Any:
    outputs = model(**{name: x for name, x in inputs.items() if name != "labels"})
    return self.hook(outputs.logits, inputs["labels"], num_items_in_batch=num_items_in_batch)


def calls_twice(self: Any, model: Any, inputs: Any, *given: Any, num_items_in_batch: Any = None) -> Any:
    one, other = model(**inputs), model(**inputs)
    return self.hook((one.logits + other.logits) / 2, inputs["labels"], num_items_in_batch=num_items_in_batch)


def fuses(self: Any, model: Any, inputs: Any, *given: Any, num_items_in_batch: Any = None) -> Any:
    hidden = model.model(inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]
    return self.hook.linear(hidden, model.lm_head.weight, inputs["labels"], num_items_in_batch=num_items_in_batch)


def ignores_hook(self: Any, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
    return model(**inputs).loss


def behind(compute_loss: Any) -> Any:
    """A Trainer with that loss, and the mixin before it."""
    return type(
        "Both", (AdaptiveTrainerMixin, type("Own", (transformers.Trainer,), {"compute_loss": compute_loss})), {}
    )


def derived(compute_loss: Any) -> Any:
    """Ours with that loss instead."""
    return type("Own", (AdaptiveTrainer,), {"compute_loss": compute_loss})


def run(kind: Any, place: Path, policy: Any, **settings: Any) -> tuple[Any, Any]:
    """(The trainer, the hook) after one epoch of gradient descent on documents."""
    place.mkdir()
    hook = TokenLossHook(new_store(place / "store"))
    sampler = AdaptiveSampler(hook.store, policy, seed=1)
    given = {"train_dataset": language(), "data_collator": plain(), "sampler": sampler, "hook": hook}
    trainer = kind(causal(), quiet(place, **(SGD | settings)), **given)
    trainer.train()
    return trainer, hook


@pytest.mark.parametrize("policy", [KeepAll(), Given(VARIED)], ids=["plain", "weighted"])
@pytest.mark.parametrize("compute_loss", [calls_hook, gives_no_labels, calls_twice, fuses])
@pytest.mark.parametrize("kind", [behind, derived])
def test_a_loss_that_calls_the_hook_is_recorded_once_and_weighed(
    kind: Any, compute_loss: Any, policy: Any, place: Path
) -> None:
    halved = {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2}
    own, hook = run(kind(compute_loss), place.with_name("own"), policy, **halved)
    ours, other = run(AdaptiveTrainer, place.with_name("ours"), policy, **halved)
    same(weights_of(own.model), weights_of(ours.model), 1e-5)
    np.testing.assert_allclose(hook.store["loss"], other.store["loss"], rtol=1e-4)
    assert hook.store.count("loss").tolist() == [1] * N
    assert hook.effective_samples == pytest.approx(other.effective_samples)


@pytest.mark.parametrize("policy", [KeepAll(), Given(VARIED)], ids=["plain", "weighted"])
def test_a_loss_of_which_nothing_is_recorded_is_told_with_the_remedy(policy: Any, place: Path) -> None:
    with pytest.raises(
        InvalidValue,
        match=r"compute_loss of Own neither calls super\(\).* override compute_loss: return hook\(outputs.logits, inputs",
    ):
        run(derived(ignores_hook), place, policy)


def test_a_loss_of_a_subclass_that_takes_ours_is_recorded(place: Path) -> None:
    class Doubled(AdaptiveTrainer):
        def compute_loss(self, *given: Any, **named: Any) -> Any:
            return 2 * super().compute_loss(*given, **named)

    _, hook = run(Doubled, place, KeepAll())
    assert hook.store.count("loss").tolist() == [1] * N


def test_a_call_of_the_hook_after_our_loss_records_nothing_more(place: Path) -> None:
    class Both(AdaptiveTrainer):
        def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
            loss, outputs = super().compute_loss(model, dict(inputs), True, **named)
            self.hook(outputs.logits, inputs["labels"])
            return loss

    _, hook = run(Both, place, KeepAll())
    assert hook.store.count("loss").tolist() == [1] * N


@pytest.mark.parametrize("compute_loss", [ignores_hook, None])
def test_weights_without_a_hook_are_refused_whatever_the_loss(compute_loss: Any, place: Path) -> None:
    kind = AdaptiveTrainer if compute_loss is None else derived(compute_loss)
    sampler = AdaptiveSampler(new_store(place), Given(VARIED), seed=1)
    given = {"train_dataset": language(), "data_collator": plain(), "sampler": sampler}
    with pytest.raises(InvalidValue, match="weighs samples, and there is no hook="):
        kind(causal(), quiet(place.parent), **given).train()


def test_a_loss_computed_outside_of_a_step_takes_the_rows_among_its_inputs(place: Path) -> None:
    hook = TokenLossHook(new_store(place))
    trainer = trained(causal(), hook, language(), plain(), place.parent)
    inputs = trainer.seen[0]
    trainer.model.train()
    before = hook.store.count("loss")[inputs["row"].numpy()].copy()
    AdaptiveTrainer.compute_loss(trainer, trainer.model, dict(inputs)).backward()
    hook.flush()
    assert (hook.store.count("loss")[inputs["row"].numpy()] == before + 1).all()


class Bespoke(nn.Module):
    """A criterion without a `reduction`."""

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, labels, reduction="none")


def test_a_hook_that_cannot_weigh_is_told_where_a_loss_calls_it(place: Path) -> None:
    def compute_loss(self: Any, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
        return self.hook(model(**inputs).logits, inputs["labels"]).mean()

    store = new_store(place)
    sampler = AdaptiveSampler(store, Given(VARIED), seed=1)
    given = {"train_dataset": classified(), "data_collator": DataCollatorWithPadding(tokenizer()), "sampler": sampler}
    with pytest.raises(InvalidValue, match=r"called a hook of Bespoke, which cannot weigh: it has no `reduction`"):
        behind(compute_loss)(classifier(), quiet(place.parent), **given, hook=LossHook(Bespoke(), store)).train()
    hook = LossHook(nn.CrossEntropyLoss(), store)
    behind(compute_loss)(classifier(), quiet(place.parent), **given, hook=hook).train()
    assert store.observed("loss") == N
