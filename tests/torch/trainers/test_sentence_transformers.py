"""SentenceTransformerTrainer with our mixin in front: a hook in the place of the loss's own criterion, or of its mean."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch import nn

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll, Prune
from adaptive_sampler.torch import LossHook
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.transformers import AdaptiveTrainerMixin, TrainersLoss
from adaptive_sampler.torch.transformers.distinct import DistinctBatches
from tests.torch.trainers.small import BATCH, SMALL, N, new_store, quiet, text, tokenizer, weights_of
from tests.torch.trainers.test_weights import SGD, VARIED, Given, Ones, same

pytestmark = pytest.mark.filterwarnings("ignore")  # both libraries, on their own deprecations


class Sentences(AdaptiveTrainerMixin, SentenceTransformerTrainer):  # type: ignore[misc]
    """As the docstring of the mixin has it."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model on the disk, from which the modules are read."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.5}
    transformers.BertModel(transformers.BertConfig(**SMALL, **still)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def embedder(saved: str) -> Any:
    return SentenceTransformer(modules=[Transformer(saved), Pooling(SMALL["hidden_size"])], device="cpu")


def pairs(*names: str) -> Dataset:
    """Two texts a row, and, if it is named, how similar they are."""
    columns = {"first": [text(row) for row in range(N)], "second": [text(3 * row + 1) for row in range(N)]}
    return Dataset.from_dict(columns | {name: [row % 5 / 4 for row in range(N)] for name in names})


def trainer(place: Path, model: Any, loss: Any, hook: Any, data: Dataset, policy: Any = None, **settings: Any) -> Any:
    return Sentences(
        model=model,
        args=quiet(place.parent, SentenceTransformerTrainingArguments, **settings),
        train_dataset=data,
        eval_dataset=data,
        loss=loss,
        sampler=AdaptiveSampler(hook.store, policy or KeepAll(), seed=1, num_samples=N),
        hook=hook,
    )


def similarity(place: Path, saved: str, policy: Any = None, **settings: Any) -> Any:
    """A training whose loss holds the hook."""
    model = embedder(saved)
    loss = losses.CosineSimilarityLoss(model)
    loss.loss_fct = hook = LossHook(loss.loss_fct, new_store(place))
    return trainer(place, model, loss, hook, pairs("score"), policy, **settings)


def ranking(place: Path, saved: str, policy: Any = None, **settings: Any) -> Any:
    """A training whose loss takes a mean over its queries."""
    model = embedder(saved)
    hook = LossHook(TrainersLoss(), new_store(place))
    return trainer(place, model, losses.MultipleNegativesRankingLoss(model), hook, pairs(), policy, **settings)


WAYS = {"inside the loss": similarity, "by its mean": ranking}


@pytest.mark.parametrize("way", WAYS)
def test_the_recorded_losses_of_a_batch_have_the_trainings_loss_as_their_mean(
    way: str, place: Path, saved: str
) -> None:
    one = WAYS[way](place, saved)
    order = one.adaptive_sampler.epoch_rows()[:]
    one.adaptive_sampler.set_epoch(0)
    one.train()
    logged = [entry["loss"] for entry in one.state.log_history if "loss" in entry]
    store = one.hook.store
    np.testing.assert_allclose(store["loss"][order].reshape(-1, BATCH).mean(1), logged, rtol=1e-4)
    assert len(set(store["loss"].tolist())) > N // 2
    one.evaluate()
    assert store.count("loss").tolist() == [1] * N


def test_the_selection_is_alive_in_the_batches(place: Path, saved: str) -> None:
    one = similarity(place, saved, Prune(0.5, "loss"), num_train_epochs=2)
    one.train()
    assert sorted(one.hook.store.count("loss").tolist()) == [1] * 6 + [3] * 6


@pytest.mark.parametrize("way", WAYS)
def test_weights_reach_the_loss(way: str, place: Path, saved: str) -> None:
    def final(name: str, policy: Any, **settings: Any) -> Any:
        folder = place.with_name(name)
        folder.mkdir()
        one = WAYS[way](folder / "store", saved, policy, **(SGD | settings))
        one.train()
        return weights_of(one.model)

    same(final("a", Given(np.full(N, 2))), final("b", KeepAll(), learning_rate=0.2), 1e-6)
    same(final("c", Ones()), final("d", KeepAll()), 0.0)
    if way == "inside the loss":  # its losses are each of one pair, so that the batch may be divided
        two = {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2}
        same(final("e", Given(VARIED), **two), final("f", Given(VARIED)), 1e-6)


def test_a_hook_that_the_loss_does_not_call_is_told(place: Path, saved: str) -> None:
    model = embedder(saved)
    loss = losses.MultipleNegativesRankingLoss(model)
    loss.unused = hook = LossHook(nn.MSELoss(), new_store(place))
    with pytest.raises(InvalidValue, match=r"holds the hook and did not call it.*LossHook\(TrainersLoss\(\), store\)"):
        trainer(place, model, loss, hook, pairs()).train()


def test_a_loss_that_is_no_mean_of_samples_is_told(place: Path, saved: str) -> None:
    model = embedder(saved)
    hook = LossHook(TrainersLoss(), new_store(place))
    with pytest.raises(InvalidValue, match=f"takes no mean over {BATCH} losses"):
        trainer(place, model, losses.CoSENTLoss(model), hook, pairs("score")).train()


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("CosineSimilarityLoss", r"loss.loss_fct = hook = LossHook\(loss.loss_fct, store\)"),
        ("CoSENTLoss", "CoSENTLoss holds no criterion .*leave hook= out"),
    ],
)
def test_what_to_do_is_found_in_the_loss_and_is_no_observation(kind: str, remedy: str, place: Path, saved: str) -> None:
    model = embedder(saved)
    hook = LossHook(nn.MSELoss(), new_store(place))
    with pytest.raises(InvalidValue, match=remedy) as told:
        trainer(place, model, getattr(losses, kind)(model), hook, pairs("score")).train()
    assert "observation" not in str(told.value)


