"""Where does training happen? How fast the tangent kernel turns, and how high the error barriers are, by score.

Paul et al. 2021, sections 5 and 6, on CIFAR-10 and a residual network; here 2,000 Fashion-MNIST images and the small net. A
kernel's velocity is that of 100 images whose ranks by EL2N follow each other, over the epoch that begins. Two children are spawned
there: copies of the training that take the samples in other orders until its end. The barrier is on the way between these two,
the error that of images trained on, under the labels that they were trained with.

A look at seed 0 of 5,000 images and 12 epochs came first and was given up: there was next to no barrier on the hardest tenth,
likely because such a training leaves these images unlearnt. These settings, chosen on seed 7 by the training error alone, learn
most of them.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from adaptive_sampler import ScoreStore
from adaptive_sampler.ranking import by_rank
from adaptive_sampler.scoring import EL2N
from adaptive_sampler.torch import error_barrier, ntk_velocity, observe
from benchmarks.evidence.runs import Question, Records, Run, Trial, colours, draw, shown, spread, values, verdict
from benchmarks.evidence.training import Images, Training, accuracy, in_order, network, with_wrong_labels
from benchmarks.harness import Row

NUMBER, EPOCHS, CHILDREN = 2000, 40, 2
SCORE_RUNS, SCORED_AFTER = 3, 16  # trainings that score, and after how many epochs: wrong labels are not learnt by then
NOISES = (0.0, 0.1)
MOMENTS = (0, 1, 2, 4, 8, 16)  # epochs before those of which the velocity is measured, and children spawned
SUBSETS = 20  # of contiguous ranks, so 100 images each, as in the paper
PLACES = (0, 4, 8, 13, 17, 18, 19)  # which of them are measured, 0 the lowest
PARTS = ("lowest", "random", "highest")  # tenths of the images, on which the error is measured
ABOUT = (
    f"{NUMBER:,} Fashion-MNIST images, the small net, {EPOCHS} epochs of 8 steps; mean ± standard error, other images each seed. "
    f"Ranks are by EL2N after {SCORED_AFTER} epochs, the mean of {SCORE_RUNS} other trainings. The velocity of the kernel of 100 "
    "images over the next epoch, in thousandths (1000: it has nothing in common with the former), and the share of wrong labels "
    "among them, in %; then the error barrier, in % of the tenth on which it is measured, of two children, and their mean error."
)


def runs(trial: Trial) -> Iterator[Run]:
    """Yield the runs of a seed: for each share of wrong labels each moment."""
    for noise in NOISES:
        watched = Watched(trial, noise)
        for epoch in MOMENTS:
            yield {"noise": noise, "epoch": epoch}, partial(watched.measured, epoch)


@dataclass(frozen=True)
class Watched:
    """A trial's images, their scores, the training that is watched and its children."""

    trial: Trial
    noise: float

    @cached_property
    def data(self) -> Images:
        """The images, a share of them under wrong labels."""
        data = self.trial.some(NUMBER)[0]
        return data.relabelled(with_wrong_labels(data.labels.numpy(), self.noise, self.trial.seed))

    @cached_property
    def wrong(self) -> np.ndarray:
        """(n,) bool: which labels are wrong."""
        return np.asarray(self.data.labels != self.trial.some(NUMBER)[0].labels)

    @cached_property
    def store(self) -> ScoreStore:
        """The store of EL2N."""
        return self.trial.scored(f"el2n-{self.noise}", self._scored)

    def _scored(self, path: Path) -> ScoreStore:
        store = ScoreStore.create(path, len(self.data), [EL2N()], overwrite=True)
        for run in range(SCORE_RUNS):
            store.begin_run(f"run {run}")
            number = 1000 * (run + 1) + self.trial.seed
            training = self.training(number, network(number))
            observe(training.fit(until=min(SCORED_AFTER, training.epochs)), in_order(self.data), store, progress=False)
        return store

    def training(self, order: int, model: nn.Module, epoch: int = 0) -> Training:
        """A training of `model` from `epoch` on, which takes the samples in the order of the seed `order`."""
        sampler = self.trial.everything(len(self.data), order)
        return Training(self.data, sampler, model, self.trial.epochs, nn.CrossEntropyLoss(), epoch=epoch)

    @cached_property
    def states(self) -> dict[int, tuple[nn.Module, dict[str, Any]]]:
        """The watched training after each epoch: its model, and the state of its optimizer."""
        training, found = self.training(self.trial.seed, network(self.trial.seed)), {}
        for epoch in range(self.trial.epochs + 1):
            training.fit(until=epoch)
            found[epoch] = copy.deepcopy((training.model, training.optimizer.state_dict()))
        return found

    @cached_property
    def parts(self) -> dict[str, np.ndarray]:
        """The rows of a tenth each."""
        tenths = by_rank(self.store, "el2n")
        random = np.random.default_rng([self.trial.seed, 3]).choice(len(self.data), len(tenths[0]), replace=False)
        return {"lowest": tenths[0], "random": random, "highest": tenths[-1]}

    def child(self, epoch: int, number: int) -> nn.Module:
        """The model at the end of a child spawned after `epoch` epochs."""
        model, optimizer = copy.deepcopy(self.states[epoch])
        training = self.training(1000 * (number + 1) + self.trial.seed, model, epoch)
        training.optimizer.load_state_dict(optimizer)
        return training.fit()

    def measured(self, moment: int) -> Row:
        """The velocity of each subset, and the barriers, at a moment."""
        epoch = min(moment, self.trial.epochs - 1)  # quick trainings are shorter
        model, after = self.states[epoch][0], self.states[epoch + 1][0]
        ranked = by_rank(self.store, "el2n", parts=SUBSETS)
        rows = [ranked[place].tolist() for place in PLACES]
        a, b = (self.child(epoch, number) for number in range(CHILDREN))
        found: Row = {
            "velocity": [1000 * ntk_velocity(model, model, after, self.data[part][0]) for part in rows],
            "wrong": [100 * float(self.wrong[part].mean()) for part in rows],
            "accuracy": accuracy(a, self.trial.data.test),
        }
        for part, tenth in self.parts.items():
            found[f"barrier {part}"] = 100 * error_barrier(model, a, b, [self.data[tenth.tolist()]])
            found[f"error {part}"] = 100 - float(np.mean([accuracy(child, self.data.part(tenth)) for child in (a, b)]))
        return found


