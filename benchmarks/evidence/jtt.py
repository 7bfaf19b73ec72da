"""Just Train Twice: a cue misleads on a few samples. Can training serve them better without knowing which they are?

Liu et al. 2021. The task is to tell shirts from tops (T-shirts, pullovers, coats: three times as many). In 95 % of the
training images a white square in a corner agrees with the class: it is there for shirts and absent for tops. There are
four groups: class and square. 4,000 of the 24,000 images are held out, with squares drawn by chance; the worst group
among them chooses each method's settings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import Error
from adaptive_sampler.torch import JTTSampler, observe
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
from benchmarks.evidence.training import Images, Training, by_group, in_order, network, train
from benchmarks.harness import Row

TOPS, SHIRT, SIDE, ALIGNED = (0, 2, 4), 6, 4, 0.95
FIRST, UPSAMPLE, STEP = (1, 2, 4), (5, 20, 50), (0.01, 0.1)  # JTT's T in epochs, and λ; group DRO's η
METHODS = ("plain", "classes equal", "JTT", "groups equal", "group DRO")
ABOUT = (
    "Shirts against tops, with a square that agrees with the class in 95 % of 20,000 training images and by chance in the "
    "test set; accuracy in % of the worst of the four groups, and the mean of the four; mean ± standard error. All methods "
    "take as many steps, JTT's first stage not counted. JTT and class balancing know no groups; equal groups and group DRO "
    "do. The worst group of 4,000 held-out images chooses the settings."
)


def runs(trial: Trial) -> Iterator[Run]:
    """Yield one seed's runs: plain training, class balancing, JTT over (T, λ), and two methods that know the groups."""
    task = Task(trial)
    yield {"method": "plain"}, lambda: task.tested(trial.everything(len(task.train)))
    yield {"method": "classes equal"}, lambda: task.tested(trial.equally(task.train.labels))
    for first in FIRST:
        for factor in UPSAMPLE:
            yield {"method": "JTT", "T": first, "lambda": factor}, partial(task.jtt, first, factor)
    yield {"method": "groups equal"}, lambda: task.tested(trial.equally(task.groups))
    for step in STEP:
        yield {"method": "group DRO", "eta": step}, partial(task.group_dro, step)