def distinct(n: int, batch: int, texts: list[str], policy: Any = None) -> tuple[list[list[int]], Any]:
    """The batches of an epoch, and the sampler."""
    store = ScoreStore.create(None, n, [Loss()])
    sampler = AdaptiveSampler(store, policy or KeepAll(), seed=1)
    data = Dataset.from_dict({"first": texts, "second": [f"{text}!" for text in texts], "row": [0] * n})
    batches = DistinctBatches(sampler, batch, False, data, {"row"})
    found = list(batches)
    assert len(found) == len(batches)
    return found, sampler


def test_batches_without_duplicates_visit_each_row_of_the_plan_once() -> None:
    texts = [f"text {row % 9}" for row in range(30)]
    found, _ = distinct(30, 4, texts)
    assert sorted(row for batch in found for row in batch) == list(range(30))
    assert all(len({texts[row] for row in batch}) == len(batch) for batch in found)


def test_without_a_duplicate_the_batches_are_the_samplers() -> None:
    found, sampler = distinct(30, 4, [f"text {row}" for row in range(30)])
    sampler.set_epoch(0)
    assert [row for batch in found for row in batch] == sampler.epoch_rows()[:].tolist()


@pytest.mark.filterwarnings("error")
def test_duplicates_that_nothing_is_left_to_part_are_told() -> None:
    with pytest.warns(RuntimeWarning, match=r"^\d+ samples at the end of epoch 0 share a text with one of their batch"):
        found, _ = distinct(10, 4, ["same"] * 10)
    assert sorted(row for batch in found for row in batch) == list(range(10))


def test_sentence_transformers_batches_without_duplicates_are_kept(place: Path, saved: str) -> None:
    one = ranking(place, saved, batch_sampler="no_duplicates")
    one.train()
    assert one.hook.store.count("loss").tolist() == [1] * N


def test_batches_of_another_order_are_refused(place: Path, saved: str) -> None:
    with pytest.raises(
        InvalidValue, match=r"batch_sampler='group_by_label' beside sampler=.*BatchSamplers.BATCH_SAMPLER"
    ):
        similarity(place, saved, batch_sampler="group_by_label")
