"""Accelerate's save_state and load_state with our object: a run stopped after any batch goes on as the one that was not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.scoring import EMA, Loss
from adaptive_sampler.selection import KeepAll, Prune, Upsample
from adaptive_sampler.torch import IndexedDataset, LossHook, distributed_store, sync
from adaptive_sampler.torch import accelerate as ours
from adaptive_sampler.torch.accelerate import SamplerCheckpoint
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from tests.torch.processes import all_failed, run, succeeded
from tests.torch.training import columns, data, tee

N, SIZE, EPOCHS = 46, 8, 3
SCORES = [Loss(fold=EMA())]


class Run:
    """A training that is saved and resumed by Accelerate itself, with our object registered."""

    def __init__(
        self,
        store: ScoreStore,
        policy: Any = None,
        *,
        batches: bool = False,
        drop_last: bool = False,
        workers: int = 0,
        size: int = SIZE,
        sampling: Any = None,
        **settings: Any,
    ) -> None:
        torch.manual_seed(0)
        self.store = store
        self.machine = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**settings))
        self.sampler = AdaptiveSampler(
            store, policy or Prune(0.8, by="loss"), seed=4, warmup_epochs=1, **(sampling or {})
        )
        drawn: dict[str, Any] = {"sampler": self.sampler, "batch_size": size, "drop_last": drop_last}
        if batches:
            drawn = {"batch_sampler": self.sampler.batches(size, drop_last=drop_last)}
        loader = DataLoader(IndexedDataset(data(N), store), num_workers=workers, **drawn)
        model = nn.Linear(6, 3)
        self.hook = LossHook(nn.CrossEntropyLoss(), store)
        self.loader, self.model, self.optimizer = self.machine.prepare(
            loader, model, torch.optim.SGD(model.parameters(), lr=0.5)
        )
        self.checkpoint = SamplerCheckpoint(self.loader, self.hook)
        self.machine.register_for_checkpointing(self.checkpoint)

    def train(self, epochs: int = EPOCHS, folder: str | None = None) -> list[list[list[int]]]:
        """Train on, saving after each batch and each epoch if there is a `folder` -> the rows of each epoch's batches."""
        whole = []
        for epoch in range(self.sampler.epoch, epochs):
            rows: list[list[int]] = []
            for inputs, labels in self.hook.watch(tee(self.loader, rows)):
                self.machine.backward(self.hook(self.model(inputs), labels))
                self.optimizer.step()
                self.optimizer.zero_grad()
                if folder:
                    self.machine.save_state(f"{folder}/{epoch}-{len(rows)}")
            sync(self.store, self.sampler)
            if folder:
                self.machine.save_state(f"{folder}/{epoch + 1}-0")
            whole.append(rows)
        self.machine.wait_for_everyone()
        return whole

    def end(self) -> list[Any]:
        """The weights, all that the store holds, and how often the next plan visits each row, exactly."""
        weights = [tensor.tolist() for tensor in self.model.state_dict().values()]
        scores = [array.tobytes() for name in self.store.names for _, array in columns(self.store, name)]
        self.sampler.set_epoch(EPOCHS)
        return [weights, scores, self.sampler.plan.repeats.tolist()]


def stop_everywhere(rank: int, path: str, shape: Any) -> Any:
    """Train without a stop, and from each checkpoint -> what was counted and planned in the end, how much was given."""
    folder = f"{path}-saved"
    with distributed_store(path, N, SCORES) as store:
        unstopped = Run(store, **shape)
        whole = unstopped.train(folder=folder)
        end, counts = unstopped.end(), store.count("loss")
    for saved in sorted(Path(folder).iterdir()):
        epoch, done = map(int, saved.name.split("-"))
        with distributed_store(path, N, SCORES, version=SamplerCheckpoint.commit_of(saved)) as store:
            again = Run(store, **shape)
            again.machine.load_state(str(saved))
            rest = again.train()
            expected = [batches[done:] if epoch == at else batches for at, batches in enumerate(whole)][epoch:]
            assert rest == expected, f"rows from {saved.name}"
            assert again.end() == end, f"weights, scores or plan from {saved.name}"
    return (int(counts.sum()), end), sum(len(batch) for batches in whole for batch in batches)


EVENED = [{}, {"split_batches": True, "batches": True}, {"policy": Upsample(2, by="loss"), "size": 30}]


@pytest.mark.parametrize("shape", EVENED)
def test_two_processes_stopped_after_any_batch_go_on_as_if_they_had_not_been(place: Path, shape: Any) -> None:
    """Also where batches do not divide among processes, which Accelerate fills up with the epoch's first rows."""
    one, two = succeeded(run(2, stop_everywhere, str(place), shape))
    assert one[0] == two[0]  # what is counted is the same on both
    assert one[1] + two[1] > one[0][0]  # and less than was given: there was padding


@pytest.mark.parametrize("ranks", [1, 2])
def test_without_padding_too(place: Path, ranks: int) -> None:
    results = succeeded(run(ranks, stop_everywhere, str(place), {"drop_last": True, "batches": True}))
    assert sum(given for _, given in results) == results[0][0][0]


# -- what is registered is told what it cannot do ------------------------------------------------------------------------


def saved_in(folder: Path, store: ScoreStore, **shape: Any) -> tuple[Run, Path]:
    """A training that was saved after the second batch of its first epoch."""
    training = Run(store, **shape)
    for step, (inputs, labels) in enumerate(training.hook.watch(training.loader), 1):
        training.hook(training.model(inputs), labels)
        if step == 2:
            training.machine.save_state(str(folder))
            break
    return training, folder


