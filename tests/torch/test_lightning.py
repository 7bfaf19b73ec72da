"""Lightning and Fabric, one process and two: the planned rows, the right epoch, and the same rows after a resume."""

import warnings
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import SelectionLost
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.selection import KeepAll, Prune
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, LossHook, check, distributed_store, sync
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.lightning import SamplerCallback
from tests.torch.lightning_ranks import Environment
from tests.torch.processes import all_failed, run, succeeded
from tests.torch.training import data

N, BATCH = 46, 5
SCORES = [EL2N(), Loss()]


class Module(lightning.LightningModule):
    """Notes the rows of each step of each epoch."""

    def __init__(self, hook: LossHook) -> None:
        super().__init__()
        self.net, self.seen, self.checks = nn.Linear(6, 3), {}, True
        self.__dict__["hook"] = hook  # no child: it has no parameters

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        rows, (inputs, labels) = batch
        self.seen.setdefault(self.current_epoch, []).append(rows.tolist())
        if self.checks:
            check(self.trainer.train_dataloader)
        return self.hook(self.net(inputs), labels, rows=rows)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=0.5)


def fit(
    store: ScoreStore,
    folder: str,
    *,
    workers: int = 0,
    epochs: int = 3,
    ckpt: str | None = None,
    checks: bool = True,
    **kwargs: Any,
) -> Any:
    """Train -> the module, its trainer and callback."""
    torch.manual_seed(0)
    policy, kind = kwargs.pop("policy", None), kwargs.pop("kind", "global")
    sampler: Any = AdaptiveSampler(store, policy or Prune(0.5, "loss"), seed=1, warmup_epochs=0 if policy else 1)
    if kind == "distributed":
        sampler = DistributedAdaptiveSampler(sampler)
    callbacks = [SamplerCallback(sampler), *kwargs.pop("callbacks", [])]
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        enable_checkpointing=any(isinstance(c, lightning.pytorch.callbacks.ModelCheckpoint) for c in callbacks),
        callbacks=callbacks,
        **{"devices": 1} | kwargs,
    )
    module = Module(LossHook(nn.CrossEntropyLoss(), store))
    module.checks = checks
    loader = DataLoader(IndexedDataset(data(N), store), sampler=sampler, batch_size=BATCH, num_workers=workers)
    trainer.fit(module, loader, ckpt_path=ckpt, weights_only=False if ckpt else None)
    return module, trainer, sampler


