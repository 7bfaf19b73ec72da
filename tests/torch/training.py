"""A small training whose scores move at every step, stopped and resumed by real checkpoints: for tests."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import EL2N, EMA, Error, Forgetting, Loss
from adaptive_sampler.selection import Draw, InfoBatch, KeepAll, Prune, RandomPrune, Threshold, Upsample, Window
from adaptive_sampler.torch import IndexedDataset, LossHook
from adaptive_sampler.torch.data.samplers import AdaptiveSampler as TorchSampler

N, BATCH, EPOCHS = 46, 12, 2

POLICIES: dict[str, Callable[[], Any]] = {
    "keep_all": KeepAll,
    "random_prune": lambda: RandomPrune(0.6),
    "prune": lambda: Prune(0.6, by="loss", max_age=1),
    "window": lambda: Window(0.5, 0.2, by="el2n"),
    "threshold": lambda: Threshold(0.6, by="loss"),
    "upsample": lambda: Upsample(2, by="error"),
    "draw": lambda: Draw("loss", 40, floor=0.1),
    "draw_without_replacement": lambda: Draw("loss", 30, replacement=False, floor=0.1),
    "infobatch": lambda: InfoBatch(0.5, by="loss", epochs=8),
}


def data(n: int = N) -> TensorDataset:
    """n points of 6 features in 3 classes, some of them mislabelled."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 3, (n,), generator=generator)
    inputs = torch.randn(n, 6, generator=generator) + nn.functional.one_hot(labels, 6)
    labels[::7] = (labels[::7] + 1) % 3
    return TensorDataset(inputs, labels)


class Samples(Dataset[Any]):
    """The same points as dict samples, as the Trainer's collators want them."""

    def __init__(self, n: int) -> None:
        self.points = data(n)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, row: int) -> dict[str, Any]:
        inputs, label = self.points[row]
        return {"inputs": inputs, "labels": int(label)}


class Model(nn.Module):
    """One layer, which computes its loss itself, as the Trainer's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(6, 3)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.net(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def new_store(path: Path | None, n: int = N) -> ScoreStore:
    """A store of every kind of fold; epoch 0 was seen, so that every policy chooses from the first epoch on."""
    store = ScoreStore.create(path, n, [EL2N(), Loss(fold=EMA()), Error(), Forgetting()])
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(n, 3)), rng.integers(0, 3, n)
    store.update(np.arange(n), logits=logits, labels=labels, epoch=0)
    store.commit()
    return store


class Training:
    """One process's share of a training: model, store, sampler, loader. `rows` are those of each step."""

    def __init__(
        self,
        store: ScoreStore,
        policy: Any,
        make_loader: Callable[[Any, TorchSampler], Any] | None = None,
        **sampling: Any,
    ) -> None:
        torch.manual_seed(0)
        self.store = store
        self.model = nn.Linear(6, 3)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        self.sampler = TorchSampler(store, policy, seed=5, **sampling)
        self.hook = LossHook(nn.CrossEntropyLoss(), store, sampler=self.sampler)
        self.loader = (make_loader or plain())(IndexedDataset(data(len(store)), store), self.sampler)
        self.rows: list[list[int]] = []

    def epoch(self) -> Iterator[None]:
        """One pass over the loader; yields after each step."""
        for inputs, labels in self.hook.watch(tee(self.loader, self.rows)):
            loss = self.hook(self.model(inputs), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            yield

    def save(self) -> dict[str, Any]:
        """A checkpoint as JSON would bring it back, and the model's tensors."""
        stateful = hasattr(self.loader, "state_dict")
        walk = self.loader.state_dict() if stateful else self.sampler.state_dict(delivered=self.hook.delivered)
        saved = {"commit": self.store.commit(), "walk": walk}
        return {"plain": json.dumps(saved), "model": {k: v.clone() for k, v in self.model.state_dict().items()}}

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from `save`."""
        (self.loader if hasattr(self.loader, "load_state_dict") else self.sampler).load_state_dict(
            json.loads(saved["plain"])["walk"]
        )
        self.model.load_state_dict(saved["model"])

    def scores(self) -> dict[str, bytes]:
        """All that the store holds, exactly."""
        names = self.store.names
        return {f"{name}/{column}": array.tobytes() for name in names for column, array in columns(self.store, name)}


def columns(store: ScoreStore, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """A score's values, counts and epochs."""
    yield "value", np.nan_to_num(store[name], nan=-1)
    yield "count", store.count(name)
    yield "last_seen", store.last_seen(name)


class tee:
    """A loader that notes the rows it delivers; it has the attributes of the loader."""

    def __init__(self, loader: Any, rows: list[list[int]]) -> None:
        self.iterable, self._rows = loader, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self.iterable, name)

    def __iter__(self) -> Iterator[Any]:
        for rows, sample in self.iterable:
            self._rows.append(rows.tolist())
            yield rows, sample


def plain(**settings: Any) -> Callable[[Any, TorchSampler], DataLoader[Any]]:
    """torch's DataLoader."""
    return lambda dataset, sampler: DataLoader(dataset, **sampled(sampler), **settings)


def stateful(**settings: Any) -> Callable[[Any, TorchSampler], Any]:
    """torchdata's StatefulDataLoader."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    return lambda dataset, sampler: StatefulDataLoader(dataset, **sampled(sampler), **settings)


def sampled(sampler: AdaptiveSampler) -> dict[str, Any]:
    """The loader's arguments for this sampler: batches are ours where plans are made for blocks of them."""
    if isinstance(sampler.replan, int):
        return {"batch_sampler": sampler.batches(BATCH)}
    return {"sampler": sampler, "batch_size": BATCH}


def whole(path: Path, policy: Any, make_loader: Any = None, *, epochs: int = EPOCHS, **sampling: Any) -> Any:
    """Train without a stop, saving after every step -> the training, and what was saved."""
    training = Training(new_store(path), policy, make_loader, **sampling)
    saves = [training.save() for _ in range(epochs) for _ in training.epoch()]
    return training, saves


def resumed(path: Path, saved: Any, steps: int, policy: Any, make_loader: Any = None, **sampling: Any) -> Training:
    """A new training from a checkpoint, trained for the `steps` that were left."""
    training = restored(path, saved, policy, make_loader, **sampling)
    while len(training.rows) < steps:
        for _ in training.epoch():
            pass
    return training


def restored(path: Path, saved: Any, policy: Any, make_loader: Any = None, **sampling: Any) -> Training:
    """A new training at a checkpoint."""
    store = ScoreStore.open(path, version=json.loads(saved["plain"])["commit"])
    training = Training(store, policy, make_loader, **sampling)
    training.load(saved)
    return training
