"""Data Diet at half: do its settings help? When to score, by what, and whether to leave out the very top.

The Data Diet's own question uses the paper's setting. Here 5,000 of the 60,000 are held out, and choose for each seed
among five scores, each the mean of three trainings, and two windows: the highest half, or the half below the top 5 %.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import EL2N, Margin, measures
from adaptive_sampler.selection import RandomPrune
from adaptive_sampler.torch import LossHook, SlidingWindowSampler
from benchmarks.evidence.runs import (
    Question,
    Records,
    Run,
    Trial,
    colours,
    draw,
    seeds_of,
    shown,
    spread,
    values,
    verdict,
)
from benchmarks.evidence.training import SCORE_RUNS, Images, Training, accuracy, logits_of, network, train
from benchmarks.harness import Row

KEEP, LEFT_OUT = 0.5, (0.0, 0.05)
AFTER = (1, 2, 4)  # epochs of eight, at which EL2N looks at the model
SCORES = (*(f"el2n_{epoch}" for epoch in AFTER), "el2n_all", "margin")
EQUAL = ("epochs", "steps")
ABOUT = (
    "Half of 55,000 images, by EL2N after 1, 2 or 4 of 8 epochs in eval mode, by its mean over all epochs of training, or by "
    "the lowest margin (AUM); the hardest half, or that below the hardest 5 %. Test accuracy in %, mean ± standard error. "
    "`chosen`: what is best on 5,000 held-out images, for each seed."
)


def runs(trial: Trial) -> Iterator[Run]:
    """Everything and a random half, then each score and window; with equal epochs and with equal steps."""
    half = Half(trial)
    yield {"by": "full", "equal": "epochs"}, partial(half.tested, "full", 0, "epochs")
    for equal in EQUAL:
        yield {"by": "random", "equal": equal}, partial(half.tested, "random", 0, equal)
        for by in SCORES:
            for left_out in LEFT_OUT:
                yield {"by": by, "left out": left_out, "equal": equal}, partial(half.tested, by, left_out, equal)


@dataclass(frozen=True)
class Half:
    """A trial's images without those held out, their scores, and the trainings on half of them."""

    trial: Trial

    @cached_property
    def parts(self) -> tuple[Images, Images]:
        """Training and held-out images."""
        return self.trial.data.held_out(len(self.trial.data.train) // 12, self.trial.seed)

    @cached_property
    def early(self) -> ScoreStore:
        """EL2N of models that are looked at on their way."""
        return self.trial.scored("early", self._early)

    @cached_property
    def whole(self) -> ScoreStore:
        """What a hook has seen in whole trainings."""
        return self.trial.scored("whole", self._whole)

    def sampler(self, by: str, left_out: float, equal: str) -> AdaptiveSampler:
        """Of everything, of a random half, or of the hard half below the share `left_out`."""
        if by == "full":
            return self.trial.everything(len(self.parts[0]))
        store = self.early if by in self.early.names else self.whole
        fixed: dict[str, Any] = {"seed": self.trial.seed, "num_samples": len(store) if equal == "steps" else None}
        if by == "random":
            return AdaptiveSampler(store, RandomPrune(KEEP), replan="once", **fixed)
        # a window ascends, and a low margin is a hard sample
        offset = left_out if by == "margin" else 1 - KEEP - left_out
        return SlidingWindowSampler(store, keep=KEEP, offset=offset, by=by, **fixed)

    def tested(self, by: str, left_out: float, equal: str) -> Row:
        """Accuracy on the test set and, for choosing, on the held-out images."""
        data, held = self.parts
        sampler = self.sampler(by, left_out, equal)
        model = train(data, sampler, seed=self.trial.seed, epochs=self.trial.epochs).model
        classes = np.bincount(data.labels[torch.from_numpy(sampler.plan.rows)], minlength=10)
        return {
            "accuracy": accuracy(model, self.trial.data.test),
            "validation": accuracy(model, held),
            "rarest": 100 * float(classes.min() / classes.sum()),
        }

    def _early(self, path: Path) -> ScoreStore:
        data = self.parts[0]
        store = ScoreStore.create(path, len(data), [EL2N(name=f"el2n_{epoch}") for epoch in AFTER], overwrite=True)
        for run in range(SCORE_RUNS):
            store.begin_run(f"run {run}")
            training = self._training(run, nn.CrossEntropyLoss())
            for epoch in AFTER:
                training.fit(until=min(epoch, self.trial.epochs))
                seen = measures.el2n(logits_of(training.model, data), data.labels)
                store.fold(f"el2n_{epoch}", np.arange(len(data)), seen.numpy())
        return store

    def _whole(self, path: Path) -> ScoreStore:
        store = ScoreStore.create(path, len(self.parts[0]), [EL2N(name="el2n_all"), Margin()], overwrite=True)
        for run in range(SCORE_RUNS):
            store.begin_run(f"run {run}")
            self._training(run, LossHook(nn.CrossEntropyLoss(), store)).fit()
        return store

    def _training(self, run: int, criterion: nn.Module) -> Training:
        data, seed = self.parts[0], 1000 * (run + 1) + self.trial.seed
        return Training(data, self.trial.everything(len(data), seed), network(seed), self.trial.epochs, criterion)


def chosen(records: Records, equal: str) -> list[Row]:
    """Of each seed the run of the settings that are best on the held-out images."""
    mine = [r for r in records if "left out" in r and r["equal"] == equal]
    by_seed = [[r for r in mine if r["seed"] == seed] for seed in seeds_of(records)]
    return [max(of_seed, key=lambda r: r["found"]["validation"]) for of_seed in by_seed]


def table(records: Records) -> list[Row]:
    """A row for each score; then what was chosen."""
    full = shown(values(records, by="full"))
    rows: list[Row] = [
        {"half by": "random"} | {f"equal {e}": shown(values(records, by="random", equal=e)) for e in EQUAL}
    ]
    for by in SCORES:
        for left_out in LEFT_OUT:
            name = by + (f", below the top {left_out:.0%}" if left_out else "")
            each = {f"equal {e}": shown(values(records, by=by, equal=e, **{"left out": left_out})) for e in EQUAL}
            rows.append({"half by": name} | each)
    rows.append({"half by": "chosen"} | {f"equal {e}": shown(values(chosen(records, e))) for e in EQUAL})
    rows.append({"half by": "(everything)"} | {f"equal {e}": full for e in EQUAL})
    for equal in EQUAL:
        picked = "; ".join(f"{r['by']} {r['left out']:g}" for r in chosen(records, equal))
        rows.append({"chosen by seed: score, share left out": f"equal {equal}", "": picked})
    return rows


def findings(records: Records) -> list[str]:
    """The issue's expectations of half, with the settings that validation chose."""
    full, said = values(records, by="full"), []
    for equal, expected in zip(EQUAL, ("no worse than", "ahead of"), strict=True):
        half, random = values(chosen(records, equal)), values(records, by="random", equal=equal)
        said.append(verdict(f"the chosen half, equal {equal}, {expected} everything", half - full, 0))
        said.append(verdict(f"the chosen half, equal {equal}, ahead of a random half by 1 point", half - random, 1))
    rarest = values(records, "rarest", by="el2n_2", equal="epochs", **{"left out": 0.0})
    said.append(
        f"Of the hardest half by el2n_2 {shown(rarest, digits=1)} % are of its rarest class; of everything it is 10 %."
    )
    return said


def figure(records: Records, file: Path) -> None:
    """A bar for each score and window, beside everything and a random half."""

    def lines(*panels: Any) -> None:
        for axes, equal in zip(panels, EQUAL, strict=True):
            mean, error = spread(values(records, by="full"))
            axes.axhspan(mean - error, mean + error, color="#bbbbbb", label="everything")
            axes.axhline(
                spread(values(records, by="random", equal=equal))[0],
                color="#000000",
                linestyle=":",
                label="random half",
            )
            for left_out, shift, colour in zip(LEFT_OUT, (-0.2, 0.2), (colours()[4], colours()[5]), strict=True):
                each = [spread(values(records, by=by, equal=equal, **{"left out": left_out})) for by in SCORES]
                places, (means, errors) = np.arange(len(SCORES)) + shift, zip(*each, strict=True)
                label = "hardest half" if not left_out else f"below the hardest {left_out:.0%}"
                axes.errorbar(places, means, errors, color=colour, marker="o", linestyle="none", capsize=3, label=label)
            axes.set_xticks(range(len(SCORES)), SCORES, fontsize=8)
            axes.set(title=f"equal {equal}", ylabel="test accuracy in %")
        panels[0].legend(fontsize=8)

    draw(file, lines, panels=2)


QUESTION = Question("diet_settings", "Data Diet at half: do its settings help?", ABOUT, runs, table, findings, figure)

if __name__ == "__main__":
    QUESTION.main()
