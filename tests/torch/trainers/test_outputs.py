"""What models return that the Trainer trains: tuples, other names, two heads; and what hides or doubles the logits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from torch import Tensor, nn
from transformers import DataCollatorForLanguageModeling, DataCollatorWithPadding

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.torch import LossHook
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from adaptive_sampler.torch.transformers import AdaptiveTrainer
from tests.torch.trainers.small import SMALL, N, Noting, causal, documents, new_store, quiet, tokenizer, trained
from tests.torch.trainers.test_weights import SGD, VARIED, Given, classified, same, weights_of

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers, on its own deprecations


class Shaped(nn.Module):
    """A classifier that returns what `form` makes of loss and logits."""

    def __init__(self, form: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form, self.words, self.head = form, nn.Embedding(40, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> Any:
        hidden = (self.words(input_ids) * attention_mask[..., None]).sum(1)
        logits = self.head(hidden)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return self.form(loss, logits, hidden)


FORMS = {
    "a dict": lambda loss, logits, hidden: {"loss": loss, "logits": logits},
    "a tuple": lambda loss, logits, hidden: (loss, logits),
    "a tuple of more": lambda loss, logits, hidden: (loss, logits, hidden),
    "other names": lambda loss, logits, hidden: {"loss": loss, "preds": logits},
    "a ModelOutput": lambda loss, logits, hidden: transformers.modeling_outputs.SequenceClassifierOutput(
        loss=loss, logits=logits
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_logits_are_found_and_the_weighted_loss_takes_the_losss_place(form: str, place: Path) -> None:
    def run(name: str, of: Any, policy: Any = None) -> tuple[np.ndarray, Any]:
        store = new_store(place.with_name(name), Loss(), EL2N())
        hook = LossHook(nn.CrossEntropyLoss(), store)
        collator = DataCollatorWithPadding(tokenizer())
        trainer = trained(Shaped(of), hook, classified(), collator, place.parent, policy, **SGD)
        return store["el2n"].copy(), weights_of(trainer.model)

    assert np.array_equal(run("a", FORMS[form])[0], run("b", FORMS["a dict"])[0])
    weighed, usual = run("c", FORMS[form], Given(VARIED)), run("d", FORMS["a dict"], Given(VARIED))
    same(weighed[1], usual[1], 0.0)


AMBIGUOUS = {
    "a tuple": lambda loss, logits, hidden: (loss, hidden, logits),
    "a dict": lambda loss, logits, hidden: {"loss": loss, "features": hidden, "preds": logits},
}


def measured(of: Any, place: Path, criterion: nn.Module | None = None) -> np.ndarray:
    """The EL2N of a training, by a store that keeps no loss."""
    store = new_store(place, EL2N())
    hook = LossHook(criterion or nn.CrossEntropyLoss(), store)
    trained(Shaped(of), hook, classified(), DataCollatorWithPadding(tokenizer()), place.parent)
    found: np.ndarray = store["el2n"].copy()
    return found


@pytest.mark.parametrize("form", AMBIGUOUS)
def test_of_several_outputs_that_fit_the_logits_are_those_whose_loss_the_model_returned(form: str, place: Path) -> None:
    np.testing.assert_array_equal(
        measured(AMBIGUOUS[form], place.with_name("a")), measured(FORMS["a dict"], place.with_name("b"))
    )


def test_outputs_of_which_none_has_the_models_loss_are_told_and_the_remedy_mends_it(place: Path) -> None:
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.3)
    with pytest.raises(InvalidValue, match=r"2 tensors that may be logits.* return \{'loss': loss, 'logits': logits\}"):
        measured(AMBIGUOUS["a tuple"], place.with_name("a"), smoothed)
    measured(FORMS["a dict"], place.with_name("b"), smoothed)


class Odd(nn.Module):
    """Returns a loss, and logits of a shape: as of the pixels of an image at half its size, or of a transcript."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.head = shape, nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, labels: Tensor) -> Any:
        logits = self.head * torch.ones(len(x), *self.shape)
        return {"loss": logits.mean(), "logits": logits}


@pytest.mark.parametrize(
    "kind", [lambda s: LossHook(nn.CrossEntropyLoss(), s), lambda s: TokenLossHook(s, shift=False)]
)
@pytest.mark.parametrize(("labels", "logits"), [((4, 4), (3, 2, 2)), ((5,), (9, 3))], ids=["images", "transcripts"])
def test_labels_that_are_of_no_tokens_name_the_observation_which_mends_it(
    labels: Any, logits: Any, kind: Any, place: Path
) -> None:
    class Mended(Noting):
        def observation(self, outputs: Any, inputs: Any) -> dict[str, Tensor]:
            return {"loss": outputs["logits"].flatten(1).mean(1)}

    data = [{"x": torch.ones(2), "labels": torch.ones(labels, dtype=torch.long)} for _ in range(N)]
    with pytest.raises(InvalidValue, match=r"neither of samples nor of tokens.*observation\(outputs, inputs\)"):
        trained(Odd(logits), kind(new_store(place)), data, None, place.parent)
    store = new_store(place.with_name("other"))
    sampler, hook = AdaptiveSampler(store, KeepAll()), LossHook(nn.CrossEntropyLoss(), store)
    trainer = Mended(Odd(logits), quiet(place.parent), train_dataset=data, sampler=sampler, hook=hook)
    trainer.seen = []
    trainer.train()
    assert store["loss"].tolist() == [1] * N