def velocity(records: Records, noise: float, epoch: int, place: int) -> np.ndarray:
    """(seeds,) in thousandths."""
    found: np.ndarray = values(records, "velocity", noise=noise, epoch=epoch)[:, PLACES.index(place)]
    return found


def barrier(records: Records, noise: float, epoch: int, part: str, key: str = "barrier") -> np.ndarray:
    """(seeds,) in % of the images of that part; `key`: the barrier, or the children's `error`."""
    return values(records, f"{key} {part}", noise=noise, epoch=epoch)


def named(place: int) -> str:
    """A subset's heading: where its ranks begin."""
    return {0: "lowest", SUBSETS - 1: "highest"}.get(place, f"from {100 * place / SUBSETS:g} %")


def table(records: Records) -> list[Row]:
    """Velocities by moment and rank, the wrong labels among the ranks, and barriers by part and moment."""
    rows: list[Row] = []
    for noise in NOISES:
        for epoch in MOMENTS:
            each = {named(p): shown(velocity(records, noise, epoch, p), digits=1) for p in PLACES}
            rows.append({"wrong labels": f"{noise:.0%}", "velocity after epochs": str(epoch), **each})
    wrong = values(records, "wrong", noise=NOISES[-1], epoch=0)
    each = {named(p): shown(wrong[:, i], digits=0) for i, p in enumerate(PLACES)}
    rows.append({"wrong labels": f"{NOISES[-1]:.0%}", "velocity after epochs": "wrong labels, %", **each})
    for noise in NOISES:
        for part in PARTS:
            each = {f"spawned after {e}": shown(barrier(records, noise, e, part)) for e in MOMENTS}
            rows.append({"wrong labels": f"{noise:.0%}", "barrier on a tenth": part, **each})
            error = np.mean([barrier(records, noise, e, part, "error") for e in MOMENTS], axis=0)
            rows[-1]["error of children"] = shown(error)
    return rows