def saver(folder: Path, every: int) -> Any:
    return lightning.pytorch.callbacks.ModelCheckpoint(
        dirpath=folder, filename="{step}", every_n_train_steps=every, save_top_k=-1
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_trains_on_the_plan_and_resumes_at_any_checkpoint(place: Path, workers: int) -> None:
    folder = place.parent / "checkpoints"
    with ScoreStore.create(place, N, SCORES) as store:
        module, _, _ = fit(store, str(folder), workers=workers, callbacks=[saver(folder, 3)])
        scores = store["loss"].tolist()
    assert [sum(map(len, module.seen[epoch])) for epoch in range(3)] == [N, N // 2, N // 2]
    steps = [rows for epoch in range(3) for rows in module.seen[epoch]]
    for step in (3, 9, 12, 15, 18):
        path = folder / f"step={step}.ckpt"
        with ScoreStore.open(place, version=SamplerCallback.commit_of(path)) as store:
            again, _, _ = fit(store, str(folder), workers=workers, ckpt=str(path), callbacks=[saver(folder, 3)])
            assert [rows for epoch in sorted(again.seen) for rows in again.seen[epoch]] == steps[step:]
            assert store["loss"].tolist() == scores


def test_a_plan_that_grows_beyond_lightnings_frozen_length_raises(place: Path) -> None:
    store = ScoreStore.create(place, N, SCORES)
    store.update(range(N), loss=torch.arange(N), logits=torch.zeros(N, 3), labels=torch.zeros(N, dtype=torch.int64))
    with pytest.raises(SelectionLost, match=r"epoch 1 has 10 batches.*once, 5, and stops there.*num_samples="):
        fit(store, str(place.parent), policy=Growing(0.5, "loss"))


class Growing(Prune):
    """Half of the rows first, then all."""

    def plan(self, store: Any, *, epoch: int, seed: int) -> Any:
        return (Prune(0.5, "loss") if epoch == 0 else KeepAll()).plan(store, epoch=epoch, seed=seed)


def ddp(rank: int, path: str, ckpt: str | None, kind: str) -> Any:
    """DDP in a process group that is there already."""
    warnings.simplefilter("ignore")
    environment = Environment()
    store = distributed_store(path, N, SCORES, version=SamplerCallback.commit_of(ckpt) if ckpt else None)
    folder = Path(path).parent / "checkpoints"
    module, trainer, _ = fit(
        store,
        str(folder),
        kind=kind,
        ckpt=ckpt,
        callbacks=[saver(folder, 4)] if kind == "distributed" else [],
        strategy="ddp",
        devices=2,
        plugins=[environment],
    )
    return module.seen, store["loss"].tolist(), type(trainer.train_dataloader.sampler).__name__


def test_ddp_on_two_ranks_covers_the_plan_keeps_our_sampler_and_resumes(place: Path) -> None:
    results = succeeded(run(2, ddp, str(place), None, "distributed"))
    assert [name for _, _, name in results] == ["DistributedAdaptiveSampler"] * 2
    assert results[0][1] == results[1][1]
    for epoch, size in ((0, N), (1, N // 2), (2, N // 2)):
        rows = [row for seen, _, _ in results for batch in seen[epoch] for row in batch]
        assert (len(set(rows)), len(rows)) == (size, size + size % 2)
    steps = [[rows for epoch in range(3) for rows in seen[epoch]] for seen, _, _ in results]
    again = succeeded(run(2, ddp, str(place), str(place.parent / "checkpoints" / "step=4.ckpt"), "distributed"))
    for rank in range(2):
        assert [rows for epoch in sorted(again[rank][0]) for rows in again[rank][0][epoch]] == steps[rank][4:]
        assert again[rank][1] == results[0][1]


def fabric(rank: int, path: str, kind: str) -> Any:
    """Fabric's loop on two ranks."""
    store = distributed_store(path, N, SCORES)
    sampler: Any = AdaptiveSampler(store, Prune(0.5, "loss"), seed=1, warmup_epochs=1)
    if kind == "distributed":
        sampler = DistributedAdaptiveSampler(sampler)
    machine = lightning.Fabric(accelerator="cpu", devices=2, strategy="ddp", plugins=[Environment()])
    machine.launch()
    loader = machine.setup_dataloaders(DataLoader(IndexedDataset(data(N), store), sampler=sampler, batch_size=BATCH))
    seen = []
    for _ in range(2):
        rows = []
        for batch, _ in loader:
            check(loader)
            rows += batch.tolist()
        store.update(rows, loss=torch.ones(len(rows)))
        sync(store, sampler)
        seen.append(rows)
    return seen


def test_fabric_on_two_ranks_covers_the_plan_and_sets_the_epoch(place: Path) -> None:
    one, two = succeeded(run(2, fabric, str(place), "distributed"))
    assert sorted(one[0] + two[0]) == list(range(N))
    assert len(set(one[1] + two[1])) == N // 2


def test_fabric_in_one_process_keeps_our_sampler(place: Path) -> None:
    machine = lightning.Fabric(accelerator="cpu", devices=1)
    store = ScoreStore.create(place, N, SCORES)
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
    store.update(range(N), loss=torch.arange(N))
    loader = machine.setup_dataloaders(DataLoader(IndexedDataset(data(N), store), sampler=sampler, batch_size=BATCH))
    for epoch in range(2):
        assert sorted(row for rows, _ in loader for row in rows.tolist()) == list(range(N // 2, N))
        check(loader)
        assert sampler.epoch == epoch


def test_fabric_on_two_ranks_wraps_another_sampler_and_check_says_so(place: Path) -> None:
    all_failed(run(2, fabric, str(place), "global"), "DistributedSamplerWrapper lies around AdaptiveSampler")