@dataclass(frozen=True)
class Task:
    """One seed's shirts and tops with labels 0 (top) and 1 (shirt), and the trainings on them."""

    trial: Trial

    @cached_property
    def parts(self) -> list[tuple[Images, Tensor]]:
        """Training, held-out and test images with their squares, each with its (n,) groups: 2 · class + square."""
        cut = self.trial.data.held_out(len(self.trial.data.train) // 6, self.trial.seed)
        chances = (ALIGNED, 0.5, 0.5)
        return [with_square(p, c, self.trial.seed) for p, c in zip((*cut, self.trial.data.test), chances, strict=True)]

    @property
    def train(self) -> Images:
        """The training images."""
        return self.parts[0][0]

    @property
    def groups(self) -> Tensor:
        """(n,) int64, the groups of the training images."""
        return self.parts[0][1]

    def jtt(self, first: int, factor: int) -> Row:
        """Stage two: repeat the mistakes of stage one `factor` times, in as many steps as plain training has."""
        store = self.trial.scored(f"mistakes-{first}", partial(self.mistakes, first))
        sampler = JTTSampler(store, upsample=factor, seed=self.trial.seed, num_samples=len(store))
        wrong = store["error"] > 0
        led_astray = ((self.groups == 1) | (self.groups == 2)).numpy()
        about = {"mistakes": int(wrong.sum()), "of these misled": 100 * float(led_astray[wrong].mean())}
        return about | self.tested(sampler)

    def mistakes(self, first: int, path: Path) -> ScoreStore:
        """Stage one: train for `first` epochs, and store which training samples the model gets wrong."""
        store = ScoreStore.create(path, len(self.train), [Error()], overwrite=True)
        everything, model = self.trial.everything(len(store)), network(self.trial.seed, classes=2)
        training = Training(self.train, everything, model, self.trial.epochs, nn.CrossEntropyLoss())
        observe(training.fit(until=first), in_order(self.train), store, progress=False)
        return store

    def group_dro(self, step: float) -> Row:
        """Group DRO: groups are drawn equally often, and a group with a high loss gets a higher weight. step: η."""
        named = Images(self.train.images, self.groups)  # the criterion gets groups, and computes their classes
        return self.tested(self.trial.equally(self.groups), named, GroupDRO(step))

    def tested(self, sampler: AdaptiveSampler, data: Images | None = None, criterion: nn.Module | None = None) -> Row:
        """Train and test -> accuracies in percent.

        On the test set: of the worst group, the mean of the groups, and of each group. `validation`: of the worst group on
        the held-out images.
        """
        how = {"seed": self.trial.seed, "epochs": self.trial.epochs, "classes": 2}
        model = train(data or self.train, sampler, criterion=criterion, **how).model
        (held, test), names = [by_group(model, *part) for part in self.parts[1:]], "0123"
        each = {f"group {name}": figure for name, figure in zip(names, test, strict=True)}
        return {"worst": min(test), "average": sum(test) / 4, "validation": min(held), **each}


class GroupDRO(nn.Module):
    """Σ q_g · loss of group g, with q_g ← q_g · exp(η · loss of g), normalised (Sagawa et al. 2020, algorithm 1)."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step, self.q = step, torch.full((4,), 0.25)

    def forward(self, logits: Tensor, groups: Tensor) -> Tensor:
        """logits (batch, 2), groups (batch,) -> the robust loss, a scalar."""
        each = nn.functional.cross_entropy(logits, groups // 2, reduction="none")
        member = nn.functional.one_hot(groups, 4).float()
        losses = each @ member / member.sum(0).clamp(min=1)
        q = self.q * (self.step * losses.detach()).exp()
        self.q = q / q.sum()
        return self.q @ losses


def with_square(images: Images, aligned: float, seed: int) -> tuple[Images, Tensor]:
    """Shirts and tops only, and their (n,) groups. The square agrees with the class with the probability `aligned`."""
    ours = images.part(np.flatnonzero(np.isin(images.labels.numpy(), (*TOPS, SHIRT))))
    labels = (ours.labels == SHIRT).long()
    agrees = torch.from_numpy(np.random.default_rng([seed, 3]).random(len(ours)) < aligned)
    square = torch.where(agrees, labels, 1 - labels)
    pixels = ours.images.clone()
    pixels[square == 1, :SIDE, :SIDE] = 255
    return Images(pixels, labels), 2 * labels + square


def chosen(records: Records, method: str) -> list[Row]:
    """For each seed, the run of `method` with the settings that are best for the worst group of the held-out images."""
    return best_of_each_seed([r for r in records if r["method"] == method])


def table(records: Records) -> list[Row]:
    """A row for each method with its chosen settings; then a row for every (T, λ)."""
    rows: list[Row] = []
    for method in METHODS:
        best = chosen(records, method)
        row: Row = {"method": method} | {k: shown(values(best, k), digits=1) for k in ("worst", "average")}
        settings = [" ".join(f"{r[k]:g}" for k in ("T", "lambda", "eta") if k in r) for r in best]
        rows.append(row | {"chosen (T λ, or η), by seed": "; ".join(settings) if settings[0] else "–"})
    for first in FIRST:
        for factor in UPSAMPLE:
            figures = {
                k: shown(values(records, k, T=first, **{"lambda": factor}), digits=1) for k in ("worst", "average")
            }
            misled = values(records, "of these misled", T=first, **{"lambda": factor})
            mistakes = values(records, "mistakes", T=first, **{"lambda": factor})
            of_stage_one = {"mistakes": shown(mistakes, digits=0), "of these misled, %": shown(misled, digits=0)}
            rows.append({"JTT": f"T {first}, λ {factor}", **figures, **of_stage_one})
    return rows


def findings(records: Records) -> list[str]:
    """What was expected (15 points above plain training, half of the gap to group DRO), and what was measured."""
    worst = {method: values(chosen(records, method), "worst") for method in METHODS}
    told = "group DRO" if worst["group DRO"].mean() >= worst["groups equal"].mean() else "groups equal"
    gained, gap = worst["JTT"] - worst["plain"], worst["group DRO"] - worst["plain"]
    return [
        verdict("JTT's worst group 15 points over plain training's", gained, 15),
        verdict("JTT closes half of the gap between plain training and group DRO", 100 * gained / gap, 50, "%"),
        f"JTT's worst group is {shown(worst['JTT'] - worst['classes equal'], True, 1)} points from class balancing's, and "
        f"{shown(worst['JTT'] - worst[told], True, 1)} from that of {told}, the better of the two that are told the groups.",
    ]


def figure(records: Records, file: Path) -> None:
    """Draw the accuracy of the worst group and the average, a pair of bars for each method."""

    def lines(axes: Any) -> None:
        for shift, key, colour in ((-0.2, "worst", colours()[5]), (0.2, "average", colours()[2])):
            for place, method in enumerate(METHODS):
                mean, error = spread(values(chosen(records, method), key))
                label = {"worst": "worst group", "average": "mean of the groups"}[key] if place == 0 else None
                axes.bar(place + shift, mean, 0.4, yerr=error, color=colour, capsize=3, label=label)
        axes.set_xticks(range(len(METHODS)), METHODS, fontsize=8)
        axes.set_ylabel("test accuracy in %")
        axes.legend(fontsize=8, loc="upper left")

    draw(file, lines)


QUESTION = Question("jtt", "JTT: a spurious cue", ABOUT, runs, table, findings, figure)

if __name__ == "__main__":
    QUESTION.main()
