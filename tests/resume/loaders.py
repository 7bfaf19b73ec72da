"""Makes the training of a cell: a store in a folder, a sampler, and a loader over it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, EMA, Error, Loss
from adaptive_sampler.selection import Prune, Upsample
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.testing import Loop
from adaptive_sampler.torch import AdaptiveSampler, DistributedAdaptiveSampler, IndexedDataset, distributed_store
from tests.resume.cells import ACCELERATE, Cell
from tests.torch.training import data

N, SIZE = 46, 8  # 37 rows are kept: neither whole batches nor whole halves
WORKERS: dict[str, dict[str, Any]] = {
    "none": {},
    "two": {"num_workers": 2},
    "persistent": {"num_workers": 2, "persistent_workers": True},
}
PLANS: dict[str, Any] = {
    "each epoch": lambda: {"policy": Prune(0.8, by="loss", max_age=1)},
    "once": lambda: {"policy": Prune(0.8, by="loss"), "replan": "once", "warmup_epochs": 1},
    "blocks": lambda: {"policy": Prune(0.8, by="loss", max_age=1), "replan": 2},
    "second stage": lambda: {"policy": Upsample(2, by="error")},
    "second stage, frozen": lambda: {"policy": Upsample(2, by="error"), "replan": "once"},
}


def made(cell: Cell, shards: Path, folder: Path, commit: int | None) -> Loop:
    """What a script of this cell does at its start: see `check_resume`. `shards`: a folder of shards and their index."""
    torch.set_num_threads(1)
    index = ShardIndex.open(shards / "index") if cell.loader == "shards" else None
    store = opened(cell, folder, commit, N if index is None else len(index))
    sampler = AdaptiveSampler(store, seed=5, **PLANS[cell.plan]())
    make = {"nodes": nodes, "accelerate": accelerated, "shards": streamed}.get(cell.loader.split(",")[0], loaded)
    loader = make(cell, sampler, store, index)
    how: dict[str, Any] = {
        "set_epoch": cell.told,
        "watch": cell.watched,
        "counts_epochs": cell.loader.startswith("nodes"),
    }
    if cell.loader in ACCELERATE:
        from adaptive_sampler.torch import accelerate as ours

        how["save"] = lambda hook: json.dumps(ours.state_dict(loader, hook.delivered))
        how["load"] = lambda state: ours.load_state_dict(loader, json.loads(state))
    return Loop(loader, **how)


def opened(cell: Cell, folder: Path, commit: int | None, n: int) -> ScoreStore:
    """The store: of a first stage that has seen nothing, or of a second one, whose first stage saw every row twice."""
    path, scores = folder / "scores", [EL2N(), Loss(fold=EMA()), Error()]
    second = cell.plan.startswith("second")
    first = int(torch.distributed.get_rank() if torch.distributed.is_initialized() else 0) == 0
    if second and commit is None and first:
        with ScoreStore.create(path, n, scores) as store:
            for epoch in range(2):
                rows = np.arange(n)
                logits = np.random.default_rng(epoch).normal(size=(n, 3))
                store.update(rows, logits=logits, labels=rows % 3, epoch=epoch)
            store.begin_run("second stage")
            commit = store.commit()
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    if cell.plan.endswith("frozen"):
        return ScoreStore.open(path, version=commit, mode="r")
    return distributed_store(path, n, scores, version=commit, exist_ok=second)


def loaded(cell: Cell, sampler: AdaptiveSampler, store: ScoreStore, index: None) -> Any:
    """torch's DataLoader, or torchdata's with a state."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    settings = dict(WORKERS[cell.workers])
    if cell.loader == "stateful, every 4":
        settings["snapshot_every_n_steps"] = 4
    kind: Any = DataLoader if cell.loader == "plain" else StatefulDataLoader
    return kind(IndexedDataset(data(N), store), **drawn(cell, sampler), **settings)


def drawn(cell: Cell, sampler: AdaptiveSampler) -> dict[str, Any]:
    """The loader's arguments that say which rows come."""
    dealt = cell.ranks > 1 and cell.loader not in ACCELERATE  # which deals out batches itself
    ours: Any = DistributedAdaptiveSampler(sampler) if dealt else sampler
    if cell.batches:
        return {"batch_sampler": ours.batches(SIZE, drop_last=cell.drop_last)}
    return {"sampler": ours, "batch_size": SIZE, "drop_last": cell.drop_last}


def accelerated(cell: Cell, sampler: AdaptiveSampler, store: ScoreStore, index: None) -> Any:
    """A loader that Accelerate has prepared."""
    from accelerate import Accelerator, DataLoaderConfiguration

    settings = DataLoaderConfiguration(use_stateful_dataloader=cell.loader == "accelerate, stateful")
    machine = Accelerator(cpu=True, dataloader_config=settings)
    dataset = IndexedDataset(data(N), store)
    return machine.prepare(DataLoader(dataset, **drawn(cell, sampler), **WORKERS[cell.workers]))


def nodes(cell: Cell, sampler: AdaptiveSampler, store: ScoreStore, index: None) -> Any:
    """torchdata's nodes."""
    from torchdata.nodes import Batcher, Loader, Mapper, ParallelMapper, SamplerWrapper

    dataset = IndexedDataset(data(N), store)
    rows = SamplerWrapper(drawn(cell, sampler)["sampler"])
    if cell.workers == "none":
        samples: Any = Mapper(rows, dataset.__getitem__)
    else:
        samples = ParallelMapper(rows, dataset.__getitem__, num_workers=2, method="thread")
    batches = Mapper(Batcher(samples, SIZE, cell.drop_last), default_collate)
    return Loader(batches, restart_on_stop_iteration=cell.loader == "nodes, restarting")


def streamed(cell: Cell, sampler: AdaptiveSampler, store: ScoreStore, index: ShardIndex) -> Any:
    """A stream of planned shards."""
    from adaptive_sampler.webdataset import PlannedShards

    shards = PlannedShards(index, sampler, stages=[with_row], window=7)
    return shards.loader(batch_size=SIZE, drop_last=cell.drop_last, **WORKERS[cell.workers])


def with_row(samples: Any) -> Any:
    """Rows beside the samples, as `LossHook.watch` takes them."""
    for sample in samples:
        yield sample["__index__"], len(sample["txt"])


def write(folder: Path) -> Path:
    """A folder of shards of 46 samples, and their index."""
    import webdataset as wds

    for shard in range(3):
        with wds.TarWriter(str(folder / f"{shard}.tar"), mtime=0) as writer:
            for i in range(shard, N, 3):
                writer.write({"__key__": f"{i:03d}", "txt": f"sample {i}"})
    ShardIndex.build(str(folder / "{0..2}.tar"), folder / "index")
    return folder
