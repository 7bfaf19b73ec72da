"""Hugging Face's Trainer, one process and two: the planned rows, in the resumed epoch's own order."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, ResumeError, SelectionLost
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.selection import InfoBatch, KeepAll, Prune
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, LossHook, check, distributed_store
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.transformers import AdaptiveTrainer, AdaptiveTrainerMixin, SamplerCallback
from tests.torch.processes import run, succeeded
from tests.torch.training import Model, Samples

N, BATCH = 44, 4
SCORES = [EL2N(), Loss()]


class Trainer(AdaptiveTrainer):
    """Notes the rows of each step, and checks the loader that it uses."""

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self.seen.append(inputs["row"].tolist())
        check(self.callback_handler.train_dataloader)
        return super().training_step(model, inputs, *args, **kwargs)


def with_checkpoints(folder: Path, epochs: int, every: int) -> TrainingArguments:
    """A quiet training that is saved after `every` so many steps."""
    return TrainingArguments(
        str(folder),
        use_cpu=True,
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH,
        save_steps=every,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        dataloader_pin_memory=False,
    )


def train(
    store: ScoreStore,
    folder: Path,
    checkpoint: Path | None = None,
    *,
    policy: Any = None,
    epochs: int = 3,
    unskipped: bool = False,
) -> Any:
    """Train, with a checkpoint at every second step -> rows of each step."""
    torch.manual_seed(0)
    sampler = AdaptiveSampler(store, policy or Prune(0.5, "loss"), seed=1)
    arguments = with_checkpoints(folder, epochs, every=2)
    arguments.ignore_data_skip = unskipped
    hook = LossHook(nn.CrossEntropyLoss(), store)
    trainer = Trainer(
        Model(), arguments, train_dataset=IndexedDataset(Samples(N), store, key="row"), sampler=sampler, hook=hook
    )
    trainer.seen = []
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer.seen


def scored(store: ScoreStore) -> ScoreStore:
    """From the first epoch on half of the rows are planned: the Trainer takes an epoch's length once."""
    store.update(range(N), loss=torch.arange(N), logits=torch.zeros(N, 3), labels=torch.zeros(N, dtype=torch.int64))
    return store


