"""Lightning's strategy "ddp" on one device: it replaces samplers as on many, and is stopped before the first batch."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, SelectionLost
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import RandomPrune
from adaptive_sampler.torch import AdaptiveSampler, DistributedAdaptiveSampler, IndexedDataset, LossHook, check
from adaptive_sampler.torch.lightning import SamplerCallback
from tests.torch.test_lightning import Module
from tests.torch.training import data

N, SIZE, LENGTH = 46, 5, 30

pytestmark = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    """Lightning makes a process group of one, says so in the environment, and leaves both behind."""
    before = dict(os.environ)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def loader_of(kind: str, store: ScoreStore, sampler: AdaptiveSampler) -> Any:
    """A loader that draws from the sampler in one of the ways that torch has."""
    dataset = IndexedDataset(data(N), store)
    if kind == "sampler":
        return DataLoader(dataset, sampler=sampler, batch_size=SIZE)
    if kind == "our batches":
        return DataLoader(dataset, batch_sampler=sampler.batches(SIZE))
    if kind == "our batches as a sampler":
        return DataLoader(dataset, sampler=sampler.batches(SIZE), batch_size=None)
    if kind == "torch's batches":
        return DataLoader(dataset, batch_sampler=BatchSampler(sampler, SIZE, drop_last=False))
    dealt = DistributedAdaptiveSampler(sampler)
    if kind == "torch's batches of a dealt-out sampler":
        return DataLoader(dataset, batch_sampler=BatchSampler(dealt, SIZE, drop_last=False))
    return DataLoader(dataset, sampler=dealt, batch_size=SIZE)


def fit(store: ScoreStore, kind: str, *callbacks: Any, checkpoint: Path | None = None, **settings: Any) -> list[Any]:
    """Train for two epochs -> the rows of each step."""
    sampler = AdaptiveSampler(store, RandomPrune(0.5), seed=1, num_samples=LENGTH)
    module = Module(LossHook(nn.CrossEntropyLoss(), store))
    module.checks = False
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=1,
        strategy="ddp",
        plugins=[LightningEnvironment()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        callbacks=[SamplerCallback(sampler), *callbacks],
        **settings,
    )
    seen = module.seen
    try:
        trainer.fit(
            module,
            loader_of(kind, store, sampler),
            ckpt_path=None if checkpoint is None else str(checkpoint),
            weights_only=False if checkpoint else None,
        )
    except SelectionLost:
        assert not seen  # before the first step
        raise
    return [rows for epoch in sorted(seen) for rows in seen[epoch]]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("sampler", r"DistributedSamplerWrapper lies around AdaptiveSampler: it shuffles the plan's order anew"),
        ("our batches as a sampler", r"DistributedSamplerWrapper lies around AdaptiveSampler: it shuffles"),
        ("torch's batches", r"DistributedSampler draws the indices.*Lightning's strategy \"ddp\" on one device too"),
        ("torch's batches of a dealt-out sampler", r"DistributedSampler draws the indices.*no batch_sampler="),
    ],
)
def test_what_lightning_puts_in_the_place_of_ours_is_refused_before_the_first_step(kind: str, words: str) -> None:
    with pytest.raises(SelectionLost, match=rf"{words}.*") as refused:
        fit(ScoreStore.create(None, N, [Loss()]), kind)
    assert "sampler=DistributedAdaptiveSampler(sampler)" in str(refused.value)


def test_our_batches_refuse_the_sampler_that_lightning_would_put_into_them() -> None:
    with pytest.raises(InvalidValue, match=r"none of ours.*Lightning's fit.*sampler=DistributedAdaptiveSampler"):
        fit(ScoreStore.create(None, N, [Loss()]), "our batches")


def test_the_remedy_a_dealt_out_sampler_walks_the_plan_and_goes_on_from_every_step(place: Path) -> None:
    folder = place.parent / "checkpoints"
    keep = ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    with ScoreStore.create(place, N, [Loss()]) as store:
        steps = fit(store, "the remedy", keep)
        scores = np.nan_to_num(store["loss"]).tolist()
        alone = AdaptiveSampler(store, RandomPrune(0.5), seed=1, num_samples=LENGTH)
        assert [row for rows in steps for row in rows] == [row for _ in range(2) for row in alone]
    for step in range(1, len(steps) + 1):
        path = folder / f"step={step}.ckpt"
        with ScoreStore.open(place, version=SamplerCallback.commit_of(path)) as store:
            assert fit(store, "the remedy", checkpoint=path) == steps[step:]
            assert np.nan_to_num(store["loss"]).tolist() == scores


@pytest.mark.parametrize("kind", ["sampler", "our batches", "torch's batches"])
def test_the_other_remedy_lightning_is_told_to_keep_what_is_there(kind: str) -> None:
    with ScoreStore.create(None, N, [Loss()]) as store:
        steps = fit(store, kind, use_distributed_sampler=False)
        alone = AdaptiveSampler(store, RandomPrune(0.5), seed=1, num_samples=LENGTH)
        assert [row for rows in steps for row in rows] == [row for _ in range(2) for row in alone]


@pytest.mark.parametrize("kind", ["sampler", "the remedy"])
def test_fabric_wraps_a_plain_sampler_on_one_device_too(kind: str) -> None:
    machine = lightning.Fabric(accelerator="cpu", devices=1, strategy="ddp", plugins=[LightningEnvironment()])
    machine.launch()
    with ScoreStore.create(None, N, [Loss()]) as store:
        sampler = AdaptiveSampler(store, RandomPrune(0.5), seed=1, num_samples=LENGTH)
        loader = machine.setup_dataloaders(loader_of(kind, store, sampler))
        if kind == "the remedy":
            check(loader)
            return
        with pytest.raises(
            SelectionLost, match=r"lies around AdaptiveSampler: it took the length of an epoch once, 30"
        ):
            check(loader)
