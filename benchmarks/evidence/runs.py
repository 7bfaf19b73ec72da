"""What every question shares: runs are recorded when they end, not done again later, and reported with their spread."""

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
from benchmarks.harness import RESULTS, Row, options, save
from benchmarks.l2rw import DATA

# What a record says beside its run's setting: the figures, and what they were made with. A question whose figures depend on
# more than its code names that too: another version of cleanlab, or other texts, are not another run.
MADE_WITH = ("cleanlab", "text", "texts")
BESIDE = ("found", "of", "commit", "cpu", "versions", "cpu seconds", *MADE_WITH)
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
    parser.add_argument("--runs", type=Path, default=Path("evidence-runs"), help="where scores and new runs are kept")
    parser.add_argument("--seeds", type=int, help="default: as many as the question is answered with, 5 or 3")
    parser.add_argument("--from-seed", type=int, default=0, help="begin there, so that processes share the seeds")
    parser.add_argument("--collect", action="store_true", help="train nothing: tell what the finished runs say")
    parser.add_argument("--anew", action="store_true", help="do the runs again that OUT has, too, and replace them")
    parser.add_argument(
        "--repeat",
        nargs="*",
        metavar="KEY=VALUE",
        help="do the recorded runs of this setting again, tell both, and change nothing; alone: which settings there are",
    )
    parser.add_argument("--seed", type=int, help="repeat the runs of this seed alone")
    return parser


def answer(question: Question, given: argparse.Namespace) -> None:
    """Do the runs that are missing, then write the table, the figure and all runs into OUT/evidence, or `--repeat` some."""
    torch.set_num_threads(1)
    file, folder = given.runs / ("quick" if given.quick else "") / f"{question.name}.jsonl", results(given)
    kept = recorded(folder / f"{question.name}.jsonl")
    if given.repeat is not None:
        from benchmarks.evidence.repeat import repeat  # which is built on this file

        repeat(question, given, kept)
        return
    if not given.collect:
        _run_missing(question, given, file, [] if given.anew else kept)
    records = whole(together([] if given.anew else kept, recorded(file)))
    if not records or (records == kept and not given.collect):
        told = "nothing is missing" if records else f"no seed is complete in {file}"
        Console().print(f"{question.name}: {told}", soft_wrap=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{question.name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    told = {"quick": given.quick, "seeds": len(seeds_of(records)), "runs at commits": commits(records)}
    how = argparse.Namespace(**told, out=folder.parent)
    save(f"evidence/{question.name}", question.table(records), how, question.about)
    question.figure(records, folder / f"{question.name}.png")


def results(given: argparse.Namespace) -> Path:
    """The folder of the results. Quick ones never replace those that the project keeps."""
    out: Path = given.runs / "quick" if given.quick and given.out == RESULTS else given.out
    return out / "evidence"


def _run_missing(question: Question, given: argparse.Namespace, file: Path, kept: Records) -> None:
    data, where = question.data(given), made_here()
    seeds = 2 if given.quick else (given.seeds or question.seeds)
    folder = file.parent / question.name
    folder.mkdir(parents=True, exist_ok=True)
    known = together(kept, recorded(file))
    done = [setting_of(record) for record in known]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        for seed in range(given.from_seed, seeds):  # the outer loop: whenever it is cut off, some seeds are whole
            runs = list(question.runs(trial(question, seed, data, folder, given.quick)))
            for setting, run in progress.track(runs, description=f"{question.name}, seed {seed + 1} of {seeds}"):
                if setting_of(setting | {"seed": seed}) in done:
                    continue
                same_material(question, setting, [r for r in known if r["seed"] == seed])
                start = time.process_time()
                record = {"seed": seed, **setting, "found": run(), "of": len(runs), **where}
                record["cpu seconds"] = round(time.process_time() - start, 2)
                with file.open("a") as out:
                    out.write(json.dumps(record) + "\n")
                progress.console.print(f"{question.name} {record}", highlight=False, soft_wrap=True)


def same_material(question: Question, setting: Row, known: Records) -> None:
    """Raises SystemExit if other runs of the seed were made with other texts, or with another cleanlab, than this one would be."""
    for key in set(MADE_WITH) & setting.keys():
        if others := {r[key] for r in known if r.get(key) != setting[key]}:
            told = f"{question.name}: {key} is {setting[key]!r} here, and {others.pop()!r} in the seed's other runs"
            raise SystemExit(f"{told}: install that, or do all runs by --anew in another folder of --runs.")


def trial(question: Question, seed: int, data: Any, folder: Path, quick: bool) -> Trial:
    """The trial of a seed, shorter if it is quick."""
    return Trial(seed, data, folder, quick, 3 if quick else question.epochs, question.width)


def made_here() -> Row:
    """What a run that is made here and now says of it: commit, processor, and the versions that its figures depend on."""
    here = machine()
    versions = {"python": here["python"], **{name: here["versions"][name] for name in ("numpy", "torch")}}
    return {"commit": here["commit"], "cpu": here["cpu"], "versions": versions}


def setting_of(record: Row) -> Row:
    """What makes a run: its seed, and what it differs by from the seed's other runs."""
    return {k: v for k, v in record.items() if k not in BESIDE}


def recorded(file: Path) -> list[Row]:
    """The runs that `file` holds so far."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def together(kept: Records, later: Records) -> list[Row]:
    """The runs of both, each once; of a run in both, what was found later."""
    return list({json.dumps(setting_of(r), sort_keys=True): r for r in (*kept, *later)}.values())


def whole(records: Records) -> list[Row]:
    """The records of the seeds that have all their runs: as many as the latest of them were among."""
    mine = {seed: [r["of"] for r in records if r["seed"] == seed] for seed in seeds_of(records)}
    return [r for r in records if len(mine[r["seed"]]) == max(mine[r["seed"]])]


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