class Spans(Noting):
    """Question answering: the loss of a sample is the mean of those of its start and its end."""

    def observation(self, outputs: Any, inputs: Any) -> dict[str, Tensor]:
        ends = [(outputs.start_logits, inputs["start_positions"]), (outputs.end_logits, inputs["end_positions"])]
        losses = [nn.functional.cross_entropy(logits, at, reduction="none") for logits, at in ends]
        return {"loss": (losses[0] + losses[1]) / 2}


def answering() -> Any:
    torch.manual_seed(0)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.5}
    return transformers.BertForQuestionAnswering(transformers.BertConfig(**SMALL, **still))


def questions() -> Dataset:
    return Dataset.from_list(
        [
            sample | {"start_positions": 0, "end_positions": len(sample["input_ids"]) - 1}
            for sample in documents("input_ids")
        ]
    )


def asked(kind: Any, hook: Any, sampler: Any, place: Path, **settings: Any) -> Any:
    trainer = kind(
        answering(),
        quiet(place.parent, **settings),
        train_dataset=questions(),
        data_collator=DataCollatorWithPadding(tokenizer()),
        sampler=sampler,
        hook=hook,
    )
    trainer.seen = []
    trainer.train()
    return trainer


def sampled(store: Any, policy: Any = None) -> Any:
    from adaptive_sampler.selection import KeepAll
    from adaptive_sampler.torch.data.samplers import AdaptiveSampler

    return AdaptiveSampler(store, policy or KeepAll(), seed=1)


def test_question_answering_trains_and_says_how_to_record(place: Path) -> None:
    store = new_store(place)
    asked(AdaptiveTrainer, None, sampled(store), place)
    hook = LossHook(nn.CrossEntropyLoss(), store)
    with pytest.raises(
        InvalidValue, match=r"no logits among them that belong to labels.*observation\(outputs, inputs\)"
    ):
        asked(AdaptiveTrainer, hook, sampled(store), place)
    trainer = asked(Spans, hook, sampled(store), place)
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    order = [row for inputs in trainer.seen for row in inputs["row"].tolist()]
    np.testing.assert_allclose(store["loss"][order].reshape(3, -1).mean(1), logged, rtol=1e-4)


def test_the_losses_of_an_observation_are_weighed(place: Path) -> None:
    def final(name: str, policy: Any, **settings: Any) -> Any:
        store = new_store(place.with_name(name))
        hook = LossHook(nn.CrossEntropyLoss(), store)
        return weights_of(asked(Spans, hook, sampled(store, policy), place, **(SGD | settings)).model)

    same(final("a", Given(np.full(N, 2))), final("b", None, learning_rate=0.2), 1e-6)


class Half(Spans):
    """An observation that is not the training's loss."""

    def observation(self, outputs: Any, inputs: Any) -> dict[str, Tensor]:
        return {"loss": super().observation(outputs, inputs)["loss"] / 2}


def test_an_observation_of_another_loss_is_told(place: Path) -> None:
    store = new_store(place)
    with pytest.raises(InvalidValue, match="mean of the losses that observation returned is"):
        asked(Half, LossHook(nn.CrossEntropyLoss(), store), sampled(store), place)


class Hidden(nn.Module):
    """A causal model whose loss never has the logits, as Liger's."""

    def __init__(self) -> None:
        super().__init__()
        self.model = causal()
        self.config = self.model.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **others: Any) -> Any:
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **others)
        return {"loss": outputs.loss, "logits": None}


def test_a_loss_that_hides_the_logits_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Dataset.from_list(documents()), DataCollatorForLanguageModeling(tokenizer(), mlm=False), place.parent
    with pytest.raises(InvalidValue, match=r"returned \['loss', 'logits'\].*no \(batch, tokens, vocabulary\) logits"):
        trained(Hidden(), TokenLossHook(new_store(place)), *given)
    monkeypatch.setattr(transformers.TrainingArguments, "use_liger_kernel", True)
    monkeypatch.setattr(transformers.trainer, "apply_liger_kernel", lambda *_: None)
    with pytest.raises(InvalidValue, match=r"use_liger_kernel=True: .*Set use_liger_kernel=False.*hook.linear\("):
        trained(Hidden(), TokenLossHook(new_store(place.with_name("other"))), *given, use_liger_kernel=True)


class Twice(transformers.Trainer):
    """Calls the model twice, as R-Drop does."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return (model(**inputs)["loss"] + model(**inputs)["loss"]) / 2


def test_two_forward_passes_with_gradients_are_told(place: Path) -> None:
    from adaptive_sampler.torch.transformers import AdaptiveTrainerMixin

    class Both(AdaptiveTrainerMixin, Twice):  # type: ignore[misc]
        """With ours in front."""

    store = new_store(place)
    given = {"train_dataset": classified(), "data_collator": DataCollatorWithPadding(tokenizer())}
    hook = LossHook(nn.CrossEntropyLoss(), store)
    with pytest.raises(InvalidValue, match="called twice with gradients in one compute_loss"):
        Both(Shaped(FORMS["a dict"]), quiet(place.parent), **given, sampler=sampled(store), hook=hook).train()
