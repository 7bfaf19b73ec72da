"""Accelerate's save_state and load_state with our object: a run stopped after any batch goes on as the one that was not."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, ResumeError, SelectionLost
from adaptive_sampler.scoring import EMA, Error, Loss
from adaptive_sampler.selection import KeepAll, Prune, Upsample
from adaptive_sampler.torch import IndexedDataset, LossHook, distributed_store, sync
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


def stop_everywhere(rank: int, path: str, shapes: Any) -> Any:
    """For each shape, train without a stop, and from each checkpoint -> the sum of the counts and of the rows."""
    counted = []
    for number, shape in enumerate(shapes):
        place, folder = f"{path}-{number}", f"{path}-{number}-saved"
        with distributed_store(place, N, SCORES) as store:
            unstopped = Run(store, **shape)
            whole = unstopped.train(folder=folder)
            end = unstopped.end()
            counted.append(
                (int(store.count("loss").sum()), sum(len(batch) for batches in whole for batch in batches), end[1:])
            )
        for saved in sorted(Path(folder).iterdir()):
            epoch, done = map(int, saved.name.split("-"))
            with distributed_store(place, N, SCORES, version=SamplerCheckpoint.commit_of(saved)) as store:
                again = Run(store, **shape)
                again.machine.load_state(str(saved))
                rest = again.train()
                expected = [batches[done:] if epoch == at else batches for at, batches in enumerate(whole)][epoch:]
                assert rest == expected, f"{shape} from {saved.name}: rows"
                assert again.end() == end, f"{shape} from {saved.name}: weights, scores or plan"
    return counted


SHAPES = [
    {},
    {"batches": True},
    {"drop_last": True},
    {"split_batches": True, "batches": True},
    {"split_batches": True, "drop_last": True},
    {"policy": Upsample(2, by="loss"), "workers": 2},
    {"size": 30},  # fewer samples than a batch for each process
]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_stopped_after_any_batch_goes_on_as_the_one_that_was_not(place: Path, ranks: int) -> None:
    """Also where batches do not divide among processes, which Accelerate fills up with the epoch's first rows."""
    results = succeeded(run(ranks, stop_everywhere, str(place), SHAPES))
    for shape, *ends in zip(SHAPES, *results, strict=True):
        counted, given = ends[0][0], sum(end[1] for end in ends)
        assert given > counted if ranks > 1 and not shape.get("drop_last") else given == counted
        assert all(end[2] == ends[0][2] for end in ends)
