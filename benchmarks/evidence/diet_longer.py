"""Data Diet at half, trained twice as long: are half of the steps too few, or are the hardest images the wrong ones?

Eight epochs of half of the data are few steps, and a network that has not had enough of them loses by having fewer,
whatever they are spent on. The scores are those of the Data Diet's own question, from trainings of eight epochs.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import EL2N
from adaptive_sampler.selection import RandomPrune
from adaptive_sampler.torch import SlidingWindowSampler
from benchmarks.evidence.data_diet import tested
from benchmarks.evidence.runs import Question, Records, Run, Trial, colours, draw, shown, spread, values, verdict
from benchmarks.evidence.training import EPOCHS as SHORT
from benchmarks.evidence.training import score_early
from benchmarks.harness import Row

EPOCHS, KEEP, TOP = 16, 0.5, 0.02
LEFT_OUT = {"random": None, "el2n": 0.0, f"el2n below the top {TOP:.0%}": TOP}  # the share above the half that is kept
ABOUT = (
    f"Test accuracy in % after {EPOCHS} epochs of the wide network on everything, or on half of the 60,000: half of the "
    f"steps. Mean ± standard error. EL2N is of networks two epochs into trainings of {SHORT}."
)


def runs(trial: Trial) -> Iterator[Run]:
    """Everything, then each half."""
    yield {"by": "full"}, lambda: tested(trial, trial.everything(len(trial.data.train)))
    for by, left_out in LEFT_OUT.items():
        yield {"by": by}, lambda left_out=left_out: tested(trial, half(trial, left_out))


def half(trial: Trial, left_out: float | None) -> AdaptiveSampler:
    """The sampler of the half below the `left_out` hardest; None: of a random half."""
    store = trial.scored("early", partial(early, trial))
    if left_out is None:
        return AdaptiveSampler(store, RandomPrune(KEEP), seed=trial.seed, replan="once")
    return SlidingWindowSampler(store, keep=KEEP, offset=1 - KEEP - left_out, by="el2n", seed=trial.seed)


def early(trial: Trial, path: Path) -> ScoreStore:
    """EL2N of three young networks."""
    data = trial.data.train
    store = ScoreStore.create(path, len(data), [EL2N()], overwrite=True)
    score_early(data, store, partial(trial.everything, len(data)), seed=trial.seed, width=trial.width)
    return store


def table(records: Records) -> list[Row]:
    """A row for each way to choose."""
    full = values(records, by="full")
    rows: list[Row] = [{"trained on": "everything", "accuracy": shown(full), "against everything": ""}]
    for by in LEFT_OUT:
        found = values(records, by=by)
        against = shown(found - full, signed=True)
        rows.append({"trained on": f"half, {by}", "accuracy": shown(found), "against everything": against})
    return rows


def findings(records: Records) -> list[str]:
    """The issue's expectations of half the steps, with more of them."""
    full, random, el2n = (values(records, by=by) for by in ("full", "random", "el2n"))
    below = values(records, by=list(LEFT_OUT)[-1])
    return [
        verdict(f"{EPOCHS} epochs: half by EL2N with half the steps, no worse than everything", el2n - full, 0),
        verdict(f"{EPOCHS} epochs: half by EL2N ahead of a random half by 1 point", el2n - random, 1),
        f"The half below the hardest {TOP:.0%} is {shown(below - el2n, signed=True)} points from the hardest half.",
    ]


def figure(records: Records, file: Path) -> None:
    """A point for each way to choose, and a band for everything."""

    def lines(axes: Any) -> None:
        mean, error = spread(100 - values(records, by="full"))
        axes.axhspan(mean - error, mean + error, color="#bbbbbb", label="everything")
        for place, (by, colour) in enumerate(zip(LEFT_OUT, colours(), strict=False)):
            y, dy = spread(100 - values(records, by=by))
            axes.errorbar(place, y, dy, color=colour, marker="o", capsize=4, linestyle="none")
        axes.set_xticks(np.arange(len(LEFT_OUT)), list(LEFT_OUT))
        axes.set(xlabel="half of the data, by", ylabel="test error in %", xlim=(-0.5, len(LEFT_OUT) - 0.5))
        axes.legend(fontsize=8)

    draw(file, lines)


QUESTION = Question(
    "diet_longer", "Data Diet at half, trained longer", ABOUT, runs, table, findings, figure, epochs=EPOCHS, width=2
)

if __name__ == "__main__":
    QUESTION.main()
