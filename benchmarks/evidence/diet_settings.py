"""Data Diet at half, trained twice as long: does it need more steps, or a score of longer trainings?

EL2N is either measured after two epochs, as in the paper, or is the mean over every epoch of whole trainings, as a hook
records it. The half is either the hardest one, or the one below the hardest 2 %. 5,000 held-out images choose among the
three combinations.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import EL2N
from adaptive_sampler.selection import RandomPrune
from adaptive_sampler.torch import LossHook, SlidingWindowSampler
from benchmarks.evidence.runs import (
    Question,
    Records,
    Run,
    Trial,
    best_of_each_seed,
    colours,
    draw,
    shown,
    spread,
    values,
    verdict,
)
from benchmarks.evidence.training import EPOCHS as SHORT
from benchmarks.evidence.training import (
    SCORE_EPOCHS,
    SCORE_RUNS,
    Images,
    Training,
    accuracy,
    network,
    score_early,
    train,
)
from benchmarks.harness import Row

EPOCHS, KEEP, TOP = 16, 0.5, 0.02
EARLY, WHOLE = "early", "whole"
HALVES = {
    "EL2N, early": (EARLY, 0.0),
    "EL2N, whole trainings": (WHOLE, 0.0),
    f"EL2N, whole trainings, below the top {TOP:.0%}": (WHOLE, TOP),
}  # (the score, the share of hardest samples that is left out above the half)
RANDOM, CHOSEN, EQUAL = "random", "EL2N, chosen", ("epochs", "steps")
ABOUT = (
    f"Test accuracy in % after {EPOCHS} epochs of the wide network on 55,000 images, or on half of them: with equal epochs in half "
    f"the steps, with equal steps in {2 * EPOCHS} epochs. Mean ± standard error. EL2N is the mean of {SCORE_RUNS} trainings of "
    f"{SHORT} epochs, seen {SCORE_EPOCHS} epochs in or in every epoch. `chosen`: the half that is best on 5,000 held-out images."
)


def runs(trial: Trial) -> Iterator[Run]:
    """Yield the runs of one seed: everything, then each half with half the steps and with all steps."""
    half = Half(trial)
    yield {"by": "full"}, lambda: half.trained(trial.everything(len(half.data)))
    for equal in EQUAL:
        for by in (RANDOM, *HALVES):
            yield {"by": by, "equal": equal}, lambda by=by, equal=equal: half.trained(half.sampler(by, equal))


@dataclass(frozen=True)
class Half:
    """A trial's images, its scores, and the samplers of its halves."""

    trial: Trial

    @cached_property
    def parts(self) -> tuple[Images, Images]:
        """Training and held-out images."""
        return self.trial.held_out()

    @property
    def data(self) -> Images:
        """The images to train on."""
        return self.parts[0]

    def sampler(self, by: str, equal: str) -> AdaptiveSampler:
        """The sampler of a half. `by`: the name of the half; `equal`: "epochs" or "steps"."""
        kind, left_out = HALVES.get(by, (EARLY, 0.0))
        store = self.trial.scored(kind, partial(self._scored, kind))
        fixed: dict[str, Any] = {"seed": self.trial.seed, "num_samples": len(store) if equal == "steps" else None}
        if by == RANDOM:
            return AdaptiveSampler(store, RandomPrune(KEEP), replan="once", **fixed)
        return SlidingWindowSampler(store, keep=KEEP, offset=1 - KEEP - left_out, by="el2n", **fixed)

    def trained(self, sampler: AdaptiveSampler) -> Row:
        """Train with `sampler` -> accuracy on the test set and on the held-out images, in percent."""
        trial = self.trial
        model = train(self.data, sampler, seed=trial.seed, epochs=trial.epochs, width=trial.width).model
        return {"accuracy": accuracy(model, trial.data.test), "validation": accuracy(model, self.parts[1])}

    def _scored(self, kind: str, path: Path) -> ScoreStore:
        trial, n = self.trial, len(self.data)
        everything, store = partial(trial.everything, n), ScoreStore.create(path, n, [EL2N()], overwrite=True)
        if kind == EARLY:
            score_early(self.data, store, everything, seed=trial.seed, width=trial.width)
            return store
        for run in range(1 if trial.quick else SCORE_RUNS):
            store.begin_run(f"run {run}")
            seed = 1000 * (run + 1) + trial.seed
            hook = LossHook(nn.CrossEntropyLoss(), store)
            Training(self.data, everything(seed), network(seed, width=trial.width), SHORT, hook).fit()
        return store


