"""A whole example: train from shards, prune after the first epoch, and read less in the second."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset as wds
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.scoring import Forgetting, Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.torch import LossHook, check
from adaptive_sampler.webdataset import PlannedShards
from tests.torch.processes import run, succeeded

N, WIDTH = 240, 12


def write(folder: Path) -> str:
    random = np.random.default_rng(0)
    for shard in range(3):
        with wds.TarWriter(str(folder / f"{shard}.tar"), mtime=0) as writer:
            for i in range(N // 3):
                label = i % 3
                vector = random.normal(size=WIDTH).astype(np.float32) + 2 * np.eye(WIDTH, dtype=np.float32)[label]
                writer.write({"__key__": f"{shard}-{i:03d}", "npy": vector, "cls": label})
    return str(folder / "{0..2}.tar")


def with_row(sample: dict[str, Any]) -> tuple[int, tuple[Any, int]]:
    return sample["__index__"], (sample["npy"], sample["cls"])


def begun(store: ScoreStore, index: ShardIndex) -> tuple[PlannedShards, LossHook]:
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1)
    stages = [wds.decode(), wds.map(with_row)]
    return PlannedShards(index, sampler, stages=stages), LossHook(torch.nn.CrossEntropyLoss(), store)


def watched(hook: LossHook, loader: Any) -> Iterator[list[float]]:
    """What identifies each batch, its loss recorded."""
    for vectors, labels in hook.watch(loader):
        hook(vectors[:, :3], labels)
        yield vectors.sum(1).tolist()


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_watched_stream_goes_on_within_an_epoch(tmp_path: Path, workers: int, epoch: int) -> None:
    index = ShardIndex.build(write(tmp_path), tmp_path / "index")
    with ScoreStore.create(tmp_path / "scores", len(index), [Loss()], keys=index.keys) as store:
        shards, hook = begun(store, index)
        loader = shards.loader(batch_size=16, num_workers=workers)
        for _ in range(epoch):
            list(watched(hook, loader))
        batches = watched(hook, loader)
        next(batches), next(batches)
        commit, state = store.commit(), loader.state_dict()
        rest = list(batches)
    with ScoreStore.open(tmp_path / "scores", version=commit) as store:
        shards, hook = begun(store, index)
        loader = shards.loader(batch_size=16, num_workers=workers)
        loader.load_state_dict(state)
        assert list(watched(hook, loader)) == rest


def test_under_a_loader_of_ones_own_the_clock_is_the_samplers(tmp_path: Path) -> None:
    index = ShardIndex.build(write(tmp_path), tmp_path / "index")
    store = ScoreStore.create(None, len(index), [Loss()], keys=index.keys)
    shards, hook = begun(store, index)
    loader = DataLoader(shards, batch_size=16, num_workers=2)
    clocks = []
    for epoch in range(3):
        shards.set_epoch(epoch)
        list(watched(hook, loader))
        clocks.append(store.epoch)
    assert clocks == [0, 1, 2]


def passes_the_check(rank: int, shards: str) -> bool:
    index = ShardIndex.build(shards, f"{shards}-{rank}.index")
    stream, _ = begun(ScoreStore.create(None, len(index), [Loss()], keys=index.keys), index)
    check(stream.loader(batch_size=16))
    check(DataLoader(stream, batch_size=16))
    return True


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_stream_shares_its_rows_among_ranks_by_itself(tmp_path: Path, ranks: int) -> None:
    succeeded(run(ranks, passes_the_check, write(tmp_path)))


def test_scores_flow_back_and_the_second_epoch_reads_less(tmp_path: Path) -> None:
    torch.manual_seed(0)
    index = ShardIndex.build(write(tmp_path), tmp_path / "index")
    store = ScoreStore.create(tmp_path / "scores", len(index), [Loss(), Forgetting()], keys=index.keys)
    sampler = AdaptiveSampler(store, Prune(0.25, "loss"), warmup_epochs=1)
    shards = PlannedShards(index, sampler, stages=[wds.decode(), wds.map(with_row)], merge_gap=0)
    loader = shards.loader(batch_size=16, num_workers=2, persistent_workers=True)
    model = torch.nn.Linear(WIDTH, 3)
    criterion = LossHook(torch.nn.CrossEntropyLoss(), store)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    counts, losses = [], []
    for epoch in range(2):
        for vectors, labels in criterion.watch(loader):
            loss = criterion(model(vectors), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert sampler.epoch == store.epoch == epoch
        counts.append(shards.counts)
        losses.append(store["loss"].copy())
        store.commit()

    assert [c.samples for c in counts] == [N, N // 4]
    assert counts[1].bytes_kept == counts[0].bytes_kept / 4
    # Every sample by itself, its header before it: none of the neighbours' bytes.
    assert counts[1].bytes_read < counts[0].bytes_read / 3
    seen_again = np.flatnonzero(store.count("loss") == 2)
    hardest = np.argsort(-losses[0])[: N // 4]
    assert sorted(seen_again) == sorted(hardest), "the second epoch is the highest losses of the first"
    assert store.rows([index.keys[7]]).tolist() == [7]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_number_of_samples_is_no_place_in_a_watched_stream(tmp_path: Path, workers: int) -> None:
    index = ShardIndex.build(write(tmp_path), tmp_path / "index")
    store = ScoreStore.create(tmp_path / "scores", len(index), [Loss()], keys=index.keys)
    shards, hook = begun(store, index)
    loader = shards.loader(batch_size=16, num_workers=workers)
    next(watched(hook, loader))
    with pytest.raises(InvalidValue, match=r"a number of samples says nothing.*loader\.state_dict\(\)"):
        shards.sampler.state_dict(delivered=16)  # type: ignore[union-attr]
    list(watched(hook, loader))
    state = shards.sampler.state_dict(delivered=hook.delivered)  # type: ignore[union-attr]
    assert state["epoch"] == shards.epoch + 1  # after the loop nothing is left to say of a place


def test_a_samplers_state_within_an_epoch_is_refused_by_a_stream(tmp_path: Path) -> None:
    index = ShardIndex.build(write(tmp_path), tmp_path / "index")
    store = ScoreStore.create(tmp_path / "scores", len(index), [Loss()], keys=index.keys)
    shards, _ = begun(store, index)
    walk = iter(AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1))
    next(walk)
    shards.sampler.load_state_dict(walk.state_dict())  # type: ignore[union-attr, attr-defined]
    with pytest.raises(ResumeError, match="a state at sample 1 of epoch 0, which is no place in planned shards"):
        next(iter(shards.loader(batch_size=16)))
