"""What is removed? Accuracy against how often the removed samples were forgotten, the same samples before and after label noise,
and galleries of what each score ranks lowest and highest.

Toneva et al. 2019, section 5: what is seldom forgotten can be removed, and the accuracy falls with the mean forgetting of what
is; mislabelled samples are forgotten more than the same ones were under their right labels. A seed's two stores, one under its
right labels and one under the labels as given, are of the same images, in the same order, by the same nets.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr
from torch import nn

from adaptive_sampler import ScoreStore
from adaptive_sampler.ranking import by_rank
from adaptive_sampler.scoring import EL2N, Forgetting, Margin
from adaptive_sampler.selection import RandomPrune, Window
from adaptive_sampler.torch import LossHook
from benchmarks.evidence.runs import (
    Question,
    Records,
    Run,
    Trial,
    colours,
    draw,
    shown,
    spread,
    values,
    verdict,
)
from benchmarks.evidence.training import Images, Training, accuracy, network, train, with_wrong_labels
from benchmarks.harness import Row

NUMBER, EPOCHS = 10_000, 16  # images to train on; epochs of each training, of those that score too
SCORE_RUNS = 2  # trainings that score
SHARE = 0.3  # that is removed
OFFSETS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # of the window that is removed; 0.7 removes the most forgotten
NOISE = (0.0, 0.2)
KINDS = {"forgetting": "forgetting", "el2n": "EL2N", "margin": "margin"}
SHOWN = 8  # images of each end in a gallery
CLASSES = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
ABOUT = (
    f"{NUMBER:,} Fashion-MNIST images, other ones for each seed, of which {SHARE:.0%} are removed: a window of the ranking by "
    f"forgetting that skips the given share of the least forgotten. The small net, {EPOCHS} epochs of what is left; mean ± "
    f"standard error. `forgotten`: how often a removed image was forgotten in a training, {EPOCHS} if it was never learnt, the "
    f"mean over {SCORE_RUNS} trainings. Then the same images under their right labels and with 20 % wrong ones: how often they are "
    "forgotten, and their mean rank by each score, in % of the way from the easiest to the hardest."
)


def runs(trial: Trial) -> Iterator[Run]:
    """Yield the runs of a seed: without nothing, a random share and each window, under both labels; then what needs no training."""
    tasks = {noise: Removal(trial, noise) for noise in NOISE}
    for noise, task in tasks.items():
        yield {"noise": noise, "removed": "nothing"}, task.everything
        yield {"noise": noise, "removed": "random"}, task.at_random
        for offset in OFFSETS:
            yield {"noise": noise, "removed": f"{offset}"}, partial(task.window, offset)
    yield {"compared": "before and after"}, partial(compared, *tasks.values())
    if trial.seed == 0:
        yield {"compared": "gallery"}, partial(gallery, tasks[0.0])


@dataclass(frozen=True)
class Removal:
    """A trial's images under labels of which a share is wrong, their scores, and the trainings without some of them."""

    trial: Trial
    noise: float

    @cached_property
    def right(self) -> Images:
        """The training images under their right labels."""
        return self.trial.some(NUMBER)[0]

    @cached_property
    def data(self) -> Images:
        """The same under the labels as given."""
        return self.right.relabelled(with_wrong_labels(self.right.labels.numpy(), self.noise, self.trial.seed))

    @cached_property
    def wrong(self) -> np.ndarray:
        """(n,) bool: which labels as given are wrong."""
        return (self.right.labels != self.data.labels).numpy()

    @cached_property
    def store(self) -> ScoreStore:
        """Forgetting, and the means of EL2N and margin over all batches, as a hook records them."""
        return self.trial.scored(f"removed-{self.noise}", self._scored)

    def _scored(self, path: Path) -> ScoreStore:
        scores = [Forgetting(never_learned="presentations", runs="mean"), EL2N(), Margin()]
        store = ScoreStore.create(path, len(self.data), scores, overwrite=True)
        hook = LossHook(nn.CrossEntropyLoss(), store)
        for run in range(SCORE_RUNS):
            store.begin_run(f"run {run}")
            seed = 1000 * (run + 1) + self.trial.seed
            sampler = self.trial.everything(len(self.data), seed)
            Training(self.data, sampler, network(seed), self.trial.epochs, hook).fit()
        return store

    def everything(self) -> Row:
        """Train on all images."""
        return self._without(np.empty(0, np.int64))

    def at_random(self) -> Row:
        """Train without a random share."""
        return self._without(self._rows(RandomPrune(SHARE)))

    def window(self, offset: float) -> Row:
        """Train without a window of the ranking by forgetting."""
        return self._without(self._rows(Window(SHARE, offset, "forgetting")))

    def _rows(self, policy: Any) -> np.ndarray:
        rows: np.ndarray = policy.plan(self.store, epoch=0, seed=self.trial.seed).rows
        return rows

    def _without(self, rows: np.ndarray) -> Row:
        left = self.data.part(np.setdiff1d(np.arange(len(self.data)), rows))
        sampler, seed = self.trial.everything(len(left)), self.trial.seed
        found: Row = {
            "accuracy": accuracy(train(left, sampler, seed=seed, epochs=self.trial.epochs).model, self.trial.data.test)
        }
        if len(rows):
            forgotten, wrong = self.store["forgetting"][rows], self.wrong[rows]
            found |= {"forgotten": float(forgotten.mean()), "wrong": 100 * float(wrong.mean())}
        return found


