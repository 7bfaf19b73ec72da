"""Lightning: every step checkpoint is a point to resume from, whatever ends an epoch; what is no training records nothing."""

import json
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateFinder, ModelCheckpoint
from lightning.pytorch.tuner import Tuner
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, SelectionLost
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import RandomPrune
from adaptive_sampler.torch import IndexedDataset, LossHook
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.lightning import SamplerCallback
from tests.torch.training import data

N, SIZE = 46, 8

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:The 'val_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The 'predict_dataloader' does not have many workers"),
]


class Module(lightning.LightningModule):
    """Notes the rows of each step, and the epoch that Lightning counts."""

    lr = 0.5

    def __init__(self, hook: LossHook) -> None:
        super().__init__()
        self.net, self.seen = nn.Linear(6, 3), []
        self.__dict__["hook"] = hook

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        ours = batch["ours"] if isinstance(batch, dict) else batch if torch.is_tensor(batch[0]) else batch[0]
        rows, (inputs, labels) = ours
        self.seen.append((self.current_epoch, rows.tolist()))
        return self.hook(self.net(inputs), labels, rows=rows)

    def validation_step(self, batch: Any, index: int) -> None:
        _, (inputs, labels) = batch
        self.hook(self.net(inputs), labels)

    def predict_step(self, batch: Any, index: int) -> Any:
        return batch[0]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=self.lr)


class Training:
    """What one process has: store, sampler, loader and module."""

    def __init__(self, store: ScoreStore, make: Any = DataLoader, *, batches: bool = False, **loading: Any) -> None:
        torch.manual_seed(0)
        self.store, self.sampler = store, AdaptiveSampler(store, RandomPrune(0.8), seed=4)  # 37 rows
        self.dataset = IndexedDataset(data(N), store)
        self.module = Module(LossHook(nn.CrossEntropyLoss(), store))
        if batches:
            drawn = {"batch_sampler": self.sampler.batches(SIZE, drop_last=loading.pop("drop_last", False))}
        else:
            drawn = {"sampler": self.sampler, "batch_size": SIZE}
        self.loader: Any = make(self.dataset, **drawn, **loading)

    def trainer(self, folder: Path, *callbacks: Any, epochs: int = 3, **settings: Any) -> lightning.Trainer:
        return lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
            callbacks=[SamplerCallback(self.sampler), *callbacks],
            **settings,
        )

    def kept(self) -> tuple[list[float], list[int]]:
        return np.nan_to_num(self.store["loss"]).tolist(), self.store.count("loss").tolist()


def whole_and_resumed(place: Path, saved: Any, loading: dict[str, Any], settings: dict[str, Any]) -> None:
    """Train with a checkpoint at each step, and go on from each in a new training."""
    folder, validated = place.parent / "checkpoints", settings.pop("validated", False)

    def fit(store: ScoreStore, checkpoint: Path | None = None, keep: bool = False) -> Training:
        training = Training(store, **loading)
        trainer = training.trainer(folder, *([saved(folder)] if keep else []), **settings)
        validation = DataLoader(training.dataset, batch_size=20) if validated else None
        trainer.fit(
            training.module,
            training.loader,
            validation,
            ckpt_path=None if checkpoint is None else str(checkpoint),
            weights_only=False if checkpoint else None,
        )
        return training

    with ScoreStore.create(place, N, [Loss()]) as store:
        whole = fit(store, keep=True)
        steps, kept = whole.module.seen, whole.kept()
    checkpoints = sorted(folder.glob("*.ckpt"))
    assert len(checkpoints) >= 3
    for checkpoint in checkpoints:
        with ScoreStore.open(place, version=SamplerCallback.commit_of(checkpoint)) as store:
            again = fit(store, checkpoint)
            step = len(steps) - len(again.module.seen)
            assert again.module.seen == steps[step:], checkpoint.name
            assert again.kept() == kept, checkpoint.name
            assert step == int(checkpoint.stem.split("=")[1]) * settings.get("accumulate_grad_batches", 1)


def every_step(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)


