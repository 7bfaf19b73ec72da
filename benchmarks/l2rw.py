"""L2RW end to end on Fashion-MNIST: two unbalanced classes with ten clean images, and 40 % wrong labels.

The protocol is that of the paper (Ren et al. 2018, section 4.1), which uses MNIST: 5,000 training images of two
classes, batches of 100, and ten clean images, which are five images of each class among the 5,000. Every run is appended
to OUT/l2rw.jsonl, and a run that is already there is not repeated. l2rw.md, l2rw.json and l2rw.png are made from it.
"""

import argparse
import gzip
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler import ScoreStore, scoring
from adaptive_sampler.commands.bench.base import Row
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch import IndexedDataset, L2RWLoss, L2RWSampler
from adaptive_sampler.torch.gradients.functional import cross_entropy
from benchmarks.harness import options, save

ABOUT = (
    "Fashion-MNIST, 5,000 training images: coats against pullovers with the given share of coats and ten clean images, or "
    "ten classes with 40 % wrong labels and a hundred clean images. Error on the balanced test set in %, mean ± standard "
    "deviation over the seeds."
)
DATA = os.environ.get("ADAPTIVE_SAMPLER_FASHION_MNIST", "/usr/share/datasets/fashion-mnist")
RATIOS = (0.9, 0.95, 0.98, 0.99, 0.995)
PAIR = (4, 2)  # class numbers: coats are common, pullovers are rare; the two are often confused
SAMPLES, BATCH, NOISE = 5000, 100, 0.4
METHODS = ("plain", "class-balanced", "L2RW loss", "L2RWSampler", "clean only")

Data = dict[str, Tensor]


def read(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, 28, 28) uint8 images and (n,) uint8 labels of "train" or "t10k". Raises SystemExit if a file is missing."""
    files = [folder / f"{part}-images-idx3-ubyte.gz", folder / f"{part}-labels-idx1-ubyte.gz"]
    for file in files:
        if not file.exists():
            raise SystemExit(
                f"{file} is missing. On Debian: apt-get install dataset-fashion-mnist (it goes to /usr/share/datasets/"
                "fashion-mnist); elsewhere get the four .gz files of github.com/zalandoresearch/fashion-mnist and name "
                "their folder by --data-dir or ADAPTIVE_SAMPLER_FASHION_MNIST."
            )
    images, labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
    return images[16:].reshape(-1, 28, 28), labels[8:]


def as_tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """(n, 1, 28, 28) float32 images, about centred and of about unit variance, and (n,) int64 labels."""
    return torch.from_numpy((images[:, None] / np.float32(255) - 0.286) / 0.353), torch.from_numpy(
        labels.astype(np.int64)
    )


def unbalanced(folder: Path, ratio: float, seed: int) -> Data:
    """5,000 images of two classes, a share `ratio` of them of the first; the clean set is five images of each class."""
    rng = np.random.default_rng([seed, round(ratio * 1000)])
    images, labels = read(folder, "train")
    common = round(SAMPLES * ratio)
    rows = [
        rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(PAIR, (common, SAMPLES - common), strict=True)
    ]
    clean = np.concatenate([r[:5] for r in rows])
    held = read(folder, "t10k")
    tested = np.isin(held[1], PAIR)
    return _data(
        images, np.equal(labels, PAIR[1]), np.concatenate(rows), clean, held[0][tested], held[1][tested] == PAIR[1]
    )


def noisy(folder: Path, seed: int) -> Data:
    """5,000 images of ten classes, 40 % of the labels replaced uniformly; the clean set is ten images of each class."""
    rng = np.random.default_rng([seed, 1])
    images, labels = read(folder, "train")
    rows = rng.permutation(len(labels))[:SAMPLES]
    clean = np.concatenate([rows[labels[rows] == c][:10] for c in range(10)])
    wrong = np.setdiff1d(rows, clean)
    wrong = rng.permutation(wrong)[: round(NOISE * SAMPLES)]
    given = labels.copy()
    given[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
    return _data(images, given, rows, clean, *read(folder, "t10k"))


def _data(
    images: np.ndarray, labels: np.ndarray, rows: np.ndarray, clean: np.ndarray, test: np.ndarray, truth: np.ndarray
) -> Data:
    parts = {"train": (images[rows], labels[rows]), "clean": (images[clean], labels[clean]), "test": (test, truth)}
    return {
        f"{name} {kind}": t
        for name, part in parts.items()
        for kind, t in zip(("x", "y"), as_tensors(*part), strict=True)
    }


def small_net(classes: int, seed: int) -> nn.Module:
    """Two strided convolutions and two linear layers, 46,000 parameters."""
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, classes)),
    )


def batches(data: Data, balanced: bool, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches without end: each epoch in a new order, or with every class drawn equally often."""
    generator, labels = torch.Generator().manual_seed(seed), data["train y"]
    while True:
        if balanced:
            weights = 1 / torch.bincount(labels)[labels].double()
            order = torch.multinomial(weights, SAMPLES, replacement=True, generator=generator)
        else:
            order = torch.randperm(SAMPLES, generator=generator)
        for rows in order.split(BATCH):
            yield data["train x"][rows], labels[rows]


