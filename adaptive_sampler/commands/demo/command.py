"""Runs the whole demo: every seed with a progress bar, then the table, the verdicts, the figure and where files are."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from adaptive_sampler import ScoreStore
from adaptive_sampler.commands.demo import figure, outcome, show
from adaptive_sampler.commands.demo.data import Name, load
from adaptive_sampler.commands.demo.experiments import WRONG_SHARE, Result, Trial
from adaptive_sampler.report import html
from adaptive_sampler.selection import Prune

_RESULTS = 11  # results per seed, for the progress bar


@dataclass(frozen=True)
class DemoSettings:
    """The command's options. None stands for the default of the data set."""

    data: Name = "digits"
    data_dir: Path | None = None
    output: Path = Path("demo-output")
    seeds: int = 6
    epochs: int | None = None
    samples: int | None = None

    def quick(self) -> Self:
        """The smallest size, for tests."""
        return dataclasses.replace(self, seeds=2, epochs=3, samples=200)

    def trial(self, seed: int) -> Trial:
        """The data and settings of one seed."""
        digits = self.data == "digits"
        split = load(self.data, self.data_dir, self.samples or (None if digits else 6000), seed)
        return Trial(split, seed, self.epochs or (30 if digits else 15), self.output / f"seed-{seed}")


def run(settings: DemoSettings, console: Console) -> list[Result]:
    """Run the demo, print what it shows, and write stores, results, figure and page into `settings.output`."""
    settings.trial(0)  # raises if the data is missing, before anything is written
    settings.output.mkdir(parents=True, exist_ok=True)
    results = _train(settings, console)
    trials = [settings.trial(seed) for seed in range(settings.seeds)]
    found = [trial.wrong_at_top() for trial in trials]
    (settings.output / "results.json").write_text(json.dumps([dataclasses.asdict(r) for r in results], indent=1))
    offset = next(r.choice for r in results if "window" in r.method and r.seed == 0)
    assert offset is not None
    figure.draw(settings.output / "demo.png", trials[0], offset, outcome.lines(results))
    _look(trials[0], page(settings.output))
    show.outcome(console, settings.output, trials[0], results, found, page(settings.output))
    return results


def page(output: Path) -> Path:
    """Where the page of the demo's store is."""
    return output / "report.html"


def _look(trial: Trial, path: Path) -> None:
    """Write the page of the store that the first seed kept while it trained on everything, wrong labels among it.

    The plan that it shows leaves as many rows out as have wrong labels, those with the lowest margins.
    """
    noisy = trial.noisy
    with ScoreStore.open(trial.folder / "wrong-labels-data-map", mode="r") as store:
        plan = Prune(1 - WRONG_SHARE, "margin").plan(store, epoch=trial.epochs, seed=trial.seed)
        labels = np.array(trial.data.names)[noisy.labels]
        title = f"The demo's training samples, {WRONG_SHARE:.0%} of their labels wrong"
        html(store, path, dataset=noisy.images, plan=plan, labels=labels, title=title)


def _train(settings: DemoSettings, console: Console) -> list[Result]:
    results: list[Result] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("loading", total=settings.seeds * _RESULTS)
        for seed in range(settings.seeds):
            progress.update(task, description=f"seed {seed + 1} of {settings.seeds}")
            for result in settings.trial(seed).run():
                results.append(result)
                progress.update(task, advance=1, description=f"seed {seed + 1} of {settings.seeds}: {result.question}")
    return results