def test_a_store_at_another_commit_is_refused_and_the_one_that_is_named_goes_on(place: Path) -> None:
    with ScoreStore.create(place, N, SCORES) as store:
        _, folder = saved_in(place.parent / "saved", store)
        store.update([0], loss=[1.0])
        store.commit()
    with (
        ScoreStore.open(place) as store,
        pytest.raises(ResumeError, match=r"saved at commit 1, the store is open at commit 2 .*commit_of\(folder\)"),
    ):
        Run(store).machine.load_state(str(folder))
    with ScoreStore.open(place, version=SamplerCheckpoint.commit_of(folder)) as store:
        again = Run(store)
        again.machine.load_state(str(folder))
        assert len(again.train(epochs=1)[0]) == 4


def test_a_store_that_was_trained_on_since_is_refused(place: Path) -> None:
    with ScoreStore.create(place, N, SCORES) as store:
        training, folder = saved_in(place.parent / "saved", store)
        store.update([0], loss=[1.0])
        with pytest.raises(ResumeError, match="open at commit 1 with 1 updates since"):
            training.machine.load_state(str(folder))


def test_our_state_is_found_among_those_of_other_objects(place: Path) -> None:
    with ScoreStore.create(place, N, SCORES) as store:
        training = Run(store)
        training.machine._custom_objects.insert(0, Registered({"commit": 9}))
        training.machine.register_for_checkpointing(Registered(Path()))
        training.machine.save_state(str(place.parent / "saved"))
        assert SamplerCheckpoint.commit_of(place.parent / "saved") == 1


class Registered:
    """Another object that is registered."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        pass


def test_a_folder_without_our_state_is_refused(place: Path) -> None:
    machine = Accelerator(cpu=True)
    machine.register_for_checkpointing(Registered({"commit": 9}))
    machine.save_state(str(place.parent / "saved"))
    with pytest.raises(ResumeError, match=r"before SamplerCheckpoint\(loader, hook\) was registered"):
        SamplerCheckpoint.commit_of(place.parent / "saved")


@pytest.mark.parametrize("workers", [0, 1])
def test_the_own_state_of_a_stateful_loader_skips_nothing_once_more(place: Path, workers: int) -> None:
    with ScoreStore.create(place, N, SCORES) as store:
        shape = {"use_stateful_dataloader": True, "workers": workers}
        _, folder = saved_in(place.parent / "saved", store, **shape)
    with ScoreStore.open(place, version=SamplerCheckpoint.commit_of(folder)) as store:
        again = Run(store, **shape)
        again.machine.load_state(str(folder))
        assert [len(batches) for batches in again.train(epochs=2)] == [4, 5]


def test_a_state_taken_before_the_first_batch_of_a_resumed_epoch_is_where_it_was_resumed(place: Path) -> None:
    with ScoreStore.create(place, N, SCORES) as store:
        _, folder = saved_in(place.parent / "saved", store)
    with ScoreStore.open(place, version=SamplerCheckpoint.commit_of(folder)) as store:
        again = Run(store)
        again.machine.load_state(str(folder))
        assert again.checkpoint.state_dict()["walk"]["position"] == 2 * SIZE


def second_stage(place: Path, mode: Any) -> SamplerCheckpoint:
    """The object of a training by the scores of an earlier one, which records into another store."""
    ScoreStore.create(place, N, SCORES).close()
    sampler = AdaptiveSampler(ScoreStore.open(place, mode=mode), KeepAll())
    second = ScoreStore.create(place.parent / "second", N, SCORES)
    loader = Accelerator(cpu=True).prepare(DataLoader(IndexedDataset(data(N), second), SIZE, sampler=sampler))
    return SamplerCheckpoint(loader, LossHook(nn.CrossEntropyLoss(), second))


def test_a_second_stage_commits_the_store_that_it_records_into(place: Path) -> None:
    checkpoint = second_stage(place, "r")
    saved = [checkpoint.state_dict()["commit"] for _ in range(2)]
    assert saved == [1, 2]
    checkpoint.load_state_dict(checkpoint.state_dict())


def test_two_stores_that_are_both_written_are_refused(place: Path) -> None:
    with pytest.raises(InvalidValue, match=r"a checkpoint names one commit.*open the sampler's with mode='r'"):
        second_stage(place, "r+")


def dispatched(rank: int, path: str, dispatch: bool) -> bool:
    with distributed_store(path, N, SCORES, exist_ok=True) as store:
        Run(store, dispatch_batches=dispatch)
    return True


def test_batches_that_the_first_process_reads_for_all_are_refused(place: Path) -> None:
    all_failed(run(2, dispatched, str(place), True), "DataLoaderConfiguration(dispatch_batches=False)")
    succeeded(run(2, dispatched, str(place), False))


def blocks(rank: int, path: str, even: bool) -> Any:
    """Stop in the second batch of an epoch of plans of blocks, and go on."""
    store = ScoreStore.open(path, mode="r")
    shape = {"sampling": {"replan": 2}, "batches": True, "even_batches": even, "policy": KeepAll()}
    first, rows = Run(store, **shape), []
    for batch, _ in first.loader:
        rows.append(batch.tolist())
        if len(rows) == 2:
            state = ours.state_dict(first.loader, 2 * SIZE)
    again = Run(store, **shape)
    ours.load_state_dict(again.loader, state)
    return [batch.tolist() for batch, _ in again.loader] == rows[2:]


def test_plans_of_blocks_cannot_be_filled_up_from_a_beginning_that_is_gone(place: Path) -> None:
    ScoreStore.create(place, N, SCORES).close()
    all_failed(run(2, blocks, str(place), True), "DataLoaderConfiguration(even_batches=False)")
    assert succeeded(run(2, blocks, str(place), False)) == [True, True]
