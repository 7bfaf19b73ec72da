"""Planned shards stream what the sampler plans: through any loader, in any number of workers and ranks, resumably."""

import multiprocessing
import pickle
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.scoring import Error, Loss
from adaptive_sampler.selection import KeepAll, Prune, RandomPrune, Upsample
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.webdataset import PlannedShards
from tests.shards.tars import index_of, shards
from tests.webdataset.raising import lost

N = 90

# The test machine has fewer cores than the layouts under test have workers.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    return index_of(tmp_path_factory.mktemp("shards"), [13, 1, 40, 7, 29])


def store_of(path: Path | None = None) -> ScoreStore:
    store = ScoreStore.create(path, N, [Loss(), Error()])
    store.fold("loss", np.arange(N), np.arange(N, dtype=np.float32))
    return store


def top_half(**options: Any) -> AdaptiveSampler:
    return AdaptiveSampler(store_of(), Prune(0.5, "loss"), **options)


def rows(stream: Any) -> list[int]:
    return [sample["__index__"] for sample in stream]


def indices(items: list[dict[str, Any]]) -> list[int]:
    return [item["__index__"] for item in items]


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


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_read_disjoint_shares_under_every_start_method(index: ShardIndex, context: str) -> None:
    loader = PlannedShards(index, top_half()).loader(
        batch_size=8, num_workers=2, collate_fn=indices, multiprocessing_context=context
    )
    assert sorted(row for batch in loader for row in batch) == list(range(45, 90))


@pytest.mark.parametrize("workers", [0, 1, 3, 4])
def test_an_epoch_is_whole_with_any_number_of_workers(index: ShardIndex, workers: int) -> None:
    loader = PlannedShards(index, top_half()).loader(batch_size=4, num_workers=workers, collate_fn=indices)
    assert sorted(row for batch in loader for row in batch) == list(range(45, 90))


def test_persistent_workers_see_each_epochs_plan(index: ShardIndex) -> None:
    store = store_of()
    sampler = AdaptiveSampler(store, Prune(10, "loss"), warmup_epochs=1)
    loader = PlannedShards(index, sampler).loader(
        batch_size=8, num_workers=2, collate_fn=indices, persistent_workers=True
    )
    epochs = []
    for _ in range(3):
        epochs.append(sorted(row for batch in loader for row in batch))
        store.fold("loss", np.arange(N), -np.arange(N, dtype=np.float32))
    assert epochs[0] == list(range(N))
    assert epochs[1] == epochs[2] == list(range(10))


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


def foreign(shards: PlannedShards, persistent: bool = False) -> DataLoader[Any]:
    return DataLoader(shards, batch_size=8, num_workers=2, collate_fn=indices, persistent_workers=persistent)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_foreign_loader_with_workers_follows_set_epoch(index: ShardIndex, persistent: bool) -> None:
    shards = PlannedShards(index, top_half())
    loader, epochs = foreign(shards, persistent), []
    for epoch in range(2):
        shards.set_epoch(epoch)
        epochs.append([row for batch in loader for row in batch])
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(45, 90))
    assert epochs[0] != epochs[1]


def test_a_foreign_loader_before_any_set_epoch_raises(index: ShardIndex) -> None:
    lost(foreign(PlannedShards(index, top_half())), "before any epoch was planned: call set_epoch")


def test_a_missing_set_epoch_under_a_foreign_loader_raises(index: ShardIndex) -> None:
    shards = PlannedShards(index, top_half())
    shards.set_epoch(0)
    loader = foreign(shards)
    first = list(loader)
    lost(loader, r"nobody told the trainer.*Call set_epoch")
    shards.set_epoch(0)
    assert list(loader) == first


def test_a_webloader_takes_it(index: ShardIndex) -> None:
    shards = PlannedShards(index, top_half())
    shards.set_epoch(0)
    assert sorted(rows(wds.WebLoader(shards, batch_size=None, num_workers=2))) == list(range(45, 90))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_get_equal_disjoint_shares(index: ShardIndex, ranks: int, workers: int) -> None:
    shares = []
    for rank in range(ranks):
        shards = PlannedShards(index, top_half(), rank=rank, num_replicas=ranks, drop_last=True)
        loader = shards.loader(batch_size=4, num_workers=workers, collate_fn=indices)
        shares.append([row for batch in loader for row in batch])
        assert shards.num_samples == len(shares[-1]) == 45 // ranks
    together = [row for own in shares for row in own]
    assert len(set(together)) == len(together)


