"""Data Diet at half, trained three times as long: is half of the steps too few, or half of the images?

Eight epochs of half of the data are few steps, and a network that has not had enough of them loses by having fewer,
whatever they are spent on. The scores are those of the Data Diet's own question, from trainings of eight epochs.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N
from benchmarks.evidence.data_diet import scores, selecting, tested
from benchmarks.evidence.runs import Question, Records, Run, Trial, colours, draw, shown, spread, values, verdict
from benchmarks.evidence.training import EPOCHS as SHORT
from benchmarks.evidence.training import score_early
from benchmarks.harness import Row

EPOCHS, KEEP = 24, 0.5
SCORES = ("random", "el2n", "margin")
ABOUT = (
    f"Test accuracy in % after {EPOCHS} epochs of the wide network on everything, or on half of the 60,000: half of the "
    f"steps. Mean ± standard error. Scores are from trainings of {SHORT} epochs."
)


def runs(trial: Trial) -> Iterator[Run]:
    """Everything, then half by each score."""

    @cache
    def store(name: str) -> ScoreStore:
        return trial.scored(name, partial(whole if name == "margin" else early, trial))

    yield {"by": "full"}, lambda: tested(trial, trial.everything(len(trial.data.train)))
    for by in SCORES:
        yield {"by": by}, lambda by=by: tested(trial, selecting(trial, store(by), by, KEEP, "epochs"))


def early(trial: Trial, path: Path) -> ScoreStore:
    """EL2N of three young networks; a random half needs a store too, and takes no notice of its scores."""
    data = trial.data.train
    store = ScoreStore.create(path, len(data), [EL2N()], overwrite=True)
    score_early(data, store, partial(trial.everything, len(data)), seed=trial.seed, width=trial.width)
    return store


def whole(trial: Trial, path: Path) -> ScoreStore:
    """The margins of whole trainings, which are as long as the Data Diet's."""
    return scores(replace(trial, epochs=min(SHORT, trial.epochs)), True, path)


def table(records: Records) -> list[Row]:
    """A row for each way to choose."""
    full = values(records, by="full")
    rows: list[Row] = [{"trained on": "everything", "accuracy": shown(full), "against everything": ""}]
    for by in SCORES:
        found = values(records, by=by)
        name = f"half, {by}"
        rows.append(
            {"trained on": name, "accuracy": shown(found), "against everything": shown(found - full, signed=True)}
        )
    return rows


def findings(records: Records) -> list[str]:
    """The issue's expectations of half the steps, with more of them."""
    full, random = values(records, by="full"), values(records, by="random")
    said = []
    for by, name in (("el2n", "EL2N"), ("margin", "margin")):
        found = values(records, by=by)
        said.append(
            verdict(f"{EPOCHS} epochs: half by {name} with half the steps, no worse than everything", found - full, 0)
        )
        said.append(verdict(f"{EPOCHS} epochs: half by {name} ahead of a random half by 1 point", found - random, 1))
    return said


def figure(records: Records, file: Path) -> None:
    """A point for each way to choose, and a line for everything."""

    def lines(axes: Any) -> None:
        mean, error = spread(100 - values(records, by="full"))
        axes.axhspan(mean - error, mean + error, color="#bbbbbb", label="everything")
        for place, (by, colour) in enumerate(zip(SCORES, colours(), strict=False)):
            y, dy = spread(100 - values(records, by=by))
            axes.errorbar(place, y, dy, color=colour, marker="o", capsize=4, linestyle="none")
        axes.set_xticks(np.arange(len(SCORES)), SCORES)
        axes.set(xlabel="half of the data, by", ylabel="test error in %", xlim=(-0.5, len(SCORES) - 0.5))
        axes.legend(fontsize=8)

    draw(file, lines)


QUESTION = Question(
    "diet_longer", "Data Diet at half, trained longer", ABOUT, runs, table, findings, figure, epochs=EPOCHS, width=2
)

if __name__ == "__main__":
    QUESTION.main()
