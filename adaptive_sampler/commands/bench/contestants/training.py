"""What a user waits for besides the sampler: the hook in a training step, a loader's epoch, the import."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from adaptive_sampler.commands.bench.base import BATCH, Turn
from adaptive_sampler.commands.bench.data import drain, scored
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.scoring import EL2N, Confidence, Entropy, Forgetting, Loss, Margin
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.store import ScoreStore

# (the imports, a first epoch up to its first batch). For Numba: a call of a function that is compiled and cached.
OURS = (
    """
from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
""",
    """
store = ScoreStore.create(None, 100_000, [Loss()])
next(iter(AdaptiveSampler(store, Prune(0.5, "loss")).batches(256)))
""",
)
TORCHS = (
    """
from torch.utils.data import BatchSampler, RandomSampler
""",
    """
next(iter(BatchSampler(RandomSampler(range(100_000)), 256, False)))
""",
)
NUMBAS = (
    """
import numpy as np
from numba import njit

@njit(cache=True)
def first(values):
    return values[0]
""",
    """
first(np.zeros(1))
""",
)
FIRSTS = {"adaptive_sampler": OURS, "torch": TORCHS, "numba": NUMBAS}


@cache
def _network() -> tuple[Any, Any, Any, Any]:
    """A small conv net, its optimizer, images and labels, shared by the contestants with and without the hook.

    With two networks, their places in memory would make more of a difference than the hook.
    """
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 64, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    return model, optimizer, torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))


def step(n: int, hooked: bool) -> Turn:
    """A training step of a small conv net on the CPU, with the loss hook or without it."""
    import torch
    from torch import nn

    from adaptive_sampler.torch import LossHook

    model, optimizer, images, labels = _network()
    store = ScoreStore.create(None, n, [EL2N(), Forgetting(), Loss(), Margin(), Confidence(), Entropy()])
    criterion: Any = LossHook(nn.CrossEntropyLoss(), store) if hooked else nn.CrossEntropyLoss()
    rows = torch.randperm(n)[:BATCH]

    def turn() -> None:
        logits = model(images)
        loss = criterion(logits, labels, rows=rows) if hooked else criterion(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return turn


def loader_epoch(n: int, whose: str) -> Turn:
    """An epoch of a DataLoader over an in-memory data set that fetches a whole batch at once.

    `whose`: batches from our "arrays" or "lists", from "torch"'s sampler, or from lists "made before". The last cost
    nothing, and so show what the rest of the loader takes.
    """
    import torch
    from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

    class InMemory(Dataset[torch.Tensor]):
        def __init__(self) -> None:
            self.data = torch.randn(n, 16)

        def __len__(self) -> int:
            return n

        def __getitems__(self, indices: Any) -> torch.Tensor:
            return self.data[indices]

    batches: Any = BatchSampler(RandomSampler(range(n)), BATCH, False)
    if whose in ("arrays", "lists"):
        batches = AdaptiveSampler(scored(n), KeepAll()).batches(BATCH, arrays=whose == "arrays")
    if whose == "made before":
        batches = list(batches)
    loader: Any = DataLoader(InMemory(), batch_sampler=batches, collate_fn=_as_it_is)
    return lambda: drain(loader)


def imported(_: int, module: str) -> Turn:
    """The import of a module, in a fresh interpreter."""
    return _interpreter(f"import {module}")


def first_epoch(_: int, package: str, imported: bool) -> Turn:
    """The first batch of a first epoch of 100,000 rows, in a fresh interpreter. `imported`: timed without the imports."""
    imports, epoch = FIRSTS[package]
    if not imported:
        return _interpreter(imports + epoch)
    clock = "import time\nstart = time.perf_counter()", "print(time.perf_counter() - start)"
    run = _interpreter(imports + clock[0] + epoch + clock[1])
    return lambda: float(run())


def _interpreter(code: str) -> Callable[[], str]:
    """A function that runs `code` in a fresh interpreter, and returns what it prints.

    From the second call on, the bytecode and the compiled kernels are in a cache, as with an installed package.
    """
    folder = Path(tempfile.mkdtemp())
    (folder / "first.py").write_text(code)  # Numba caches only functions that are in a file
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(folder)!r}); import first"]
    return lambda: subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout


def _as_it_is(batch: Any) -> Any:
    return batch
