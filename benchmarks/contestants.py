"""What is timed: each function sets a contestant up for `n` rows and returns its turn. Ours, and what a user would pick."""

import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from adaptive_sampler import ScoreStore
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.scoring import EL2N, Confidence, Entropy, Error, Forgetting, Loss, Margin
from adaptive_sampler.selection import Draw, KeepAll, Prune

BATCH = 256
Turn = Callable[[], Any]


def drain(iterable: Iterable[Any]) -> None:
    """Consume everything, as a training loop does."""
    for _ in iterable:
        pass


def scored(n: int, *, distinct: int = 0) -> ScoreStore:
    """A store of `n` rows with a log-normal loss, or one of `distinct` values."""
    store = ScoreStore.create(tempfile.mkdtemp() + "/s", n, [Loss()])
    rng = np.random.default_rng(0)
    values = rng.integers(0, distinct, n).astype(np.float32) if distinct else rng.lognormal(size=n).astype(np.float32)
    for start in range(0, n, 1 << 22):
        rows = np.arange(start, min(start + (1 << 22), n))
        store.fold("loss", rows, values[rows])
    return store


def kept_half(n: int) -> np.ndarray:
    """The rows with the higher half of the losses, as a user would compute them."""
    values = np.random.default_rng(0).lognormal(size=n).astype(np.float32)
    return np.argpartition(values, n // 2)[n // 2 :]


# -- an epoch of a half-kept data set ---------------------------------------------------------------------------------


def ours_batches(n: int) -> Turn:
    batches = AdaptiveSampler(scored(n), Prune(0.5, "loss"), replan="once").batches(BATCH)
    return lambda: drain(batches)


def torch_subset_batches(n: int) -> Turn:
    from torch.utils.data import BatchSampler, SubsetRandomSampler

    sampler = BatchSampler(SubsetRandomSampler(kept_half(n).tolist()), BATCH, False)
    return lambda: drain(sampler)


def torch_random_batches(n: int) -> Turn:
    from torch.utils.data import BatchSampler, RandomSampler

    sampler = BatchSampler(RandomSampler(range(n // 2)), BATCH, False)
    return lambda: drain(sampler)


def ours_singles(n: int) -> Turn:
    from torch.utils.data import BatchSampler

    sampler = BatchSampler(AdaptiveSampler(scored(n), Prune(0.5, "loss"), replan="once"), BATCH, False)
    return lambda: drain(sampler)


# -- the wait for the first batch, and the memory of an epoch ----------------------------------------------------------


def ours_first_batch(n: int, keep: float) -> Turn:
    policy = KeepAll() if keep == 1 else Prune(keep, "loss")
    sampler = AdaptiveSampler(scored(n), policy)

    def turn() -> None:
        sampler.set_epoch(sampler.epoch + 1)
        next(iter(sampler.batches(BATCH)))

    return turn


def torch_first_batch(n: int) -> Turn:
    from torch.utils.data import BatchSampler, RandomSampler

    sampler = BatchSampler(RandomSampler(range(n)), BATCH, False)
    return lambda: next(iter(sampler))


def ours_some_batches(n: int, keep: float) -> Turn:
    """Plan, and walk the first thousand batches."""
    policy = KeepAll() if keep == 1 else Prune(keep, "loss")
    sampler = AdaptiveSampler(scored(n), policy)

    def turn() -> None:
        sampler.set_epoch(sampler.epoch + 1)
        batches = iter(sampler.batches(BATCH))
        for _ in range(min(1000, len(sampler) // BATCH)):
            next(batches)

    return turn


# -- plans ------------------------------------------------------------------------------------------------------------


def ours_plan(n: int, distinct: int) -> Turn:
    store, policy = scored(n, distinct=distinct), Prune(0.5, "loss")
    return lambda: policy.plan(store, epoch=1, seed=0)


def numpy_argpartition(n: int, distinct: int) -> Turn:
    values = scored(n, distinct=distinct)["loss"].copy()
    return lambda: np.argpartition(values, n // 2)[n // 2 :]


def numpy_argsort(n: int, distinct: int) -> Turn:
    values = scored(n, distinct=distinct)["loss"].copy()
    return lambda: np.argsort(values)[n // 2 :]


# -- weighted draws, delivered as batches -----------------------------------------------------------------------------


def ours_draws(n: int, replacement: bool) -> Turn:
    sampler = AdaptiveSampler(scored(n), Draw("loss", n if replacement else n // 2, replacement=replacement))

    def turn() -> None:
        sampler.set_epoch(sampler.epoch + 1)
        epoch = sampler.begin(None)  # type: ignore[arg-type]
        epoch.take(0, len(epoch))

    return turn


def torch_multinomial(n: int, replacement: bool) -> Turn:
    import torch

    weights = torch.from_numpy(scored(n)["loss"].copy())
    return lambda: torch.multinomial(weights, n if replacement else n // 2, replacement)


def numpy_choice(n: int, replacement: bool) -> Turn:
    weights = scored(n)["loss"].astype(np.float64)
    weights /= weights.sum()
    rng = np.random.default_rng(0)
    return lambda: rng.choice(n, n if replacement else n // 2, replace=replacement, p=weights)


# -- updates ----------------------------------------------------------------------------------------------------------

NAMES = ("el2n", "forgetting", "loss", "margin", "confidence", "error")


def _batches(n: int, size: int) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    rng = np.random.default_rng(0)
    return [
        (
            rng.choice(n, size, replace=False),
            {name: rng.integers(0, 2, size).astype(np.float32) for name in NAMES},
        )
        for _ in range(200)
    ]


def ours_update(n: int, size: int) -> Turn:
    store = ScoreStore.create(None, n, [EL2N(), Forgetting(), Loss(), Margin(), Confidence(), Error()])
    batches = _batches(n, size)

    def turn() -> None:
        for rows, values in batches:
            store.fold_values(rows, values, epoch=1)

    return turn


def numpy_update(n: int, size: int) -> Turn:
    """The same six columns with their counts and epochs, checked as ours, by fancy indexing (no row twice in a batch)."""
    value = {name: np.zeros(n, np.float32) for name in NAMES}
    count, seen = np.zeros(n, np.uint32), np.full(n, -1, np.int32)
    events, right = np.zeros(n, np.uint32), np.zeros(n, np.bool_)
    batches = _batches(n, size)

    def turn() -> None:
        for rows, values in batches:
            if rows.min() < 0 or rows.max() >= n or not all(np.isfinite(v).all() for v in values.values()):
                raise ValueError
            times = count[rows] + 1
            count[rows] = times
            seen[rows] = 1
            for name in ("el2n", "margin", "confidence"):
                old = value[name][rows]
                value[name][rows] = old + (values[name] - old) / times
            for name in ("loss", "error"):
                value[name][rows] = values[name]
            correct = values["forgetting"] == 0
            events[rows] += right[rows] & ~correct
            right[rows] = correct

    return turn


# -- the whole hook, and a whole loader -------------------------------------------------------------------------------


def training_step(n: int, hooked: bool) -> Turn:
    """Twenty steps of a small conv net on the CPU, with the loss hook or without."""
    import torch
    from torch import nn

    from adaptive_sampler.torch import LossHook

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 64, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
    store = ScoreStore.create(None, n, [EL2N(), Forgetting(), Loss(), Margin(), Confidence(), Entropy()])
    criterion: Any = LossHook(nn.CrossEntropyLoss(), store) if hooked else nn.CrossEntropyLoss()
    rows = torch.randperm(n)[:BATCH]

    def turn() -> None:
        for _ in range(20):
            logits = model(images)
            loss = criterion(logits, labels, rows) if hooked else criterion(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return turn


def loader_epoch(n: int, ours: bool) -> Turn:
    """An epoch of a DataLoader over an in-memory data set that fetches a batch at once."""
    import torch
    from torch.utils.data import DataLoader, Dataset, RandomSampler

    class InMemory(Dataset[torch.Tensor]):
        def __init__(self) -> None:
            self.data = torch.randn(n, 16)

        def __len__(self) -> int:
            return n

        def __getitems__(self, indices: list[int]) -> torch.Tensor:
            return self.data[indices]

    dataset = InMemory()
    if ours:
        batches = AdaptiveSampler(scored(n), KeepAll()).batches(BATCH)
        loader: Any = DataLoader(dataset, batch_sampler=batches, collate_fn=lambda batch: batch)  # type: ignore[arg-type]
    else:
        loader = DataLoader(dataset, BATCH, sampler=RandomSampler(dataset), collate_fn=lambda batch: batch)  # type: ignore[arg-type]
    return lambda: drain(loader)


def imported(module: str) -> Turn:
    """The import of a module, in a fresh interpreter that finds all bytecode, as that of an installed package."""
    import os
    import subprocess
    import sys

    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": tempfile.mkdtemp()}
    return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True, env=environment)