def findings(records: Records) -> list[str]:
    """What was expected before the first run, and what was measured."""
    said = []
    for epoch in MOMENTS[2:]:
        faster = velocity(records, 0.0, epoch, PLACES[-1]) - velocity(records, 0.0, epoch, 0)
        expected = f"no wrong labels, after epoch {epoch}: the kernel of the highest ranks turns faster than that of the lowest"
        said.append(verdict(expected, faster, 0, "thousandths", 1))
    for epoch in MOMENTS[3:]:
        drop = velocity(records, 0.1, epoch, 17) - velocity(records, 0.1, epoch, PLACES[-1])
        expected = (
            f"10% wrong, after epoch {epoch}: the kernel of the highest ranks turns more slowly than that from 85%"
        )
        said.append(verdict(expected, drop, 0, "thousandths", 1))
    for noise in NOISES:
        at = partial(barrier, records, noise)
        told = f"{noise:.0%} wrong labels: the barrier"
        said += [
            verdict(
                f"{told} of children of epoch 0, highest tenth above random", at(0, "highest") - at(0, "random"), 0
            ),
            verdict(f"{told} of children of epoch 0, random tenth above lowest", at(0, "random") - at(0, "lowest"), 0),
            verdict(f"{told} on the lowest tenth is below 1% after 1 epoch", 1 - at(1, "lowest"), 0),
            verdict(
                f"{told} on the highest tenth falls by half from epoch 0 to 16",
                at(0, "highest") / 2 - at(16, "highest"),
                0,
            ),
        ]
    right = [shown(values(records, noise=noise, epoch=0)) for noise in NOISES]
    return [
        *said,
        f"Children of epoch 0 get {right[0]} % of the test images right, with 10% wrong labels {right[1]} %.",
    ]


def figure(records: Records, file: Path) -> None:
    """Draw the velocity against the rank, a line for each moment, and the barrier against the epoch of the children."""

    def lines(*panels: Any) -> None:
        for axes, noise in zip(panels[:2], NOISES, strict=True):
            for epoch, colour in zip(MOMENTS, colours(), strict=False):
                means, errors = zip(*(spread(velocity(records, noise, epoch, p)) for p in PLACES), strict=True)
                axes.errorbar(
                    [100 * p / SUBSETS for p in PLACES],
                    means,
                    errors,
                    color=colour,
                    marker="o",
                    capsize=3,
                    label=f"after epoch {epoch}",
                )
            axes.set(title=f"{noise:.0%} wrong labels", xlabel="rank by EL2N in %, 0: lowest", yscale="log")
            axes.set(ylabel="velocity of the kernel, thousandths", ylim=(4, 4000))
        for axes, noise in zip(panels[2:], NOISES, strict=True):
            for part, colour in zip(PARTS, (colours()[2], colours()[7], colours()[4]), strict=True):
                means, errors = zip(*(spread(barrier(records, noise, e, part)) for e in MOMENTS), strict=True)
                axes.errorbar(
                    range(len(MOMENTS)), means, errors, color=colour, marker="o", capsize=3, label=f"{part} tenth"
                )
            axes.set_xticks(range(len(MOMENTS)), [str(epoch) for epoch in MOMENTS])
            axes.set(
                title=f"{noise:.0%} wrong labels", xlabel="children spawned after epoch", ylabel="error barrier in %"
            )
        panels[0].legend(fontsize=8, ncols=2, loc="upper left")
        panels[2].legend(fontsize=8, loc="upper right")

    draw(file, lines, width=4.5, panels=4)


WHY = (
    "The barriers are as expected, and large: on the hardest tenth, of which the children themselves learn 93 %, or "
    "79 % under wrong labels, the way between two of them errs on two fifths, or nearly half, of the images beyond "
    "what its ends do; once children are spawned after 8 epochs, less than a tenth of that is left, or a fifth. The lowest tenth "
    "has hardly any barrier, even between children that share nothing but the first weights. Before epoch 2, while the "
    "learning rate is low, all kernels turn alike. Then the easy ones settle first, where labels are right: over the "
    "epochs after 8 and after 16 the lowest turn at about a third of the rate of those from 65 % of the ranks on, "
    "though after 4 and 8 the seeds differ widely. Under wrong labels the lowest turn fastest of all after 2 epochs, "
    "and most slowly of all after 8 and 16. That the highest, nearly all of which are wrong, fall behind those before "
    "them does not show: after 4 and 8 epochs they turn faster, after 16 the difference is within its error. The kernel "
    "is of images only: it knows of labels no more than what the weights have learnt of them."
)
QUESTION = Question(
    "velocity",
    "Which images move the network? Velocity and barriers by score",
    ABOUT,
    runs,
    table,
    findings,
    figure,
    epochs=EPOCHS,
    why=WHY,
)

if __name__ == "__main__":
    QUESTION.main()
