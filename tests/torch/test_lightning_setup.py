"""Lightning: a store and sampler made in `setup`, where the process group exists: one module for one process and for many."""

import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback, LearningRateFinder, ModelCheckpoint
from lightning.pytorch.tuner import Tuner
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler.errors import InvalidValue, SelectionLost
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.torch import (
    AdaptiveSampler,
    DistributedAdaptiveSampler,
    IndexedDataset,
    LossHook,
    distributed_store,
)
from adaptive_sampler.torch.lightning import SamplerCallback
from tests.torch.lightning_ranks import Environment
from tests.torch.processes import run, succeeded
from tests.torch.training import data

N, SIZE, LENGTH, EPOCHS = 46, 8, 37, 3  # 37 samples are no whole number of batches, alone or on two ranks

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:The 'val_dataloader' does not have many workers"),
]


class Parts:
    """What is made in `setup`: a store at the checkpoint's commit, a sampler, a hook."""

    def __init__(self, path: Path, checkpoint: Path | None, loading: dict[str, Any]) -> None:
        commit = SamplerCallback.commit_of(checkpoint) if checkpoint else None
        self.store = distributed_store(path, N, [Loss()], version=commit, exist_ok=True)
        how: dict[str, Any] = {"seed": 4, "warmup_epochs": 1, "num_samples": LENGTH}
        self.sampler = DistributedAdaptiveSampler(AdaptiveSampler(self.store, Prune(0.8, by="loss"), **how))
        self.hook = LossHook(nn.CrossEntropyLoss(), self.store)
        self.dataset = IndexedDataset(data(N), self.store)
        self.loader = DataLoader(self.dataset, batch_size=SIZE, sampler=self.sampler, **loading)

    def kept(self) -> tuple[list[float], list[int]]:
        return np.nan_to_num(self.store["loss"]).tolist(), self.store.count("loss").tolist()


class Steps(lightning.LightningModule):
    """A module that finds its hook late, and notes the rows of each step."""

    lr = 0.5

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.seen, self.kept = nn.Linear(6, 3), [], None

    def parts(self) -> Any:
        return self.trainer.datamodule.made  # type: ignore[attr-defined]

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        rows, (inputs, labels) = batch
        self.seen.append((self.current_epoch, rows.tolist()))
        return self.parts().hook(self.net(inputs), labels, rows=rows)

    def validation_step(self, batch: Any, index: int) -> None:
        rows, (inputs, labels) = batch
        self.parts().hook(self.net(inputs), labels)
        if self.trainer.sanity_checking:
            self.parts().hook.record(rows, loss=torch.ones(len(rows)))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=self.lr)


class Alone(Steps):
    """A module that makes all of it itself, and brings its callback."""

    def __init__(self, path: Path, checkpoint: Path | None = None, **loading: Any) -> None:
        super().__init__()
        self.made: Any = None
        self._arguments = path, checkpoint, loading

    def setup(self, stage: str) -> None:
        self.__dict__["made"] = Parts(*self._arguments)

    def teardown(self, stage: str) -> None:
        self.kept = self.made.kept()
        self.made.store.close()

    def parts(self) -> Any:
        return self.made

    def train_dataloader(self) -> Any:
        return self.made.loader

    def configure_callbacks(self) -> Any:
        return [SamplerCallback(lambda: self.made.sampler)]


class Data(lightning.LightningDataModule):
    """A data module that makes all of it."""

    def __init__(self, path: Path, checkpoint: Path | None = None, **loading: Any) -> None:
        super().__init__()
        self.made: Any = None
        self._arguments = path, checkpoint, loading

    def setup(self, stage: str) -> None:
        self.made = Parts(*self._arguments)

    def teardown(self, stage: str) -> None:
        self.trainer.lightning_module.kept = self.made.kept()  # type: ignore[union-attr]
        self.made.store.close()

    def train_dataloader(self) -> Any:
        return self.made.loader


class WithValidation(Alone):
    """A module whose sanity check and validations use the hook."""

    def val_dataloader(self) -> Any:
        return DataLoader(self.made.dataset, batch_size=20)


def trainer_of(folder: Path, *callbacks: Any, **settings: Any) -> lightning.Trainer:
    return lightning.Trainer(
        **{"max_epochs": EPOCHS, "accelerator": "cpu", "devices": 1, "logger": False} | settings,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        callbacks=list(callbacks),
    )


def fit(kind: str, path: Path, checkpoint: Path | None, loading: Any, settings: Any, *, keep: bool = False) -> Steps:
    """One `fit`, in one process or on one rank of many."""
    folder = path.parent / "checkpoints"
    saver = ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    keeping = [saver] if keep else []
    source = None
    if kind == "datamodule":
        module, source = Steps(), Data(path, checkpoint, **loading)
        keeping.insert(0, SamplerCallback(lambda: source.made.sampler))
    else:
        module = {"module": Alone, "validated": WithValidation}[kind](path, checkpoint, **loading)
    trainer_of(folder, *keeping, **settings).fit(
        module, datamodule=source, ckpt_path=checkpoint, weights_only=False if checkpoint else None
    )
    return module


def check_every_step(kind: str, path: Path, loading: Any, settings: Any) -> int:
    """Train, and go on from the checkpoint of each step -> how many there were."""
    whole = fit(kind, path, None, loading, settings, keep=True)
    weights = [w.tolist() for w in whole.state_dict().values()]
    checkpoints = sorted((path.parent / "checkpoints").glob("*.ckpt"))
    for checkpoint in checkpoints:
        again = fit(kind, path, checkpoint, loading, settings)
        step = int(checkpoint.stem.split("=")[1]) * settings.get("accumulate_grad_batches", 1)
        assert again.seen == whole.seen[step:], checkpoint.name
        assert again.kept == whole.kept, checkpoint.name
        assert [w.tolist() for w in again.state_dict().values()] == weights, checkpoint.name
    return len(checkpoints)


