"""What is new for the expectations that were not met: the ways to train among which held-out images choose, group by group.

Each group begins with the way that did not meet them. Scores by name are those of whole trainings beforehand; "loss" is the
training's own, and those ways are online.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import EL2N, Forgetting, Margin, Score
from adaptive_sampler.scoring.folds import Last
from adaptive_sampler.selection import Exclude, InfoBatch, KeepAll, Linear, Prune, Steps, Stratified, Window
from adaptive_sampler.torch import LossHook
from benchmarks.evidence.training import Images, Training, network

KEEP, WRONG, MAX_AGE, ANNEAL = 0.5, 0.2, 3, 0.875
RUNS = 2  # trainings that score


@dataclass(frozen=True)
class Way:
    """A way to train. `steps`: as many steps as everything takes, even where fewer rows are kept."""

    policy: Any
    replan: Literal["once", "epoch"] = "once"
    online: bool = False
    steps: bool = False


Ways = dict[str, Way]


def halves(epochs: int, labels: np.ndarray, steps: bool = False) -> Ways:
    """Halves that are fixed beforehand; with half the steps, ways to half of the samples, too."""
    fixed = {
        "highest EL2N": Prune(KEEP, "el2n"),
        "lowest margin": Prune(KEEP, "margin", order="lowest"),
        "lowest margin of each class": Prune(KEEP, "margin", order="lowest", per_class=labels),
        "mean of three ranks": Prune(KEEP, "rank"),
        "stratified by EL2N": Stratified(KEEP, "el2n"),
        "stratified by margin, without the hardest 2 %": Stratified(
            KEEP, "margin", hardest="lowest", skip_hardest=0.02
        ),
        "lowest margin, not suspect": Prune(0.51, "margin", order="lowest") & Exclude("el2n", highest=0.01),
    }
    ways = {name: Way(policy, steps=steps) for name, policy in fixed.items()}
    if steps:
        return ways
    narrow, widen = (Linear(*ends, epochs=max(epochs - 1, 1)) for ends in ((0.8, 0.2), (0.2, 0.8)))
    rest = max((KEEP * epochs - 1) / max(epochs - 1, 1), 0.1)  # after an epoch of everything
    return ways | {
        "lowest margin, 80 to 20 %": Way(Prune(narrow, "margin", order="lowest"), "epoch"),
        "lowest margin, 20 to 80 %": Way(Prune(widen, "margin", order="lowest"), "epoch"),
        "online: highest loss, max_age 3": Way(Prune(rest, "loss", max_age=MAX_AGE), "epoch", online=True),
    }


def cleaned(epochs: int, labels: np.ndarray) -> Ways:
    """For 20 % wrong labels: the window that was, and what leaves out suspects at as many steps as everything."""
    leave = Linear(0.0, 0.25, epochs=max(epochs - 1, 1))
    suspect = Exclude("margin", lowest=WRONG)
    return {
        "window": Way(Window(KEEP, 0.3, "el2n")),
        "window, equal steps": Way(Window(KEEP, 0.3, "el2n"), steps=True),
        "75 % after skipping 5 %": Way(Window(0.75, 0.05, "el2n"), steps=True),
        "not suspect": Way(suspect, steps=True),
        "not suspect in its class": Way(Exclude("margin", lowest=WRONG, per_class=labels), steps=True),
        "hardest 70 %, not suspect": Way(Prune(0.7, "el2n") & suspect, steps=True),
        "suspects leave, 0 to 25 %": Way(Exclude("margin", lowest=leave), "epoch", steps=True),
    }


def infobatch(epochs: int, labels: np.ndarray, more: float = 0.0) -> Ways:
    """InfoBatch, with ratios that save some 30 % of the samples in twelve epochs; or, with `more`, higher ones."""
    how: dict[str, Any] = {"epochs": epochs}
    early, late = (Linear(first + more, last + more, epochs=epochs) for first, last in ((0.65, 0.4), (0.4, 0.75)))
    policies = {
        "InfoBatch": InfoBatch(0.53 + more, **how),
        "InfoBatch within classes": InfoBatch(0.56 + more, per_class=labels, **how),
        "InfoBatch, more at first": InfoBatch(early, **how),
        "InfoBatch, more at the end": InfoBatch(late, **how),
        "InfoBatch to the last epoch": InfoBatch(0.45 + more, anneal=1.0, **how),
        "InfoBatch, without the surest 20 %": InfoBatch(0.45 + more, **how)
        & Exclude("loss", lowest=0.2, max_age=MAX_AGE),
    }
    return {name: Way(policy, "epoch", online=True) for name, policy in policies.items()}


def highest(epochs: int, labels: np.ndarray) -> Ways:
    """The highest losses, about half of the samples after the first epoch."""
    narrow, widen = (Linear(*ends, epochs=epochs) for ends in ((0.8, 0.2), (0.2, 0.8)))
    back: dict[str, Any] = {"by": "loss", "max_age": MAX_AGE}
    policies = {
        "highest 50 %": Prune(KEEP, "loss"),
        "highest 50 %, max_age 3": Prune(KEEP, **back),
        "80 to 20 %, max_age 3": Prune(narrow, **back),
        "20 to 80 %, max_age 3": Prune(widen, **back),
        "40 %, everything at the end": Prune(Steps({0: 0.4, max(int(ANNEAL * epochs), 1): 1.0}), "loss"),
        "highest 50 % of each class, max_age 3": Prune(KEEP, per_class=labels, **back),
        "stratified half, max_age 3": Stratified(KEEP, **back),
    }
    return {name: Way(policy, "epoch", online=True) for name, policy in policies.items()}


@dataclass(frozen=True)
class Group:
    """Expectations that are tried in one training: how long it is, how wide its network, which ways there are.

    `wrong`: the share of wrong labels. `like`: the group whose choice is taken over; its own if empty. `seeds`, `looks`: how many
    trainings of `choose` each finalist gets, and before that each candidate.
    """

    epochs: int
    width: int
    ways: Callable[[int, np.ndarray], Ways] = field(repr=False)
    wrong: float = 0.0
    like: str = ""
    seeds: int = 2
    looks: int = 1


GROUPS = {
    "wrong labels": Group(8, 1, cleaned, wrong=WRONG, seeds=4, looks=2),
    "half, equal epochs": Group(8, 2, halves),
    "half, equal steps": Group(8, 2, partial(halves, steps=True)),
    "InfoBatch": Group(12, 2, infobatch),
    "InfoBatch, more": Group(12, 2, partial(infobatch, more=0.08), like="InfoBatch"),
    "highest loss": Group(12, 2, highest),
}
LONGER = {
    "longer, equal epochs": Group(16, 2, halves, like="half, equal epochs"),
    "longer, equal steps": Group(16, 2, partial(halves, steps=True), like="half, equal steps"),
}


def scored(data: Images, seed: int, width: int, epochs: int, path: Path) -> ScoreStore:
    """Make the store of `data`: scores of whole trainings, and the mean of their three ranks, the hardest the highest."""
    whole: list[Any] = [EL2N(), Margin(), Forgetting(never_learned="presentations")]
    n = len(data)
    store = ScoreStore.create(path, n, [*whole, Score("rank", lambda rank: rank, Last())], overwrite=True)
    for run in range(RUNS):
        store.begin_run(f"run {run}")
        number = 1000 * (run + 1) + seed
        sampler = AdaptiveSampler(store, KeepAll(), seed=number)
        Training(data, sampler, network(number, width=width), epochs, LossHook(nn.CrossEntropyLoss(), store)).fit()
    harder = (store["el2n"], -store["margin"], store["forgetting"])
    store.fold("rank", np.arange(n), np.mean([np.argsort(np.argsort(score)) for score in harder], axis=0))
    return store