def compared(before: Removal, after: Removal) -> Row:
    """The same images under right labels and under the given ones: those whose label became wrong, and the others."""
    found: Row = {}
    for name, rows in (("changed", after.wrong), ("unchanged", ~after.wrong)):
        for when, task in (("before", before), ("after", after)):
            found[f"{name} {when}"] = float(task.store["forgetting"][rows].mean())
            for kind in KINDS:
                found[f"{name} {when} {kind}"] = float(hardness(task.store, kind)[rows].mean())
    return found


def hardness(store: ScoreStore, kind: str) -> np.ndarray:
    """(n,) each row's rank in % of the way from the easiest to the hardest; equal scores have their mean rank."""
    ranks = rankdata(-store[kind] if kind == "margin" else store[kind]) - 1
    return 100 * ranks / (len(ranks) - 1)


def gallery(task: Removal) -> Row:
    """The easiest and the hardest images by each score, as base64 of uint8, and their labels."""
    found: Row = {}
    for kind in KINDS:
        ends = by_rank(task.store, kind, parts=len(task.data) // SHOWN)
        for name, rows in zip(
            ("easiest", "hardest"), ends[:: len(ends) - 1][:: -1 if kind == "margin" else 1], strict=True
        ):
            some = task.data.part(rows[:SHOWN])
            found[f"{KINDS[kind]}, {name}"] = {
                "images": base64.b64encode(some.images.numpy().tobytes()).decode(),
                "labels": some.labels.tolist(),
            }
    return found


def of(records: Records, noise: float, removed: object, key: str = "accuracy") -> np.ndarray:
    """(seeds,) a figure of the training without what was removed."""
    return values(records, key, noise=noise, removed=str(removed))


def table(records: Records) -> list[Row]:
    """A row for each removal, then one for each kind of labels and each score."""
    rows: list[Row] = []
    for noise in NOISE:
        for removed in ("nothing", "random", *OFFSETS):
            row: Row = {"wrong labels": f"{noise:.0%}", "removed": _named(removed)}
            row["accuracy"] = shown(of(records, noise, removed))
            for key in ("forgotten", "wrong"):
                row[key] = "–" if removed == "nothing" else shown(of(records, noise, removed, key), digits=1)
            rows.append(row)
    for name in ("changed", "unchanged"):
        row = {"labels": f"{name} by the noise", "forgotten before": _seen(records, f"{name} before")}
        row["forgotten after"] = _seen(records, f"{name} after")
        for kind, told in KINDS.items():
            ranks = (_seen(records, f"{name} {when} {kind}", 1) for when in ("before", "after"))
            row[f"rank by {told}"] = " → ".join(ranks)
        rows.append(row)
    return rows


def _named(removed: object) -> str:
    return str(removed) if isinstance(removed, str) else f"from {removed:.0%}"


def _seen(records: Records, key: str, digits: int = 2) -> str:
    return shown(same(records, key), digits=digits)


def same(records: Records, key: str) -> np.ndarray:
    """(seeds,) a figure of the same images before or after the noise."""
    return values(records, key, compared="before and after")


def falls(records: Records, noise: float) -> np.ndarray:
    """(seeds,) Spearman's correlation, over the windows, of accuracy with the mean forgetting of what was removed."""
    accuracies, forgotten = (
        np.array([of(records, noise, o, key) for o in OFFSETS]) for key in ("accuracy", "forgotten")
    )
    return np.array([spearmanr(*both).statistic for both in zip(accuracies.T, forgotten.T, strict=True)])


def findings(records: Records) -> list[str]:
    """What was expected before the first run, and what was measured."""
    lowest, highest = OFFSETS[0], OFFSETS[-1]

    def apart(noise: float, one: object, other: object) -> np.ndarray:
        return of(records, noise, one) - of(records, noise, other)

    changed = same(records, "changed after") - 2 * same(records, "changed before")
    others = same(records, "unchanged after") - same(records, "unchanged before")
    random = "than without a random share"
    asked: list[tuple[str, np.ndarray, float, str]] = [
        (
            "right labels: without the least forgotten 0.3 points behind, at most",
            apart(0.0, lowest, "nothing"),
            -0.3,
            "points",
        ),
        (f"right labels: better without the least forgotten {random}", apart(0.0, lowest, "random"), 0, "points"),
        (f"right labels: 0.5 points worse without the most {random}", apart(0.0, "random", highest), 0.5, "points"),
        ("right labels: accuracy falls with the forgetting of what goes", -falls(records, 0.0), 0.7, "of correlation"),
        ("20% wrong: 1 point better without the most forgotten", apart(0.2, highest, "nothing"), 1, "points"),
        (f"20% wrong: worse without the least forgotten {random}", apart(0.2, "random", lowest), 0, "points"),
        ("images whose label became wrong are forgotten twice as often and more", changed, 0, "times a training"),
        ("the others are forgotten more often than before", others, 0, "times a training"),
    ]
    said = [verdict(*one) for one in asked]
    for kind, told in KINDS.items():
        rise = same(records, f"changed after {kind}") - same(records, f"changed before {kind}")
        said.append(
            verdict(f"images whose label became wrong rise by 25 % of the ranking by {told}", rise, 25, "%", digits=1)
        )
    return said


def figure(records: Records, file: Path) -> None:
    """Draw accuracy against the mean forgetting of what was removed, for each share of wrong labels, and the gallery."""

    def lines(*panels: Any) -> None:
        for axes, noise in zip(panels, NOISE, strict=False):
            for removed, colour in (("nothing", "#bbbbbb"), ("random", colours()[1])):
                mean, error = spread(of(records, noise, removed))
                axes.axhspan(mean - error, mean + error, color=colour, alpha=0.5, label=f"{removed} removed")
            means, errors = zip(*(spread(of(records, noise, offset)) for offset in OFFSETS), strict=True)
            places = [spread(of(records, noise, offset, "forgotten"))[0] for offset in OFFSETS]
            axes.errorbar(
                places, means, errors, color=colours()[5], marker="o", capsize=3, label="a window by forgetting"
            )
            axes.set(
                xlabel="how often the removed were forgotten",
                ylabel="test accuracy in %",
                title=f"{noise:.0%} wrong labels",
            )
        panels[0].legend(fontsize=8, loc="center right")
        _hang(panels[-1], next(r["found"] for r in records if r.get("compared") == "gallery"))

    draw(file, lines, width=5, panels=3)


def _hang(axes: Any, found: Row) -> None:
    """Draw the gallery: a row of images for each end of each score, their labels on them."""
    rows = [np.frombuffer(base64.b64decode(end["images"]), np.uint8).reshape(-1, 28, 28) for end in found.values()]
    axes.imshow(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]), cmap="gray_r")
    for line, end in enumerate(found.values()):
        for place, label in enumerate(end["labels"]):
            axes.text(28 * place + 1, 28 * line + 1, CLASSES[label], fontsize=5, color=colours()[4], va="top")
    axes.set_yticks([28 * line + 14 for line in range(len(rows))], list(found), fontsize=8)
    axes.set(xticks=[], title="seed 0, right labels")


WHY = (
    "Under right labels more than half of the images are hardly ever forgotten, and 30 % of any of these can go: "
    "what is left is within 0.2 points of everything, where a random 30 % costs 0.7, and the most forgotten 2.6. "
    "Under wrong labels the curve turns. The images in the middle, forgotten once or twice, are worth the most: 4.4 "
    "points. The most forgotten, nearly two thirds of them wrong, cost next to nothing, but nothing is gained "
    "either; likely because more than a third of them are hard images under right labels, and because the wrong ones "
    "do this net little harm in 16 epochs: everything is 1.8 points worse with them all. An image whose label "
    "becomes wrong is seldom learnt: it counts as forgotten 13.5 times of 16, where it was forgotten 0.8 times "
    "before; the others hardly change. By ranks the three scores tell the same of it. In the gallery, which of the "
    "never forgotten are shown is chance; several of the hardest by EL2N and margin look wrongly labelled, such as "
    "long sleeves as a T-shirt and a boot as a sneaker."
)
QUESTION = Question("removed", "What is removed?", ABOUT, runs, table, findings, figure, EPOCHS, why=WHY)

if __name__ == "__main__":
    QUESTION.main()