@pytest.mark.filterwarnings("ignore")  # transformers, on its own deprecations
def test_one_process_trains_on_the_plan_and_resumes_in_the_epochs_order(place: Path) -> None:
    folder = place.parent / "checkpoints"
    with scored(ScoreStore.create(place, N, SCORES)) as store:
        steps = train(store, folder)
        scores = store["loss"].tolist()
    assert [len({row for rows in steps[6 * e : 6 * e + 6] for row in rows}) for e in range(3)] == [N // 2] * 3
    for step in (2, 6, 8, 12, 16):
        checkpoint = folder / f"checkpoint-{step}"
        with ScoreStore.open(place, version=SamplerCallback.commit_of(checkpoint)) as store:
            assert train(store, folder, checkpoint) == steps[step:]
            assert store["loss"].tolist() == scores


def on_two(rank: int, path: str, checkpoint: Path | None) -> Any:
    warnings.simplefilter("ignore")
    version = SamplerCallback.commit_of(checkpoint) if checkpoint else None
    store = distributed_store(path, N, SCORES, version=version, exist_ok=True)
    seen = train(store, Path(path).parent / "checkpoints", checkpoint)
    return seen, store["loss"].tolist()


def test_two_processes_resume_in_the_epochs_order_though_set_epoch_never_arrives(place: Path) -> None:
    with scored(ScoreStore.create(place, N, SCORES)) as store:
        store.commit()
    whole = succeeded(run(2, on_two, str(place), None))
    for epoch in range(3):
        rows = [row for seen, _ in whole for batch in seen[3 * epoch : 3 * epoch + 3] for row in batch]
        assert len(set(rows)) == N // 2
    assert whole[0][1] == whole[1][1]
    for step in (4, 6):
        again = succeeded(run(2, on_two, str(place), place.parent / "checkpoints" / f"checkpoint-{step}"))
        for rank in range(2):
            assert again[rank][0] == whole[rank][0][step:]
            assert again[rank][1] == whole[0][1]


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_without_our_state_is_refused(place: Path) -> None:
    folder = place.parent / "checkpoints"
    store = scored(ScoreStore.create(place, N, SCORES))
    train(store, folder, epochs=1)
    state = folder / "checkpoint-2" / "trainer_state.json"
    state.write_text(state.read_text().replace('"adaptive_sampler"', '"another"'))
    with pytest.raises(ResumeError, match="the checkpoint holds no sampler state"):
        train(store, folder, folder / "checkpoint-2")


def trained(store: ScoreStore, folder: Path, checkpoint: Path | None = None, **sampling: Any) -> Any:
    """As `train`, with a warm-up after which the plan is half as long, and a checkpoint at each step."""
    torch.manual_seed(0)
    arguments = with_checkpoints(folder, 3, every=1)
    trainer = Trainer(
        Model(),
        arguments,
        train_dataset=IndexedDataset(Samples(N), store, key="row"),
        sampler=AdaptiveSampler(store, Prune(0.5, "loss"), seed=1, warmup_epochs=1, **sampling),
        hook=LossHook(nn.CrossEntropyLoss(), store),
    )
    trainer.seen = []
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer.seen


@pytest.mark.filterwarnings("ignore")
def test_a_trainer_that_skips_nothing_resumes_at_an_epochs_end_only(place: Path) -> None:
    folder = place.parent / "checkpoints"
    with scored(ScoreStore.create(place, N, SCORES)) as store:
        steps = train(store, folder, epochs=2)
    end, within = folder / "checkpoint-6", folder / "checkpoint-8"
    with ScoreStore.open(place, version=SamplerCallback.commit_of(end)) as store:
        assert train(store, folder / "again", end, epochs=2, unskipped=True) == steps[6:]
    with ScoreStore.open(place, version=SamplerCallback.commit_of(within)) as store:
        with pytest.raises(ResumeError, match="ignore_data_skip=True, and the checkpoint lies after step 2 of epoch 1"):
            train(store, folder, within, epochs=2, unskipped=True)
        assert train(store, folder, within, epochs=2) == steps[8:]  # the remedy


@pytest.mark.filterwarnings("ignore:::transformers")
@pytest.mark.filterwarnings("ignore:::torch")
def test_epochs_that_become_shorter_are_warned_of_and_a_resume_that_would_miscount_is_refused(place: Path) -> None:
    folder = place.parent / "checkpoints"
    with (
        ScoreStore.create(place, N, SCORES) as store,
        pytest.warns(RuntimeWarning, match=r"epoch 1 has 6 steps, and the Trainer.*counts 11.*num_samples="),
    ):
        steps = trained(store, folder)
    assert len(steps) == 11 + 6 + 6
    checkpoint = folder / "checkpoint-20"
    with (
        ScoreStore.open(place, version=SamplerCallback.commit_of(checkpoint)) as store,
        pytest.raises(ResumeError, match=r"after step 3 of epoch 2, and the Trainer.*step 9 of epoch 1.*num_samples="),
    ):
        trained(store, folder, checkpoint)


@pytest.mark.filterwarnings("ignore:::transformers")
@pytest.mark.filterwarnings("ignore:::torch")
def test_epochs_of_a_constant_number_of_samples_resume_at_every_step(place: Path) -> None:
    folder = place.parent / "checkpoints"
    with ScoreStore.create(place, N, SCORES) as store:
        steps = trained(store, folder, num_samples=24)
        scores = np.nan_to_num(store["loss"]).tolist()
    for step in (1, 6, 7, 12, 16):
        checkpoint = folder / f"checkpoint-{step}"
        with ScoreStore.open(place, version=SamplerCallback.commit_of(checkpoint)) as store:
            assert trained(store, folder, checkpoint, num_samples=24) == steps[step:]
            assert np.nan_to_num(store["loss"]).tolist() == scores


def test_what_the_trainer_cannot_walk_is_refused(place: Path) -> None:
    store = scored(ScoreStore.create(place, N, SCORES))
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
    for wrong in (
        DistributedAdaptiveSampler(sampler, num_replicas=2, rank=0),
        AdaptiveSampler(store, Prune(9, "loss"), replan=2),
    ):
        with pytest.raises(InvalidValue, match="replan='epoch' or 'once', not DistributedAdaptiveSampler"):
            SamplerCallback(wrong)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_a_policy_that_weighs_samples_needs_a_hook_that_brings_the_weights_to_the_loss(place: Path) -> None:
    store = scored(ScoreStore.create(place, N, SCORES))
    arguments = with_checkpoints(place.parent / "checkpoints", epochs=1, every=99)
    sampler = AdaptiveSampler(store, InfoBatch(0.5, epochs=9))
    given: dict[str, Any] = {"train_dataset": IndexedDataset(Samples(N), key="row"), "sampler": sampler}
    with pytest.raises(InvalidValue, match=r"weighs samples, and there is no hook=.*hook=LossHook\(criterion, store\)"):
        AdaptiveTrainer(Model(), arguments, **given).train()
    AdaptiveTrainer(Model(), arguments, **given, hook=LossHook(nn.CrossEntropyLoss(), store)).train()  # the remedy


class OwnLoader:
    """A Trainer that makes its train loader itself, as sentence-transformers' and others' do."""

    def get_train_dataloader(self) -> Any:
        trainer: Any = self
        loader = torch.utils.data.DataLoader(trainer.train_dataset, BATCH, collate_fn=trainer.data_collator)
        return trainer.accelerator.prepare(loader)


class SelfLoading(AdaptiveTrainerMixin, OwnLoader, transformers.Trainer):  # type: ignore[misc]
    """Loses the selection."""


@pytest.mark.filterwarnings("ignore")
def test_a_trainer_that_makes_its_own_loader_is_stopped_at_the_first_step(place: Path) -> None:
    store = scored(ScoreStore.create(place, N, SCORES))
    trainer = SelfLoading(
        Model(),
        TrainingArguments(str(place.parent), use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no"),
        train_dataset=IndexedDataset(Samples(N), store, key="row"),
        sampler=AdaptiveSampler(store, Prune(0.5, "loss")),
        hook=LossHook(nn.CrossEntropyLoss(), store),
    )
    before = store.count("loss").tolist()
    with pytest.raises(SelectionLost, match="SequentialSampler draws the indices of this"):
        trainer.train()
    assert store.count("loss").tolist() == before


def adaptive(place: Path, *, n: int = N, **arguments: Any) -> AdaptiveTrainer:
    """A Trainer over the samples and a store of `n` rows."""
    store = ScoreStore.create(place, n, SCORES)
    collator = {"data_collator": arguments.pop("data_collator")} if "data_collator" in arguments else {}
    settings = TrainingArguments(
        str(place.parent), use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no", **arguments
    )
    return AdaptiveTrainer(
        Model(),
        settings,
        train_dataset=IndexedDataset(Samples(N), key="row"),
        sampler=AdaptiveSampler(store, KeepAll()),
        hook=LossHook(nn.CrossEntropyLoss(), store),
        **collator,
    )


@pytest.mark.parametrize("n", [N - 4, N + 4])
def test_a_store_of_another_length_than_the_train_dataset_is_refused(place: Path, n: int) -> None:
    with pytest.raises(InvalidValue, match=rf"the train dataset has {N} samples, the sampler's store {n} rows.*n=len"):
        adaptive(place, n=n)


@pytest.mark.parametrize("strategy", ["group_by_length", "sequential"])
def test_an_order_of_the_trainers_own_beside_a_sampler_is_refused(place: Path, strategy: str) -> None:
    with pytest.raises(
        InvalidValue, match=f"train_sampling_strategy='{strategy}' beside sampler=.*Leave it at 'random'"
    ):
        adaptive(place, train_sampling_strategy=strategy)


def anew(samples: Any) -> Any:
    """A collator that makes its batch anew, and fails on samples with an entry that it does not know."""
    assert all(set(sample) == {"inputs", "labels"} for sample in samples)
    return {name: torch.stack([torch.as_tensor(s[name]) for s in samples]) for name in ("inputs", "labels")}


@pytest.mark.filterwarnings("ignore")
def test_rows_travel_past_a_collator_that_never_sees_them(place: Path) -> None:
    trainer = adaptive(place, data_collator=anew, num_train_epochs=1)
    trainer.train()
    assert trainer.hook is not None
    assert trainer.hook.store.count("loss").tolist() == [1] * N


# -- the loss that is recorded is the training's -----------------------------------------------------------------------


LABELS = {
    "multi_label_classification": torch.tensor([[1.0, 0, 1], [0, 0, 0]]).repeat(4, 1),
    "single_label_classification": torch.arange(8) % 3,
    "regression": torch.linspace(-1, 1, 8),
}


class Sentences(torch.utils.data.Dataset[Any]):
    """Eight sentences, with labels of a kind of problem."""

    def __init__(self, problem: str) -> None:
        self.labels = LABELS[problem]

    def __len__(self) -> int:
        return 8

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": torch.arange(6) + row, "labels": self.labels[row]}


def fine_tuned(problem: str, criterion: nn.Module, store: ScoreStore, folder: Path, **loss: Any) -> tuple[Any, Any]:
    """One epoch of one batch of a small BERT -> the logged loss of the training, and the trainer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        initializer_range=1.0,
        num_labels=1 if problem == "regression" else 3,
        problem_type=problem,
    )
    arguments = TrainingArguments(
        str(folder),
        use_cpu=True,
        num_train_epochs=1,
        per_device_train_batch_size=8,
        report_to=[],
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="no",
        dataloader_pin_memory=False,
        label_smoothing_factor=loss.pop("smoothing", 0.0),
    )
    trainer = AdaptiveTrainer(
        BertForSequenceClassification(config),
        arguments,
        train_dataset=IndexedDataset(Sentences(problem), store, key="row"),
        sampler=AdaptiveSampler(store, KeepAll()),
        hook=LossHook(criterion, store),
        **loss,
    )
    trainer.train()
    return trainer.state.log_history[0]["loss"], trainer


@pytest.mark.filterwarnings("ignore")  # transformers, on its own deprecations
@pytest.mark.parametrize(
    ("problem", "criterion", "smoothing"),
    [
        ("multi_label_classification", nn.BCEWithLogitsLoss(), 0.0),
        ("single_label_classification", nn.CrossEntropyLoss(), 0.0),
        ("single_label_classification", nn.CrossEntropyLoss(label_smoothing=0.2), 0.2),
        ("regression", nn.MSELoss(), 0.0),
    ],
)
def test_the_recorded_losses_have_the_trainings_loss_as_their_mean(
    place: Path, problem: str, criterion: nn.Module, smoothing: float
) -> None:
    store = ScoreStore.create(place, 8, [Loss()])
    trained, _ = fine_tuned(problem, criterion, store, place.parent, smoothing=smoothing)
    assert store["loss"].mean() == pytest.approx(trained, rel=1e-3)
    assert len(set(store["loss"].tolist())) > 1


def ones_own(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    """A loss function for the Trainer."""
    return nn.functional.cross_entropy(outputs["logits"], labels)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("loss", "remedy"),
    [
        ({"smoothing": 0.1}, r"LossHook\(nn.CrossEntropyLoss\(label_smoothing=0.1\), store\)"),
        ({"compute_loss_func": ones_own}, r"override compute_loss: return hook\(outputs.logits, inputs"),
    ],
)
def test_a_training_on_another_loss_than_the_hooks_is_refused_before_it_begins(
    place: Path, loss: Any, remedy: str
) -> None:
    store = ScoreStore.create(place, 8, [Loss()])
    with pytest.raises(InvalidValue, match=remedy):
        fine_tuned("single_label_classification", nn.CrossEntropyLoss(), store, place.parent, **loss)


@pytest.mark.filterwarnings("ignore")
def test_a_training_on_another_loss_is_fine_where_no_score_takes_the_loss(place: Path) -> None:
    store = ScoreStore.create(place, 8, [EL2N()])
    fine_tuned("single_label_classification", nn.CrossEntropyLoss(), store, place.parent, compute_loss_func=ones_own)
    assert store.observed("el2n") == 8
