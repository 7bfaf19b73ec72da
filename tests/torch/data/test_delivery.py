"""What watch delivers is held against what the sampler drew: a count of samples is a position, or it is refused."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, default_collate
from torchdata.stateful_dataloader import StatefulDataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll, Prune
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, LossHook
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from tests.torch.training import data, tee

N, SIZE = 46, 4


class Slow(Dataset[Any]):
    """One sample takes long, so that its batch is overtaken where that is allowed."""

    def __init__(self, row: int) -> None:
        self.row, self.data = row, data(N)

    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> Any:
        time.sleep(0.5 * (row == self.row))
        return self.data[row]


def parts(place: Path | None = None, **settings: Any) -> tuple[AdaptiveSampler, LossHook, ScoreStore]:
    store = ScoreStore.create(place, N, [Loss()])
    return AdaptiveSampler(store, KeepAll(), seed=1, **settings), LossHook(nn.CrossEntropyLoss(), store), store


def drain(hook: LossHook, loader: Any) -> int:
    """Walk a pass -> what was delivered, asked after each batch."""
    for _ in hook.watch(loader):
        hook.forget()
        assert hook.delivered
    return hook.delivered


@pytest.mark.parametrize("replan", ["epoch", 3])
def test_a_batch_that_overtakes_another_is_refused_where_order_is_not_kept(replan: Any) -> None:
    sampler, hook, store = parts(replan=replan)
    first = next(iter(sampler.batches(SIZE)))[0]
    sampler.set_epoch(0)
    loader = DataLoader(
        IndexedDataset(Slow(first), store), batch_sampler=sampler.batches(SIZE), num_workers=2, in_order=False
    )
    with pytest.raises(
        InvalidValue, match=r"epoch 0 (overtook|may have overtaken) another after \d+ samples.*in_order=True"
    ):
        drain(hook, loader)


def test_the_remedies_for_batches_that_overtake_work() -> None:
    sampler, hook, store = parts()
    slow = IndexedDataset(Slow(next(iter(sampler))), store)
    sampler.set_epoch(0)
    assert drain(hook, DataLoader(slow, SIZE, sampler=sampler, num_workers=2, in_order=True)) == N
    rows = []
    for batch, (inputs, labels) in DataLoader(slow, SIZE, sampler=sampler, num_workers=2, in_order=False):
        rows += batch.tolist()
        hook(inputs[:, :3].requires_grad_(), labels, rows=batch)
    assert sorted(rows) == list(range(N))
    assert (store.count("loss") == 1).all()


def test_order_that_is_not_asked_to_be_kept_and_is_kept_is_fine() -> None:
    sampler, hook, store = parts()
    loader = DataLoader(IndexedDataset(data(N), store), SIZE, sampler=sampler, num_workers=1, in_order=False)
    assert drain(hook, loader) == N


def without_every_fifth(samples: Any) -> Any:
    """A collate_fn that leaves samples out, as one for broken images does."""
    return default_collate([sample for sample in samples if sample[0] % 5])


def test_samples_that_a_collate_fn_leaves_out_make_the_count_no_position() -> None:
    sampler, hook, store = parts()
    loader = DataLoader(IndexedDataset(data(N), store), 8, sampler=sampler, collate_fn=without_every_fifth)
    for inputs, labels in hook.watch(loader):
        hook(inputs[:, :3].requires_grad_(), labels)
    assert store.observed("loss") == N - 10  # the training itself goes on
    with pytest.raises(InvalidValue, match=r"not those that the sampler drew next.*no position to resume from"):
        sampler.state_dict(delivered=hook.delivered)


def test_where_samples_are_left_out_a_stateful_loaders_own_state_is_exact() -> None:
    sampler, hook, store = parts()
    dataset = IndexedDataset(data(N), store)
    rows: list[list[int]] = []
    loader = StatefulDataLoader(dataset, 8, sampler=sampler, collate_fn=without_every_fifth)
    for step, _ in enumerate(hook.watch(tee(loader, rows))):
        hook.forget()
        if step == 2:
            state = loader.state_dict()
    again = AdaptiveSampler(store, KeepAll(), seed=1)
    resumed = StatefulDataLoader(dataset, 8, sampler=again, collate_fn=without_every_fifth)
    resumed.load_state_dict(state)
    assert [batch.tolist() for batch, _ in resumed] == rows[3:]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_rank_is_held_against_its_own_rows_padding_too(ranks: int) -> None:
    sampler, hook, store = parts()
    dealt = DistributedAdaptiveSampler(sampler, num_replicas=ranks, rank=ranks - 1)
    loader = DataLoader(IndexedDataset(data(N), store), SIZE, sampler=dealt, num_workers=1)
    assert drain(hook, loader) == -(-N // ranks)


def test_plans_that_change_within_an_epoch_are_not_made_by_looking() -> None:
    sampler, hook, store = parts(replan=2)
    store.fold("loss", range(N), torch.arange(N))
    loader = DataLoader(IndexedDataset(data(N), store), batch_sampler=sampler.batches(SIZE), num_workers=2)
    assert drain(hook, loader) == N


@pytest.mark.parametrize("n", [N - 1, N + 1])
def test_a_watched_dataset_of_another_length_than_the_store_is_refused(n: int) -> None:
    sampler, hook, _ = parts()
    loader = DataLoader(IndexedDataset(data(n)), SIZE, sampler=sampler)
    with pytest.raises(InvalidValue, match=rf"the dataset has {n} samples, the sampler's store {N} rows.*store\.grow"):
        next(hook.watch(loader))


def test_a_store_that_was_grown_to_the_dataset_is_watched() -> None:
    _, hook, store = parts()
    store.grow(N + 2)
    grown = AdaptiveSampler(store, KeepAll())
    assert drain(hook, DataLoader(IndexedDataset(data(N + 2)), SIZE, sampler=grown)) == N + 2


def test_after_a_resumed_pass_of_no_batch_the_count_is_where_it_was_resumed() -> None:
    sampler, hook, store = parts()
    dataset = IndexedDataset(data(N), store)
    for _ in hook.watch(DataLoader(dataset, SIZE, sampler=sampler, drop_last=True)):
        hook.forget()
        state = sampler.state_dict(delivered=hook.delivered)
    again, hook = AdaptiveSampler(store, KeepAll(), seed=1), LossHook(nn.CrossEntropyLoss(), store)
    again.load_state_dict(state)
    loader = DataLoader(dataset, SIZE, sampler=again, drop_last=True)
    assert list(hook.watch(loader)) == []
    assert hook.delivered == 44
    assert again.state_dict(delivered=hook.delivered)["epoch"] == 1


def test_a_loop_over_part_of_a_loader_is_over_when_it_ends() -> None:
    """As Trainer(limit_train_batches=) and islice limit an epoch."""
    sampler, hook, store = parts()

    class Limited:
        def __init__(self, loader: Any) -> None:
            self.iterable = loader

        def __iter__(self) -> Any:
            for step, batch in enumerate(self.iterable):
                if step == 3:
                    return
                yield batch

    loader = Limited(DataLoader(IndexedDataset(data(N), store), SIZE, sampler=sampler))
    for _ in hook.watch(loader):
        hook.forget()
    state = sampler.state_dict(delivered=hook.delivered)
    assert (state["epoch"], state["position"]) == (1, 0)


def test_after_a_watched_loop_a_state_without_a_count_is_the_next_epochs_too() -> None:
    sampler, hook, store = parts()
    drain(hook, DataLoader(IndexedDataset(data(N), store), SIZE, sampler=sampler))
    state = sampler.state_dict()
    assert (state["epoch"], state["position"]) == (1, 0)


def test_a_loop_that_breaks_off_is_within_its_epoch() -> None:
    sampler, hook, store = parts()
    for step, _ in enumerate(hook.watch(DataLoader(IndexedDataset(data(N), store), SIZE, sampler=sampler))):
        hook.forget()
        if step == 1:
            break
    state = sampler.state_dict(delivered=hook.delivered)
    assert (state["epoch"], state["position"]) == (0, 2 * SIZE)


def test_a_loader_asked_for_its_state_before_the_loop_plans_when_the_loop_begins() -> None:
    store = ScoreStore.create(None, N, [Loss()])
    sampler, hook = AdaptiveSampler(store, Prune(0.5, by="loss"), replan="once"), LossHook(nn.CrossEntropyLoss(), store)
    loader = StatefulDataLoader(IndexedDataset(data(N), store), SIZE, sampler=sampler, num_workers=2)
    loader.state_dict()
    store.fold("loss", range(N), torch.arange(N))
    rows: list[list[int]] = []
    for _ in hook.watch(tee(loader, rows)):
        hook.forget()
    assert sorted(row for batch in rows for row in batch) == list(range(N // 2, N))
    assert sampler.epoch == 0


# -- what stands between, and other passes ----------------------------------------------------------------------------


def prefetched(loader: Any) -> Any:
    """A generator: nothing shows what it wraps."""
    yield from loader


class Prefetcher:
    """Keeps its loader as many do."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Any:
        return iter(self.loader)