def after_validation(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(dirpath=folder, filename="{step}", save_top_k=-1, save_on_train_epoch_end=False)


@pytest.mark.parametrize(
    ("loading", "settings"),
    [
        ({"drop_last": True}, {}),
        ({"drop_last": True, "num_workers": 1}, {}),
        ({"drop_last": True, "batches": True}, {}),
        ({}, {"limit_train_batches": 3}),
        ({"num_workers": 1}, {"limit_train_batches": 3}),
        ({"drop_last": True}, {"accumulate_grad_batches": 2}),
        ({}, {"validated": True, "val_check_interval": 0.5}),
    ],
)
def test_every_step_checkpoint_goes_on_where_it_was(place: Path, loading: Any, settings: Any) -> None:
    whole_and_resumed(place, every_step, loading, settings | {"num_sanity_val_steps": 0})


@pytest.mark.parametrize(
    ("loading", "settings"),
    [
        ({}, {}),
        ({"drop_last": True}, {}),
        ({"num_workers": 1}, {"limit_train_batches": 3}),
        ({}, {"limit_train_batches": 4, "val_check_interval": 2}),
    ],
)
def test_a_checkpoint_of_a_validation_goes_on_after_it(place: Path, loading: Any, settings: Any) -> None:
    whole_and_resumed(place, after_validation, loading, settings | {"validated": True})


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("by", ["tuner", "callback"])
def test_a_search_for_the_learning_rate_leaves_no_trace(place: Path, by: str, workers: int) -> None:
    plain = Training(ScoreStore.create(None, N, [Loss()]), num_workers=workers)
    plain.trainer(place.parent, epochs=2).fit(plain.module, plain.loader)
    tuned = Training(ScoreStore.create(place, N, [Loss()]), num_workers=workers)
    finder = [LearningRateFinder(num_training_steps=11, update_attr=False)] if by == "callback" else []
    trainer = tuned.trainer(place.parent, *finder, epochs=2)
    if by == "tuner":
        Tuner(trainer).lr_find(tuned.module, tuned.loader, num_training=11, update_attr=False)
        assert tuned.store.observed("loss") == 0
    tuned.module.seen.clear() if by == "tuner" else None
    trainer.fit(tuned.module, tuned.loader)
    assert tuned.module.seen[-len(plain.module.seen) :] == plain.module.seen
    assert tuned.kept() == plain.kept()


def test_after_training_that_failed_the_store_records_again(place: Path) -> None:
    training = Training(ScoreStore.create(place, N, [Loss()]))
    trainer = training.trainer(place.parent)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(training.module, training.loader, [DataLoader(Broken(), batch_size=2)])
    training.module.hook.record([3], loss=[1.0])
    assert training.store.observed("loss") == 1


class Broken(torch.utils.data.Dataset[Any]):
    """Fails in the sanity check."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int) -> Any:
        raise ZeroDivisionError


@pytest.mark.parametrize("kind", ["dict", "list", "combined"])
def test_among_several_loaders_ours_is_found_and_resumed(place: Path, kind: str) -> None:
    folder = place.parent / "checkpoints"

    def fit(store: ScoreStore, checkpoint: str | None = None) -> Training:
        training = Training(store)
        both = {"ours": training.loader, "other": DataLoader(torch.randn(30, 2), batch_size=SIZE)}
        several: Any = {"dict": both, "list": list(both.values()), "combined": CombinedLoader(both, "min_size")}[kind]
        keep = [] if checkpoint else [every_step(folder)]
        trainer = training.trainer(folder, *keep, epochs=2)
        trainer.fit(training.module, several, ckpt_path=checkpoint, weights_only=False if checkpoint else None)
        return training

    with ScoreStore.create(place, N, [Loss()]) as store:
        whole = fit(store)
        steps, kept = whole.module.seen, whole.kept()
    for step in (2, len(steps) // 2, len(steps) // 2 + 1):
        path = folder / f"step={step}.ckpt"
        with ScoreStore.open(place, version=SamplerCallback.commit_of(path)) as store:
            again = fit(store, str(path))
            assert (again.module.seen, again.kept()) == (steps[step:], kept)


def test_a_sampler_of_ours_that_is_in_no_loader_is_named(place: Path) -> None:
    training = Training(ScoreStore.create(place, N, [Loss()]))
    other = AdaptiveSampler(training.store, RandomPrune(0.5))
    loader = DataLoader(training.dataset, sampler=other, batch_size=SIZE)
    with pytest.raises(SelectionLost, match=r"another sampler of ours than AdaptiveSampler.*whose state is kept"):
        training.trainer(place.parent).fit(training.module, {"ours": loader})


def test_a_loaders_own_state_that_would_leave_an_epoch_out_is_refused(place: Path) -> None:
    """Lightning counts an epoch as over at its last batch's checkpoint; the loader's state says that its end is to come."""
    folder = place.parent / "checkpoints"
    loading: dict[str, Any] = {"make": StatefulDataLoader, "num_workers": 1, "drop_last": True}
    with ScoreStore.create(place, N, [Loss()]) as store:
        training = Training(store, **loading)
        training.trainer(folder, every_step(folder), epochs=2).fit(training.module, training.loader)
        steps = training.module.seen
    path = folder / "step=4.ckpt"
    with ScoreStore.open(place, version=SamplerCallback.commit_of(path)) as store:
        again = Training(store, **loading)
        with pytest.raises(SelectionLost, match=r"left nothing of epoch 1.*another step's checkpoint"):
            again.trainer(folder, epochs=2).fit(again.module, again.loader, ckpt_path=str(path), weights_only=False)
    path = folder / "step=3.ckpt"  # the remedy
    with ScoreStore.open(place, version=SamplerCallback.commit_of(path)) as store:
        again = Training(store, **loading)
        again.trainer(folder, epochs=2).fit(again.module, again.loader, ckpt_path=str(path), weights_only=False)
        assert again.module.seen == steps[3:]


def test_predicting_over_our_batches_names_what_to_predict_over(place: Path) -> None:
    training = Training(ScoreStore.create(place, N, [Loss()]), batches=True)
    trainer = training.trainer(place.parent)
    with pytest.raises(InvalidValue, match=r"SequentialSampler.*none of ours.*its predict.*DataLoader\(dataset"):
        trainer.predict(training.module, training.loader)
    remedy = trainer.predict(training.module, DataLoader(training.dataset, batch_size=SIZE))
    assert [row for rows in remedy or [] for row in rows.tolist()] == list(range(N))


def test_a_checkpoints_walk_is_json(place: Path) -> None:
    training = Training(ScoreStore.create(place, N, [Loss()]))
    callback = SamplerCallback(training.sampler)
    assert json.loads(json.dumps(callback.state_dict()))["walk"]["position"] == 0
