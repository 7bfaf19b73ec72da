"""What every question shares: runs are recorded when they end, not repeated later, and reported with their spread."""

import argparse
import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.commands.bench.result import machine
from adaptive_sampler.errors import StoreDamaged
from adaptive_sampler.scoring import Loss, Score
from adaptive_sampler.scoring.folds import Last
from adaptive_sampler.selection import Draw, KeepAll, RandomPrune
from benchmarks.evidence.training import EPOCHS, Data, load, made_up, some
from benchmarks.harness import Row, options, save
from benchmarks.l2rw import DATA

Records = Sequence[Row]
Run = tuple[Row, Callable[[], Row]]  # (the run's setting, unique within its seed; a function that returns its figures)


@dataclass(frozen=True)
class Trial:
    """One seed of a question: its data, a folder for its stores, how long a training is, and how wide the network."""

    seed: int
    data: Any  # `Data`, unless the question has data of its own
    folder: Path
    quick: bool = False
    epochs: int = EPOCHS
    width: int = 1  # of the network

    def held_out(self) -> tuple[Any, Any]:
        """The data to train on, and the twelfth of it that the seed holds out."""
        found: tuple[Any, Any] = self.data.held_out(len(self.data.train) // 12, self.seed)
        return found

    def some(self, number: int) -> tuple[Any, Any]:
        """`number` of the data to train on, other ones for each seed, and what the seed holds out."""
        rest, held = self.held_out()
        return some(rest, number, self.seed), held

    def at_random(self, n: int, keep: float) -> AdaptiveSampler:
        """A sampler of a random share of `n` rows, the same one in each epoch."""
        return AdaptiveSampler(self.everything(n).store, RandomPrune(keep), seed=self.seed, replan="once")

    def everything(self, n: int, seed: int | None = None) -> AdaptiveSampler:
        """A sampler of all of `n` rows, in the order of `seed` (the trial's own if not given)."""
        store = ScoreStore.create(None, n, [Loss()])
        return AdaptiveSampler(store, KeepAll(), seed=self.seed if seed is None else seed)

    def equally(self, kinds: torch.Tensor) -> AdaptiveSampler:
        """A sampler that draws every kind equally often, with replacement, n samples an epoch. kinds: (n,) int64."""
        store = ScoreStore.create(None, len(kinds), [Score("rarity", lambda rarity: rarity, Last())])
        store.update(np.arange(len(kinds)), rarity=1 / torch.bincount(kinds)[kinds])
        return AdaptiveSampler(store, Draw("rarity", len(kinds)), seed=self.seed)

    def planned(
        self, store: ScoreStore, policy: Any, *, seed: int | None = None, length: int | None = None
    ) -> AdaptiveSampler:
        """A sampler of one plan, by the trial's seed if no other is given. An epoch is as long as all rows, or has `length`."""
        seed = self.seed if seed is None else seed
        return AdaptiveSampler(store, policy, seed=seed, replan="once", num_samples=length or len(store))

    def scored(self, name: str, make: Callable[[Path], ScoreStore]) -> ScoreStore:
        """The store `name` of this seed, opened read-only. `make(path)` makes it if no earlier run has finished it."""
        path = self.folder / f"{name}-{self.seed}.zarr"
        if not _finished(path):
            with make(path) as store:
                store.commit("scored")
        return ScoreStore.open(path, mode="r")


def _finished(path: Path) -> bool:
    """Whether a run has finished the store at `path`; no store is there, or a torn one, where a run was killed as it made it."""
    try:
        return any(version.note == "scored" for version in ScoreStore.open(path, mode="r").versions())
    except StoreDamaged:
        return False


def images(given: argparse.Namespace) -> Data:
    """Fashion-MNIST, or for `--quick` images that are made up."""
    return made_up() if given.quick else load(given.data_dir)


@dataclass(frozen=True)
class Question:
    """A question: its runs, and how to report what they found.

    `runs(trial)`: the runs of one seed. `table`, `findings` and `figure` get the records of all complete seeds.
    """

    name: str
    title: str
    about: str
    runs: Callable[[Trial], Iterator[Run]]
    table: Callable[[Records], list[Row]]
    findings: Callable[[Records], list[str]]
    figure: Callable[[Records, Path], None]
    epochs: int = EPOCHS
    width: int = 1
    why: str = ""  # the best explanation of expectations that were not met
    seeds: int = 5
    data: Callable[[argparse.Namespace], Any] = images  # what its trials train on and are tested on

    def main(self) -> None:
        """The command line of a question's file."""
        answer(self, arguments(self.about).parse_args())


def arguments(about: str) -> argparse.ArgumentParser:
    """The options that every question has."""
    parser = options(about)
    parser.add_argument("--data-dir", type=Path, default=Path(DATA), help="the folder of Fashion-MNIST's four files")
    parser.add_argument(
        "--runs", type=Path, default=Path("evidence-runs"), help="where runs are kept, and resumed from"
    )
    parser.add_argument("--seeds", type=int, help="default: as many as the question is answered with, 5 or 3")
    parser.add_argument("--from-seed", type=int, default=0, help="begin there, so that processes share the seeds")
    parser.add_argument("--collect", action="store_true", help="train nothing: tell what the finished runs say")
    return parser


def answer(question: Question, given: argparse.Namespace) -> None:
    """Do the missing runs, then write the table, the figure and the runs themselves into OUT/evidence."""
    torch.set_num_threads(1)
    file = given.runs / ("quick" if given.quick else "") / f"{question.name}.jsonl"
    if not given.collect:
        _run_missing(question, given, file)
    records = whole(recorded(file))
    if not records:
        Console().print(f"{question.name}: no seed is complete in {file}")
        return
    folder = given.out / "evidence"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{question.name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    told = {"quick": given.quick, "seeds": len(seeds_of(records)), "runs at commits": commits(records)}
    save(
        f"evidence/{question.name}", question.table(records), argparse.Namespace(**told, out=given.out), question.about
    )
    question.figure(records, folder / f"{question.name}.png")


def _run_missing(question: Question, given: argparse.Namespace, file: Path) -> None:
    data, here = question.data(given), machine()
    where = {"commit": here["commit"], "cpu": here["cpu"]}
    seeds, epochs = (2, 3) if given.quick else (given.seeds or question.seeds, question.epochs)
    folder = file.parent / question.name
    folder.mkdir(parents=True, exist_ok=True)
    done = [_setting(record) for record in recorded(file)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        for seed in range(
            given.from_seed, seeds
        ):  # the outer loop, so that the runs at any time give a fair table of fewer seeds
            runs = list(question.runs(Trial(seed, data, folder, given.quick, epochs, question.width)))
            for setting, run in progress.track(runs, description=f"{question.name}, seed {seed + 1} of {seeds}"):
                if setting | {"seed": seed} in done:
                    continue
                start = time.process_time()
                record = {"seed": seed, **setting, "found": run(), "of": len(runs), **where}
                record["cpu seconds"] = round(time.process_time() - start, 2)
                with file.open("a") as out:
                    out.write(json.dumps(record) + "\n")
                progress.console.print(f"{question.name} {record}", highlight=False, soft_wrap=True)


def _setting(record: Row) -> Row:
    return {k: v for k, v in record.items() if k not in ("found", "of", "commit", "cpu", "cpu seconds")}


def recorded(file: Path) -> list[Row]:
    """The runs that `file` holds so far."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def whole(records: Records) -> list[Row]:
    """The records of the seeds that have all their runs."""
    counts = {seed: sum(r["seed"] == seed for r in records) for seed in seeds_of(records)}
    return [r for r in records if counts[r["seed"]] == r["of"]]


def seeds_of(records: Records) -> list[int]:
    """The seeds there are, ascending."""
    return sorted({r["seed"] for r in records})


def commits(records: Records) -> list[str]:
    """The commits at which the runs were made, with the processor if it was recorded."""
    return sorted({r["commit"] + (f" on {r['cpu']}" if "cpu" in r else "") for r in records})


def values(records: Records, key: str = "accuracy", **setting: object) -> np.ndarray:
    """(seeds,) the figure `key` of the run with this setting, in the order of the seeds."""
    found = {r["seed"]: r["found"][key] for r in records if all(r.get(k) == v for k, v in setting.items())}
    return np.array([found[seed] for seed in sorted(found)])


def best_of_each_seed(records: Records, key: str = "validation") -> list[Row]:
    """For each seed, the run with the highest figure `key`: the accuracy on the held-out images, or another one on these."""
    by_seed = [[r for r in records if r["seed"] == seed] for seed in seeds_of(records)]
    return [max(of_seed, key=lambda r: r["found"][key]) for of_seed in by_seed]


def counted(names: Iterable[str]) -> str:
    """What was chosen and how many times, the most frequent first; a dash if there was nothing to choose."""
    return "; ".join(f"{name} ({times})" for name, times in Counter(names).most_common() if name) or "–"


def spread(figures: np.ndarray) -> tuple[float, float]:
    """(seeds,) figures -> their mean, and the standard error of the mean (0 for a single seed)."""
    error = figures.std(ddof=1) / np.sqrt(len(figures)) if len(figures) > 1 else 0.0
    return float(figures.mean()), float(error)


def shown(figures: np.ndarray, signed: bool = False, digits: int = 2) -> str:
    """Mean ± standard error, as text; for a single seed the figure alone."""
    mean, error = spread(figures)
    told = f"{mean:{'+' if signed else ''}.{digits}f}"
    return f"{told} ± {error:.{digits}f}" if len(figures) > 1 else f"{told} (one seed)"


def verdict(expected: str, differences: np.ndarray, least: float, unit: str = "points", digits: int = 2) -> str:
    """A sentence: what was expected, what was measured, and whether the mean over the seeds is at least `least`."""
    met = "met" if spread(differences)[0] >= least else "not met"
    return f"{expected}: measured {shown(differences, True, digits)} {unit} over {len(differences)} seeds: {met}."


@functools.cache
def colours() -> list[str]:
    """Colours that colour-blind readers can tell apart too (Okabe and Ito)."""
    return ["#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#888888"]


def draw(file: Path, lines: Callable[..., None], width: float = 6, panels: int = 1) -> None:
    """Write a figure of `panels` panels side by side, which `lines(*axes)` draws."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, 4.2), layout="constrained")
    lines(*figure.subplots(1, panels, squeeze=False)[0])
    figure.savefig(file, dpi=120)