def chosen(records: Records, equal: str) -> list[Row]:
    """For each seed, the run of the half that is best on the held-out images."""
    return best_of_each_seed([r for r in records if r["by"] in HALVES and r["equal"] == equal])


def half(records: Records, by: str, equal: str) -> np.ndarray:
    """(seeds,) the test accuracy of a half."""
    return values(chosen(records, equal)) if by == CHOSEN else values(records, by=by, equal=equal)


def table(records: Records) -> list[Row]:
    """A row for each half."""
    full = values(records, by="full")
    rows: list[Row] = [{"trained on": "everything", **{f"equal {equal}": shown(full) for equal in EQUAL}}]
    for by in (RANDOM, *HALVES, CHOSEN):
        rows.append({"trained on": f"half: {by}"})
        for equal in EQUAL:
            found = half(records, by, equal)
            rows[-1] |= {
                f"equal {equal}": shown(found),
                f"{equal}: against everything": shown(found - full, signed=True),
            }
    return rows


def findings(records: Records) -> list[str]:
    """What was expected of EL2N's half, and what was measured with these settings."""
    full, said = values(records, by="full"), []
    for equal, expected in zip(EQUAL, ("no worse than", "ahead of"), strict=True):
        best, random = (half(records, by, equal) for by in (CHOSEN, RANDOM))
        name = f"{EPOCHS} epochs, chosen half by EL2N, equal {equal}"
        said.append(verdict(f"{name}, {expected} everything", best - full, 0))
        said.append(verdict(f"{name}, ahead of a random half by 1 point", best - random, 1))
        said.append(f"Chosen with equal {equal}, by seed: {'; '.join(r['by'] for r in chosen(records, equal))}.")
    return said


def figure(records: Records, file: Path) -> None:
    """Draw a point for each half, and a band for training on everything."""

    def lines(*panels: Any) -> None:
        mean, error = spread(100 - values(records, by="full"))
        names = (RANDOM, *HALVES)
        for axes, equal in zip(panels, EQUAL, strict=True):
            axes.axhspan(mean - error, mean + error, color="#bbbbbb", label="everything")
            for place, (by, colour) in enumerate(zip(names, colours(), strict=False)):
                y, dy = spread(100 - half(records, by, equal))
                axes.errorbar(place, y, dy, color=colour, marker="o", capsize=4, linestyle="none", label=by)
            axes.set_xticks([])
            axes.set(title=f"half, equal {equal}", ylabel="test error in %", xlim=(-0.5, len(names) - 0.5))
        panels[1].legend(fontsize=8, loc="upper right")

    draw(file, lines, panels=2)


WHY = (
    "Twice the steps change no half by more than a tenth of a point, a random one neither: after so many epochs it "
    "is images that a half lacks, not steps. The hardest half lacks one to three tenths of a point, a random one "
    "well over a point. A mean over whole trainings is the better score of the two, by 0.10 ± 0.10 points with equal "
    "epochs and 0.20 ± 0.05 with equal steps, and leaving out the hardest 2 % gains nothing: they are not what holds "
    "the half back."
)
QUESTION = Question(
    "diet_settings",
    "Data Diet at half, trained longer",
    ABOUT,
    runs,
    table,
    findings,
    figure,
    epochs=EPOCHS,
    width=2,
    why=WHY,
)

if __name__ == "__main__":
    QUESTION.main()
