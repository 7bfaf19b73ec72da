"""Planned shards stream what the sampler plans, each epoch in another order, with its repeats and loss weights."""

import multiprocessing
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll, Prune, RandomPrune, Upsample
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.webdataset import PlannedShards
from tests.shards.tars import index_of, shards
from tests.webdataset.planned import N, rows, store_of, top_half


def test_a_pass_reads_what_is_planned_and_the_next_reads_it_in_another_order(index: ShardIndex) -> None:
    shards = PlannedShards(index, top_half())
    first, second = rows(shards), rows(shards)
    assert sorted(first) == sorted(second) == list(range(45, 90))
    assert first != second
    assert shards.epoch == 1


def test_asking_for_an_iterator_plans_nothing(index: ShardIndex) -> None:
    shards = PlannedShards(index, top_half())
    iter(shards)
    iter(shards)
    assert shards.epoch == 0
    assert shards.plans.epoch is None


def test_set_epoch_gives_an_epochs_order_again(index: ShardIndex) -> None:
    shards = PlannedShards(index, top_half())
    shards.set_epoch(3)
    order = rows(shards)
    rows(shards)
    shards.set_epoch(3)
    assert rows(shards) == order


def test_a_pass_left_behind_by_set_epoch_raises(tmp_path: Path) -> None:
    index = index_of(tmp_path, [600])
    sampler = AdaptiveSampler(ScoreStore.create(None, 600, [Loss()]), KeepAll())
    shards = PlannedShards(index, sampler)
    old = iter(shards)
    next(old)
    shards.set_epoch(5)
    with pytest.raises(ResumeError, match="began epoch 0"):
        list(old)


def test_repeats_and_loss_weights_ride_along(index: ShardIndex) -> None:
    store = store_of()
    store.fold("error", np.arange(N), (np.arange(N) % 30 == 0).astype(np.float32))
    shards = PlannedShards(index, AdaptiveSampler(store, Upsample(3)))
    samples = list(shards)
    assert Counter(s["__index__"] for s in samples) == {r: 3 if r % 30 == 0 else 1 for r in range(N)}
    assert {s["__loss_weight__"] for s in samples} == {1.0}


def test_it_is_the_source_of_a_webdataset_pipeline(index: ShardIndex) -> None:
    pipeline = wds.DataPipeline(PlannedShards(index, top_half()), wds.decode(), wds.to_tuple("cls", "__index__"))
    assert sorted(row for _, row in pipeline) == list(range(45, 90))
    assert all(isinstance(label, int) for label, _ in pipeline)


def test_stages_follow_in_the_same_process(index: ShardIndex) -> None:
    shards = PlannedShards(index, top_half(), stages=[wds.decode(), wds.to_tuple("cls", "__index__"), wds.batched(9)])
    assert [len(labels) for labels, _ in shards] == [9] * 5


def test_planning_drains_the_hooks_first(index: ShardIndex) -> None:
    store = store_of()

    class Hook:
        def flush(self) -> None:
            store.session.fold_values(np.arange(N), {"loss": -np.arange(N, dtype=np.float32)})

    hook = Hook()
    store.session.register(hook)
    assert sorted(rows(PlannedShards(index, AdaptiveSampler(store, Prune(5, "loss"))))) == list(range(5))


@pytest.mark.parametrize("block", [1 << 20, 7])
def test_a_store_of_other_samples_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("adaptive_sampler.shards.indexing.index._BLOCK", block)
    urls = shards(tmp_path, [5, 4, 8])
    index = ShardIndex.build(urls, tmp_path / "index")
    store = ScoreStore.create(None, 17, [Loss()], keys=index.keys)
    assert rows(PlannedShards(index, AdaptiveSampler(store, KeepAll())))
    turned = ShardIndex.build(urls[::-1], tmp_path / "index", renumber=True)
    with pytest.raises(InvalidValue, match=r"row 0 is 's0/00000' in the store and 's2/00000' in the index"):
        PlannedShards(turned, AdaptiveSampler(store, KeepAll()))
    assert rows(PlannedShards(turned, AdaptiveSampler(ScoreStore.create(None, 17, [Loss()]), KeepAll())))


def test_the_plan_is_saved_in_the_store(index: ShardIndex, tmp_path: Path) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()
    shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    rows(shards)
    assert shards.plans.epoch is not None
    with ScoreStore.open(tmp_path / "scores", mode="r") as read_only:
        saved = read_only.plan(shards.plans.epoch.kept.plan_id)
    assert saved.rows.tolist() == list(range(45, 90))


def test_it_pickles_as_paths_and_handles(index: ShardIndex) -> None:
    shards = PlannedShards(index, top_half())
    shards.set_epoch(0)
    multiprocessing.reduction.ForkingPickler.dumps(shards)
    assert len(multiprocessing.reduction.ForkingPickler.dumps(shards)) < 4000
    copy = pickle.loads(pickle.dumps(index))
    assert copy.urls == index.urls


def test_a_constant_length_cuts_short_or_begins_again(index: ShardIndex) -> None:
    sampler = AdaptiveSampler(store_of(), Prune(0.5, "loss"), num_samples=60)
    seen = Counter(rows(PlannedShards(index, sampler)))
    assert set(seen) == set(range(45, 90))
    assert sum(seen.values()) == 60
    short = AdaptiveSampler(store_of(), Prune(0.5, "loss"), num_samples=10)
    assert len(set(rows(PlannedShards(index, short)))) == 10


def test_a_sampler_that_plans_by_blocks_is_refused(index: ShardIndex) -> None:
    with pytest.raises(InvalidValue, match=r'replan=2 counts batches.*replan="epoch"'):
        PlannedShards(index, AdaptiveSampler(store_of(), RandomPrune(0.5), replan=2))


def test_a_store_that_grows_with_the_shards_plans_the_new_rows(tmp_path: Path) -> None:
    from tests.shards.tars import shards as write

    urls = write(tmp_path, [4, 6])
    index = ShardIndex.build(urls[:1], tmp_path / "index")
    store = ScoreStore.create(None, len(index), [Loss()], keys=index.keys)
    index = ShardIndex.build(urls, tmp_path / "index")
    with pytest.raises(InvalidValue, match=r"store\.grow\(10, keys=index\.keys_of\(4, 10\)\)"):
        rows(PlannedShards(index, AdaptiveSampler(store, KeepAll())))
    store.grow(10, keys=index.keys_of(4, 10))
    samples = list(PlannedShards(index, AdaptiveSampler(store, KeepAll())))
    assert store.rows([s["__key__"] for s in samples]).tolist() == [s["__index__"] for s in samples]