@pytest.mark.parametrize("around", [prefetched, Prefetcher, iter, lambda loader: map(tuple, loader)])
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_sampler_behind_a_prefetcher_is_known_by_what_it_drew(around: Any, ranks: int) -> None:
    store, seen, state = ScoreStore.create(None, N, [Loss()]), [], None
    for part in range(3):
        inner = AdaptiveSampler(store, KeepAll(), seed=1)
        sampler: Any = DistributedAdaptiveSampler(inner, num_replicas=ranks, rank=0) if ranks > 1 else inner
        if state is not None:
            sampler.load_state_dict(state)
        hook = LossHook(nn.CrossEntropyLoss(), store)
        loader = DataLoader(IndexedDataset(data(N), store), SIZE, sampler=sampler)
        rows: list[list[int]] = []
        for step, _ in enumerate(hook.watch(around(tee(loader, rows)))):
            hook.forget()
            if step == 1 and part < 2:
                break
        seen += [row for batch in rows for row in batch]
        state = sampler.state_dict(delivered=hook.delivered)
        del inner, sampler
    assert state is not None
    assert (len(seen), len(set(seen))) == (N // ranks, N // ranks)
    assert (state["epoch"], state["position"]) == (1, 0)


def test_a_first_batch_that_no_sampler_drew_behind_a_prefetcher_cannot_be_counted() -> None:
    sampler, hook, store = parts()
    loader = DataLoader(IndexedDataset(data(N), store), 8, sampler=sampler, collate_fn=without_every_fifth)
    for _ in hook.watch(prefetched(loader)):
        hook.forget()
    with pytest.raises(InvalidValue, match=r"shows nothing of it, and the first batch is not what it drew.*`loader`"):
        assert hook.delivered


def test_a_second_pass_over_the_same_loader_within_an_epoch_is_not_counted_as_this_one() -> None:
    sampler, hook, store = parts()
    loader = DataLoader(IndexedDataset(data(N), store), SIZE, sampler=sampler)
    for step, (inputs, labels) in enumerate(hook.watch(loader)):
        hook(inputs[:, :3].requires_grad_(), labels)
        if step == 2:
            assert len(list(loader)) == 12  # the training accuracy, say
    assert store.last_seen("loss").tolist() == [0] * N  # recorded in the epoch that the outer loop walks
    with pytest.raises(InvalidValue, match=r"meanwhile epoch 1 of the sampler was begun.*a loader of its own"):
        assert hook.delivered


def test_a_second_pass_by_a_loader_of_its_own_leaves_the_count() -> None:
    sampler, hook, store = parts()
    dataset = IndexedDataset(data(N), store)
    for step, (inputs, labels) in enumerate(hook.watch(DataLoader(dataset, SIZE, sampler=sampler))):
        hook(inputs[:, :3].requires_grad_(), labels)
        with torch.no_grad():
            for x, y in hook.watch(DataLoader(dataset, 23)):
                hook(x[:, :3], y)
        assert hook.delivered == min(SIZE * (step + 1), N)
        if step == 4:
            state = sampler.state_dict(delivered=hook.delivered)
    assert (state["epoch"], state["position"]) == (0, 5 * SIZE)
    assert store.last_seen("loss").tolist() == [0] * N


def test_a_hook_that_weighs_does_not_take_another_loader_for_its_samplers() -> None:
    sampler, _, store = parts()
    hook = LossHook(nn.CrossEntropyLoss(), store, sampler=sampler)
    dataset = IndexedDataset(data(N), store)
    with torch.no_grad():
        for x, y in hook.watch(DataLoader(dataset, 23)):
            hook(x[:, :3], y)
    assert sampler.state_dict(delivered=0)["epoch"] == 0
    for step, _ in enumerate(hook.watch(DataLoader(dataset, SIZE, sampler=sampler))):
        hook.forget()
        if step == 1:
            list(hook.watch(DataLoader(dataset, 23)))
            assert sampler.state_dict(delivered=hook.delivered)["position"] == 2 * SIZE


def test_a_stage_without_a_sampler_of_ours_follows_one_with() -> None:
    sampler, hook, store = parts()
    dataset = IndexedDataset(data(N), store)
    drain(hook, DataLoader(dataset, SIZE, sampler=sampler))
    for inputs, labels in hook.watch(DataLoader(dataset, SIZE, shuffle=True)):
        hook(inputs[:, :3].requires_grad_(), labels)
    assert (store.count("loss") == 1).all()
    assert store.epoch == 1


def test_an_epoch_that_is_not_watched_after_one_that_was_is_not_counted() -> None:
    sampler, hook, store = parts()
    loader = DataLoader(IndexedDataset(data(N), store), SIZE, sampler=sampler, num_workers=1)
    drain(hook, loader)
    next(iter(loader))
    with pytest.raises(InvalidValue, match=r"meanwhile epoch 1 of the sampler was begun.*delivered=your count"):
        assert hook.delivered


def test_two_samplers_of_one_store_keep_to_their_own_clocks() -> None:
    sampler, hook, store = parts()
    dataset = IndexedDataset(data(N), store)
    sampler.set_epoch(2)
    other = DataLoader(dataset, 23, sampler=AdaptiveSampler(store, KeepAll(), seed=9))
    for step, (inputs, labels) in enumerate(hook.watch(DataLoader(dataset, SIZE, sampler=sampler))):
        hook(inputs[:, :3].requires_grad_(), labels)
        if step == 3:
            list(other)
    assert store.last_seen("loss").tolist() == [2] * N


def test_samples_left_out_of_batches_whose_plans_change_are_seen_by_their_number() -> None:
    sampler, hook, store = parts(replan=2)
    loader = DataLoader(
        IndexedDataset(data(N), store), batch_sampler=sampler.batches(8), collate_fn=without_every_fifth
    )
    for _ in hook.watch(loader):
        hook.forget()
    with pytest.raises(InvalidValue, match="no position to resume from"):
        assert hook.delivered


@pytest.mark.parametrize("whole", [False, True])
def test_an_epoch_that_is_said_to_be_over_is_saved_so(whole: bool) -> None:
    sampler, hook, store = parts()
    for _ in hook.watch(DataLoader(IndexedDataset(data(N), store), SIZE, sampler=sampler)):
        hook.forget()
        if not whole:
            break
    sampler.set_epoch(1)
    state = sampler.state_dict(delivered=hook.delivered)
    assert (state["epoch"], state["position"]) == (1, 0)


def test_a_state_saved_before_the_first_batch_of_a_resume_is_the_state_that_was_loaded() -> None:
    sampler, _, store = parts()
    walk = iter(sampler)
    for _ in range(16):
        next(walk)
    state = sampler.state_dict()
    again, fresh = AdaptiveSampler(store, KeepAll(), seed=1), LossHook(nn.CrossEntropyLoss(), store)
    again.load_state_dict(state)
    saved = again.state_dict(delivered=fresh.delivered)
    assert (saved["epoch"], saved["position"]) == (0, 16)