def test_the_rank_comes_from_the_environment_as_in_webdataset(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert PlannedShards(index, top_half()).num_samples == 15


@pytest.mark.parametrize("options", [{"drop_last": True}, {}, {"num_workers": 2}, {"batch_size": None}], ids=str)
def test_a_loader_has_as_many_batches_as_it_says(index: ShardIndex, options: dict[str, Any]) -> None:
    loader = PlannedShards(index, top_half()).loader(**({"batch_size": 7, "collate_fn": list} | options))
    assert len(list(loader)) == len(loader)


def test_stages_leave_the_length_open(index: ShardIndex) -> None:
    with pytest.raises(TypeError, match="the stages of this stream decide"):
        len(PlannedShards(index, top_half(), stages=[wds.batched(3)]).loader())


def test_a_worker_whose_shards_are_all_pruned_ends_quietly(index: ShardIndex) -> None:
    sampler = AdaptiveSampler(store_of(), Prune(2, "loss"))
    loader = PlannedShards(index, sampler).loader(batch_size=2, num_workers=3, collate_fn=indices)
    assert sorted(loader) == [[88], [89]]


def test_it_pickles_as_paths_and_handles(index: ShardIndex) -> None:
    shards = PlannedShards(index, top_half())
    shards.set_epoch(0)
    multiprocessing.reduction.ForkingPickler.dumps(shards)
    assert len(multiprocessing.reduction.ForkingPickler.dumps(shards)) < 4000
    copy = pickle.loads(pickle.dumps(index))
    assert copy.urls == index.urls


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("stop", [0, 1, 4, 5])
def test_a_loader_resumes_exactly(index: ShardIndex, tmp_path: Path, workers: int, stop: int) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()

    def fresh() -> Any:
        sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
        return PlannedShards(index, sampler, window=7).loader(batch_size=4, num_workers=workers, collate_fn=indices)

    whole = list(fresh())
    loader = fresh()
    first: Iterator[list[int]] = iter(loader)
    before = [next(first) for _ in range(stop)]
    state = loader.state_dict()
    del first
    again = fresh()
    again.load_state_dict(state)
    assert before + list(again) == whole
    # and the next epoch is the next
    assert [again.dataset.epoch, len(list(again)), again.dataset.epoch] == [0, len(whole), 1]


def test_a_state_at_the_end_of_an_epoch_begins_the_next(index: ShardIndex, tmp_path: Path) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()
    shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    loader = shards.loader(batch_size=4, num_workers=2, collate_fn=indices)
    list(loader)
    state = loader.state_dict()
    following = list(loader)
    again = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    again.load_state_dict(state)
    assert list(again.loader(batch_size=4, num_workers=2, collate_fn=indices)) == following


def test_scores_that_moved_on_do_not_change_a_resumed_epoch(index: ShardIndex, tmp_path: Path) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()
    shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    walk = iter(shards)
    before = [next(walk)["__index__"] for _ in range(10)]
    state = shards.state_dict()
    store.fold("loss", np.arange(N), -np.arange(N, dtype=np.float32))
    again = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    again.load_state_dict(state)
    assert sorted(before + rows(again)) == list(range(45, 90))


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (3, 2), (2, 3)])
def test_a_state_resumes_on_other_ranks_and_workers(
    index: ShardIndex, tmp_path: Path, ranks: int, workers: int
) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()

    def on(rank: int, ranks: int, workers: int) -> Any:
        shards = PlannedShards(
            index, AdaptiveSampler(store, Prune(0.5, "loss")), rank=rank, num_replicas=ranks, window=7
        )
        return shards.loader(batch_size=3, num_workers=workers, collate_fn=indices)

    seen = []
    for rank in range(2):
        loader = on(rank, 2, 2)
        for batch in islice(loader, 3):
            seen += batch
    state = loader.state_dict()
    assert state["taken"] == [[1, 0, 6], [1, 1, 3]]
    for rank in range(ranks):
        resumed = on(rank, ranks, workers)
        resumed.load_state_dict(state)
        seen += [row for batch in resumed for row in batch]
    assert set(seen) == set(range(45, 90))
    assert len(seen) - 45 <= 1 + ranks


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 2, 5])
def test_a_stateful_dataloader_resumes_exactly(index: ShardIndex, tmp_path: Path, workers: int, stop: int) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()

    def fresh() -> tuple[PlannedShards, Any]:
        shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")), window=7)
        return shards, StatefulDataLoader(shards, batch_size=4, num_workers=workers, collate_fn=indices)

    shards, loader = fresh()
    shards.set_epoch(2)
    whole = list(loader)
    shards, loader = fresh()
    shards.set_epoch(2)
    walk = iter(loader)
    before = [next(walk) for _ in range(stop)]
    state = loader.state_dict()
    shards, loader = fresh()
    shards.set_epoch(2)
    loader.load_state_dict(state)
    assert before + list(loader) == whole


def test_a_stateful_dataloaders_state_resumes_on_other_ranks(index: ShardIndex, tmp_path: Path) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()
    states, seen = [], []
    for rank in range(2):
        shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")), rank=rank, num_replicas=2, window=7)
        shards.set_epoch(0)
        loader = StatefulDataLoader(shards, batch_size=4, num_workers=2, collate_fn=indices)
        walk = iter(loader)
        for _ in range(3):
            seen += next(walk)
        states.append(loader.state_dict())
        del walk, loader
    shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")), window=7)
    shards.load_state_dict(states)
    seen += rows(shards)
    assert set(seen) == set(range(45, 90))
    assert len(seen) <= 46


def test_a_foreign_loader_cannot_be_resumed_from_here(index: ShardIndex) -> None:
    shards = PlannedShards(index, top_half())
    shards.set_epoch(0)
    list(foreign(shards))
    with pytest.raises(ResumeError, match="StatefulDataLoader, or iterate"):
        shards.state_dict()


def test_set_epoch_to_another_epoch_straight_after_loading_raises(index: ShardIndex, tmp_path: Path) -> None:
    store = store_of(tmp_path / "scores")
    store.commit()
    shards = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    next(iter(shards))
    state = shards.state_dict()
    again = PlannedShards(index, AdaptiveSampler(store, Prune(0.5, "loss")))
    again.load_state_dict(state)
    with pytest.raises(ResumeError, match=r"set_epoch\(1\) after loading a state within epoch 0"):
        again.set_epoch(1)
    again.set_epoch(0)
    assert len(rows(again)) == 44


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