@pytest.mark.parametrize(
    ("kind", "loading", "settings"),
    [
        ("module", {}, {}),
        ("datamodule", {"num_workers": 1, "drop_last": True}, {}),
        ("module", {"num_workers": 1}, {"limit_train_batches": 4, "accumulate_grad_batches": 2}),
        ("validated", {}, {"val_check_interval": 2}),
    ],
)
def test_every_step_checkpoint_goes_on_with_a_sampler_that_setup_made(
    place: Path, kind: str, loading: Any, settings: Any
) -> None:
    assert check_every_step(kind, place, loading, settings) >= 6


def on_ranks(rank: int, path: str, kind: str, loading: Any, settings: Any) -> int:
    warnings.simplefilter("ignore")
    two = {"strategy": "ddp", "devices": 2, "plugins": [Environment()]}
    return check_every_step(kind, Path(path), loading, settings | two)


@pytest.mark.parametrize(
    ("kind", "loading", "settings"),
    [
        ("module", {}, {}),
        ("datamodule", {"drop_last": True}, {}),
        ("validated", {"num_workers": 1}, {"val_check_interval": 2, "limit_train_batches": 2}),
    ],
)
def test_every_step_checkpoint_of_two_ranks_goes_on_with_a_sampler_that_setup_made(
    place: Path, kind: str, loading: Any, settings: Any
) -> None:
    one, two = succeeded(run(2, on_ranks, str(place), kind, loading, settings))
    assert one == two >= 6


def test_a_sanity_check_records_nothing_of_a_sampler_that_setup_made(place: Path) -> None:
    seen: list[int] = []
    look = LambdaCallback(
        on_sanity_check_end=lambda trainer, module: seen.append(module.made.store.observed("loss")),
        on_train_batch_end=lambda trainer, module, *_: seen.append(module.made.store.observed("loss")),
    )
    trainer_of(place.parent, look, max_epochs=1).fit(WithValidation(place))
    assert seen[:2] == [0, SIZE]


@pytest.mark.parametrize("by", ["tuner", "callback"])
def test_a_search_for_the_learning_rate_leaves_no_trace_on_a_sampler_that_setup_made(place: Path, by: str) -> None:
    plain = Alone(place.with_name("plain"))
    trainer_of(place.parent, max_epochs=2).fit(plain)
    tuned = Alone(place)
    finder = [LearningRateFinder(num_training_steps=4, update_attr=False)] if by == "callback" else []
    trainer = trainer_of(place.parent, *finder, max_epochs=2)
    if by == "tuner":
        Tuner(trainer).lr_find(tuned, num_training=4, update_attr=False)
        assert max(tuned.kept[1]) == 0  # type: ignore[index]
        tuned.seen.clear()
    trainer.fit(tuned)
    assert tuned.seen[-len(plain.seen) :] == plain.seen
    assert tuned.kept == plain.kept


def test_after_training_that_failed_a_store_that_setup_made_records_again(place: Path) -> None:
    class Broken(WithValidation):
        def validation_step(self, batch: Any, index: int) -> None:
            raise ZeroDivisionError

    module = Broken(place)
    with pytest.raises(ZeroDivisionError):
        trainer_of(place.parent).fit(module)
    module.made.hook.record([3], loss=[1.0])
    assert module.made.store.observed("loss") == 1


def test_each_fit_asks_for_its_own_sampler(place: Path) -> None:
    module = Alone(place)
    callback = SamplerCallback(lambda: module.made.sampler)
    module.configure_callbacks = list  # type: ignore[method-assign]
    for _ in range(2):
        trainer_of(place.parent, callback, max_epochs=1).fit(module)
        assert callback.sampler is module.made.sampler
    assert max(module.kept[1]) == 2  # type: ignore[index]


def test_a_sampler_that_setup_did_not_make_is_asked_for_there(place: Path) -> None:
    class Late(Alone):
        def setup(self, stage: str) -> None:
            pass

        def train_dataloader(self) -> Any:
            super().setup("fit")
            return super().train_dataloader()

        def teardown(self, stage: str) -> None:
            pass

    with pytest.raises(InvalidValue, match=r"no sampler: 'NoneType' object.*in setup\(stage\).*train_dataloader\(\)"):
        trainer_of(place.parent).fit(Late(place))
    remedy = Alone(place)
    trainer_of(place.parent, max_epochs=1).fit(remedy)
    assert sum(remedy.kept[1]) == LENGTH  # type: ignore[index]


@pytest.mark.parametrize(("found", "words"), [(lambda: None, "returned no sampler: None"), (lambda: [3], r"\[3\]")])
def test_a_function_that_returns_no_sampler_is_told_what_it_returned(found: Any, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        _ = SamplerCallback(found).sampler


def test_what_is_neither_a_sampler_nor_a_function_is_refused_at_once() -> None:
    with pytest.raises(InvalidValue, match=r"sampler=\[3\]: pass one of our samplers, or a function"):
        SamplerCallback([3])  # type: ignore[arg-type]


def test_another_sampler_than_the_one_that_setup_made_is_refused_before_the_first_step(place: Path) -> None:
    class Another(Alone):
        def train_dataloader(self) -> Any:
            other = DistributedAdaptiveSampler(AdaptiveSampler(self.made.store, Prune(0.5, by="loss")))
            return DataLoader(self.made.dataset, sampler=other, batch_size=SIZE)

    module = Another(place)
    with pytest.raises(SelectionLost, match=r"another sampler of ours.*whose state is kept"):
        trainer_of(place.parent).fit(module)
    assert module.seen == []
