"""Trainings that drop old commits: whatever checkpoint they leave can be resumed, if `keep` is what the page says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import UnknownName
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.torch import AdaptiveSampler, IndexedDataset, LossHook
from tests.torch.training import Model, Samples, data

N, BATCH, EPOCHS = 40, 4, 3  # 10 steps an epoch
EVERY, LEFT = 4, 2  # a checkpoint after so many steps; as many are left
# Since the older of two checkpoints: its commit and the newer's, an epoch's end between them and one after, and one more.
KEEP = 5


def with_lightning(store: ScoreStore, folder: Path, keep: int | None, checkpoint: Path | None = None) -> list[Any]:
    """Train, or go on from a checkpoint -> the rows of each step."""
    lightning = pytest.importorskip("lightning")
    from adaptive_sampler.torch.lightning import SamplerCallback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.seen = nn.Linear(6, 3), []
            self.__dict__["hook"] = LossHook(nn.CrossEntropyLoss(), store)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            rows, (inputs, labels) = batch
            self.seen.append(rows.tolist())
            return self.hook(self.net(inputs), labels, rows=rows)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.net.parameters(), lr=0.5)

    sampler, module = AdaptiveSampler(store, KeepAll(), seed=1), Module()
    saver = lightning.pytorch.callbacks.ModelCheckpoint(
        folder, "{step}", monitor="step", mode="max", every_n_train_steps=EVERY, save_top_k=LEFT
    )
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[SamplerCallback(sampler, keep=keep), saver],
    )
    loader = DataLoader(IndexedDataset(data(N), store), sampler=sampler, batch_size=BATCH)
    trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=False if checkpoint else None)
    return module.seen


def with_the_trainer(store: ScoreStore, folder: Path, keep: int | None, checkpoint: Path | None = None) -> list[Any]:
    """Train, or go on from a checkpoint -> the rows of each step."""
    transformers = pytest.importorskip("transformers")
    from adaptive_sampler.torch.transformers import AdaptiveTrainer

    seen: list[Any] = []

    class Noting(AdaptiveTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(inputs["row"].tolist())
            return super().training_step(model, inputs, *args, **kwargs)

    settings = transformers.TrainingArguments(
        str(folder),
        use_cpu=True,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        save_steps=EVERY,
        save_total_limit=LEFT,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        dataloader_pin_memory=False,
    )
    trainer = Noting(
        Model(),
        settings,
        train_dataset=IndexedDataset(Samples(N), store, key="row"),
        sampler=AdaptiveSampler(store, KeepAll(), seed=1),
        hook=LossHook(nn.CrossEntropyLoss(), store),
        keep=keep,
    )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return seen


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of those that are left, oldest first."""
    found = [*folder.glob("step=*.ckpt"), *folder.glob("checkpoint-*")]
    return sorted((int("".join(filter(str.isdigit, path.stem))), path) for path in found)


def commit_of(path: Path) -> int:
    if path.suffix == ".ckpt":
        from adaptive_sampler.torch.lightning import SamplerCallback
    else:
        from adaptive_sampler.torch.transformers import SamplerCallback
    return SamplerCallback.commit_of(path)


@pytest.mark.parametrize("train", [with_lightning, with_the_trainer])
@pytest.mark.filterwarnings("ignore")  # the frameworks, on their own deprecations
def test_every_checkpoint_that_is_left_can_be_resumed(place: Path, train: Any) -> None:
    folder = place.parent / "checkpoints"
    with ScoreStore.create(place, N, [Loss()]) as store:
        steps = train(store, folder, KEEP)
        assert len(store.versions()) == KEEP
    left = checkpoints(folder)
    assert len(left) == LEFT
    for step, path in left:
        with ScoreStore.open(place, version=commit_of(path)) as store:
            assert train(store, folder / "again", None, path) == steps[step:]


@pytest.mark.parametrize("train", [with_lightning, with_the_trainer])
@pytest.mark.filterwarnings("ignore")  # the frameworks, on their own deprecations
def test_a_checkpoint_whose_commit_was_dropped_is_refused_by_name(place: Path, train: Any) -> None:
    folder = place.parent / "checkpoints"
    with ScoreStore.create(place, N, [Loss()]) as store:
        train(store, folder, 1)
    (_, oldest), _ = checkpoints(folder)
    with pytest.raises(
        UnknownName, match=rf"has version {commit_of(oldest)} no more: it was dropped, by keep= of a commit"
    ):
        ScoreStore.open(place, version=commit_of(oldest))