def losses(method: str, model: nn.Module, data: Data, seed: int, stack: list[Any]) -> Iterator[Tensor]:
    """Yield the loss of each training step, ready for backward. Appends stores that the caller must close to `stack`."""
    clean = [(data["clean x"], data["clean y"])]
    if method == "L2RWSampler":
        store = ScoreStore.create(None, SAMPLES, [scoring.L2RW()])
        stack.append(store)
        sampler, criterion = L2RWSampler(store, seed=seed), L2RWLoss(model, clean, store)
        loader = DataLoader(
            IndexedDataset(TensorDataset(data["train x"], data["train y"]), store), batch_size=BATCH, sampler=sampler
        )
        while True:
            for inputs, labels in criterion.watch(loader):
                criterion.weights(inputs, labels)  # stored for the next epochs' draw; the loss of this step is plain
                yield cross_entropy(model(inputs), labels).mean()
    weighted = L2RWLoss(model, clean)
    for inputs, labels in batches(data, method == "class-balanced", seed):
        if method == "clean only":
            inputs, labels = clean[0]
        yield weighted(inputs, labels) if method == "L2RW loss" else cross_entropy(model(inputs), labels).mean()


def test_error(model: nn.Module, data: Data) -> float:
    """The share of wrong predictions on the test set, which is balanced: 0 to 1."""
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in data["test x"].split(500)])
    return float((predicted != data["test y"]).float().mean())


def run(method: str, data: Data, classes: int, seed: int, steps: int) -> dict[str, Any]:
    """Train and test one model -> its test error, the seconds, and whether it met gradients that are not finite."""
    model, stack = small_net(classes, seed), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    start = time.perf_counter()
    diverged = False
    try:
        for _, loss in zip(range(steps), losses(method, model, data, seed, stack), strict=False):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    except InvalidValue:  # gradients are not finite: the run ends, and counts with the model as it is now
        diverged = True
    for store in stack:
        store.close()
    return {"error": test_error(model, data), "seconds": time.perf_counter() - start, "diverged": diverged}


def all_runs(arguments: argparse.Namespace) -> None:
    """Do every run that OUT/l2rw.jsonl does not hold yet. Seeds are the outer loop: a part of the runs is a table too."""
    file = arguments.out / "l2rw.jsonl"
    done = {(r["task"], r["method"], r["seed"], r["steps"]) for r in recorded(file)}
    tasks: dict[str, Callable[[int], Data]] = {}
    if arguments.only != "noise":
        tasks |= {f"{r}": lambda seed, r=r: unbalanced(arguments.data_dir, r, seed) for r in RATIOS}  # type: ignore[misc]  # a lambda with a default
    if arguments.only != "imbalance":
        tasks["noise"] = lambda seed: noisy(arguments.data_dir, seed)
    for seed in range(arguments.seeds):
        for task, make in tasks.items():
            data = None
            for method in METHODS:
                if (task, method, seed, arguments.steps) in done:
                    continue
                data = data or make(seed)
                found = run(method, data, 10 if task == "noise" else 2, seed, arguments.steps)
                record = {"task": task, "method": method, "seed": seed, "steps": arguments.steps, **found}
                with file.open("a") as out:
                    out.write(json.dumps(record) + "\n")
                print(record, flush=True)


def recorded(file: Path) -> list[dict[str, Any]]:
    """The runs that `file` holds so far."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def table(runs: list[dict[str, Any]]) -> list[Row]:
    """A row for each method, a column for each task: error in %, mean ± standard deviation over seeds."""
    tasks = [t for t in (*map(str, RATIOS), "noise") if any(r["task"] == t for r in runs)]
    rows: list[Row] = []
    for method in METHODS:
        row: Row = {"method": method}
        for task in tasks:
            found = 100 * np.array([r["error"] for r in runs if (r["task"], r["method"]) == (task, method)])
            row[task] = f"{found.mean():.1f} ± {found.std(ddof=1):.1f} ({len(found)})" if len(found) > 1 else "–"
        taken = [1e3 * r["seconds"] / r["steps"] for r in runs if r["method"] == method]
        lost = sum(r.get("diverged", False) for r in runs if r["method"] == method)
        rows.append(row | {"diverged": lost, "ms a step": float(np.median(taken))})
    return rows


def figure(runs: list[dict[str, Any]], file: Path) -> None:
    """Draw the test error against the imbalance: a line for each method, with bars of one standard deviation."""
    import matplotlib.pyplot as plt

    axes = plt.figure(figsize=(6, 4)).gca()
    for method in METHODS:
        columns = [[100 * r["error"] for r in runs if (r["task"], r["method"]) == (str(t), method)] for t in RATIOS]
        kept = [(t, np.mean(c), np.std(c, ddof=1)) for t, c in zip(RATIOS, columns, strict=True) if len(c) > 1]
        if kept:
            places, means, spreads = zip(*kept, strict=True)
            axes.errorbar([str(p) for p in places], means, spreads, marker="o", capsize=3, label=method)
    axes.set_xlabel("share of the common class among 5,000 training images")
    axes.set_ylabel("test error in % (balanced)")
    axes.legend(loc="lower right", fontsize=8)
    plt.tight_layout()
    plt.savefig(file, dpi=120)


def main() -> None:
    """Run what is missing, then write the table and the figure."""
    parser = options(ABOUT)
    parser.add_argument("--data-dir", type=Path, default=Path(DATA))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--only", choices=["imbalance", "noise"])
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.steps = 2, 2
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    all_runs(arguments)
    runs = [r for r in recorded(arguments.out / "l2rw.jsonl") if r["steps"] == arguments.steps]
    save("l2rw", table(runs), arguments, ABOUT)
    figure(runs, arguments.out / "l2rw.png")


if __name__ == "__main__":
    main()
