"""Learning what data to learn: does a teacher's choice reach an accuracy in fewer steps than a random one of as many?

Fan et al. 2017, on scikit-learn's digits. One half of the data trains the teacher, in many short trainings; the other half
then trains students that it has not seen. A step has as many samples for all of them, whatever share is kept. The teacher's
rewards come from 200 images of its own; the images that count a student's steps are no part of either half.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_sampler.torch import KeptBatches, Teacher, sooner
from benchmarks.evidence.runs import Question, Records, Run, Trial, colours, draw, shown, spread, values
from benchmarks.evidence.training import digits, with_wrong_labels
from benchmarks.harness import Row

HALF, VALID, BATCH, STUDENTS = 650, 200, 16, 4
AIM = {0.0: 0.92, 0.4: 0.85}  # share of wrong labels -> the accuracy to be reached
MOST = 300  # steps of a student
STEPS, EPISODES, FIRST = 80, 100, 1000  # of an episode at most; of a teacher's learning; the seed of each episode
REWARDS = {"each step": {"discount": 0.5, "lr": 0.05}, "at the end": {"discount": 1.0, "lr": 0.05}}
MODELS = ("softmax regression", "perceptron")  # the students; the teacher has learnt from the first kind
METHODS = ("everything", "random", "teacher")
ABOUT = (
    f"Digits, {HALF} images a half, steps of {BATCH} samples until a test accuracy is reached, {MOST} if it is not; means of "
    f"{STUDENTS} students a seed and teacher, mean ± standard error over the seeds. The teacher, a logistic regression on the "
    f"paper's features, has learnt from {EPISODES} trainings of a softmax regression on the other half. `random` keeps the share "
    "that this teacher kept. Seen are samples, those that were filtered too, in units of a step's."
)
WHY = (
    "No teacher beat chance here. The percentages above are means over the seeds of each one's own, and a seed whose "
    "teacher took four times the steps lifts them beyond what the means of the table give. Those that are rewarded "
    "each step did learn to tell wrong labels, of which they keep far fewer than of right ones, though no one told "
    "them which are wrong. But they fit the one order in which all their episodes took the samples: labels are among "
    "the features, and the teacher of seed 1, looked at again, keeps 18 to 93 % of the right labels, depending on "
    "the digit. In a trial on one seed, teachers whose episodes had orders of their own came to keep everything. The "
    "papers' reward at the end moved the share that is kept, up or down, of right and wrong labels alike. Other ways "
    "of teaching had been tried on seeds 0 to 2 of the same digits and given up, as their teachers came to keep "
    "nearly everything or nearly nothing."
)

Keep = Callable[[Tensor, Tensor], Tensor]  # logits, labels -> (batch,) bool


@dataclass(frozen=True)
class Part:
    """(n, 64) float32 images, (n,) int64 labels as given, and (n,) bool which of them are wrong."""

    images: Tensor
    labels: Tensor
    wrong: Tensor


@dataclass(frozen=True)
class Task:
    """One seed's digits: a half for the teacher, a half for the students, 200 images for rewards, the others for tests."""

    trial: Trial
    noise: float

    @cached_property
    def parts(self) -> list[Part]:
        """The two halves, with wrong labels, and the two other parts, without."""
        images, labels = digits(self.trial.seed)
        found = []
        for number, rows in enumerate(np.split(np.arange(len(labels)), [HALF, 2 * HALF, 2 * HALF + VALID])):
            given = with_wrong_labels(labels[rows], self.noise if number < 2 else 0, 2 * self.trial.seed + number)
            wrong = torch.from_numpy(given != labels[rows])
            found.append(Part(images[rows], torch.from_numpy(given), wrong))
        return found

    def student(self, model: str, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        """A new model of that kind, and its optimizer: without momentum, so that a step's effect shows in the next loss."""
        torch.manual_seed(seed)
        made = {
            "softmax regression": lambda: nn.Linear(64, 10),
            "perceptron": lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        }[model]()
        return made, torch.optim.SGD(made.parameters(), 0.5)

    def batches(self, part: Part, seed: int, most: int) -> Iterator[Tensor]:
        """At most `most` batches of rows, one shuffled pass after another."""
        rng, count = np.random.default_rng([self.trial.seed, 1, seed]), 0
        while True:
            for rows in torch.from_numpy(rng.permutation(len(part.labels))).split(BATCH):
                if count == most:
                    return
                count += 1
                yield rows

    def taught(self, rewards: str) -> Teacher:
        """A teacher after its episodes on the first half."""
        teacher = Teacher(10, 2 * STEPS, hidden=0, seed=self.trial.seed, **REWARDS[rewards])
        for _ in range(2 if self.trial.quick else EPISODES):
            self.episode(teacher, at_the_end=rewards == "at the end")
        return teacher.eval()

    def episode(self, teacher: Teacher, at_the_end: bool) -> None:
        """One training: each step is rewarded by how far the validation loss fell, or the training by when it got there.

        All begin with one model and take the samples in one order: what the rewards of a step differ by is what was kept.
        """
        part, _, valid, _ = self.parts
        (student, optimizer), kept, step = self.student(MODELS[0], FIRST), KeptBatches(BATCH), 0
        before, accuracy, most = loss_and_accuracy(student, valid)[0], 0.0, 4 if self.trial.quick else STEPS
        for rows in self.batches(part, FIRST, 2 * most):
            with torch.no_grad():
                keep = teacher(student(part.images[rows]), part.labels[rows])
            for images, labels in kept.add(keep, part.images[rows], part.labels[rows]):
                descend(optimizer, student(images), labels)
                step += 1
                now, accuracy = loss_and_accuracy(student, valid)
                teacher.validated(accuracy)
                if not at_the_end:
                    teacher.reward(before - now)
                before = now
            if step == most or (at_the_end and accuracy >= AIM[self.noise]):
                break
        if at_the_end:
            teacher.reward(sooner(step if accuracy >= AIM[self.noise] else STEPS, STEPS))
        if step or at_the_end:
            teacher.learn()
        else:  # nothing was kept, so nothing was rewarded
            teacher.begin()

    def steps(self, keep: Keep, model: str, seed: int, teacher: Teacher | None = None) -> "Steps":
        """Train a student on what `keep` keeps of the second half, until it reaches the aim on the test images."""
        _, part, valid, test = self.parts
        (student, optimizer), kept, found = self.student(model, seed), KeptBatches(BATCH), Steps()
        most = 4 if self.trial.quick else MOST
        for rows in self.batches(part, seed, 4 * most):
            with torch.no_grad():
                keeps = keep(student(part.images[rows]), part.labels[rows])
            found.saw(keeps, part.wrong[rows])
            for images, labels in kept.add(keeps, part.images[rows], part.labels[rows]):
                descend(optimizer, student(images), labels)
                found.steps += 1
                if teacher is not None:
                    teacher.validated(loss_and_accuracy(student, valid)[1])
                if found.steps == most or loss_and_accuracy(student, test)[1] >= AIM[self.noise]:
                    return found
        found.steps = most  # so little was kept that the aim was out of reach
        return found

    def compared(self, rewards: str) -> Row:
        """Teach; then, of each kind of student, the means over those that trained on everything, by the teacher, by chance."""
        teacher, row = self.taught(rewards), {}
        for model in MODELS:
            found: dict[str, list[Steps]] = {method: [] for method in METHODS}
            for seed in range(1 if self.trial.quick else STUDENTS):
                teacher.begin()
                by_teacher = self.steps(teacher, model, seed, teacher)
                rng = np.random.default_rng([self.trial.seed, 2, seed])
                found["teacher"].append(by_teacher)
                found["random"].append(self.steps(partial(by_chance, rng, by_teacher.share), model, seed))
                found["everything"].append(self.steps(everything, model, seed))
            for method in METHODS:
                row[f"{model}, {method}, steps"] = float(np.mean([s.steps for s in found[method]]))
                row[f"{model}, {method}, seen"] = float(np.mean([s.seen for s in found[method]])) / BATCH
            right, wrong = (sum(getattr(s, kind) for s in found["teacher"]) for kind in ("right", "wrong"))
            row[f"{model}, kept of right"] = 100 * float(right[0] / right[1])
            row[f"{model}, kept of wrong"] = 100 * float(wrong[0] / max(wrong[1], 1))
        return row


class Steps:
    """What became of one student: its `steps`, the samples `seen`, and of right and wrong labels (kept, seen)."""

    def __init__(self) -> None:
        self.steps = self.seen = 0
        self.right, self.wrong = np.zeros(2, int), np.zeros(2, int)

    def saw(self, keep: Tensor, wrong: Tensor) -> None:
        """Count a batch."""
        self.seen += len(keep)
        self.right += int((keep & ~wrong).sum()), int((~wrong).sum())
        self.wrong += int((keep & wrong).sum()), int(wrong.sum())

    @property
    def share(self) -> float:
        """The share that was kept."""
        return float(self.right[0] + self.wrong[0]) / self.seen


def everything(logits: Tensor, labels: Tensor) -> Tensor:
    """Keep every sample."""
    return torch.ones_like(labels, dtype=torch.bool)


def by_chance(rng: np.random.Generator, share: float, logits: Tensor, labels: Tensor) -> Tensor:
    """Keep each sample with the probability `share`."""
    return torch.from_numpy(rng.random(len(labels)) < share)


def descend(optimizer: torch.optim.Optimizer, logits: Tensor, labels: Tensor) -> None:
    """One step."""
    optimizer.zero_grad()
    nn.functional.cross_entropy(logits, labels).backward()
    optimizer.step()


@torch.no_grad()
def loss_and_accuracy(model: nn.Module, part: Part) -> tuple[float, float]:
    """The mean loss in nats and the share of right answers."""
    logits = model(part.images)
    right = (logits.argmax(1) == part.labels).double().mean()
    return nn.functional.cross_entropy(logits, part.labels).item(), right.item()


def runs(trial: Trial) -> Iterator[Run]:
    """Yield the runs of one seed: a teacher for each share of wrong labels and each kind of reward."""
    for noise in AIM:
        for rewards in REWARDS:
            yield {"noise": noise, "rewards": rewards}, partial(Task(trial, noise).compared, rewards)


def figures(records: Records, noise: float, rewards: str, key: str) -> np.ndarray:
    """(seeds,) one figure of the runs with this setting."""
    return values(records, key, noise=noise, rewards=rewards)


def table(records: Records) -> list[Row]:
    """A row for each share of wrong labels, kind of student, kind of reward and method."""
    rows: list[Row] = []
    for noise, model, rewards in product(AIM, MODELS, REWARDS):
        told = partial(figures, records, noise, rewards)
        for method in METHODS[rewards != "each step" :]:  # everything is the same under either reward
            row: Row = {"wrong labels": f"{noise:.0%}", "student": model, "aim, %": f"{100 * AIM[noise]:.0f}"}
            row |= {"kept by": method if method == "everything" else f"{method}, rewards {rewards}"}
            row |= {unit: shown(told(f"{model}, {method}, {unit}"), digits=0) for unit in ("steps", "seen")}
            for kind in ("right", "wrong"):
                known = method == "teacher" and (noise > 0 or kind == "right")
                row[f"kept of {kind}, %"] = shown(told(f"{model}, kept of {kind}"), digits=0) if known else "–"
            rows.append(row)
    return rows


def findings(records: Records) -> list[str]:
    """Of each setting: the teacher's steps against chance and against everything. Fewer than by chance was expected."""
    said = []
    for noise, rewards, model in product(AIM, REWARDS, MODELS):
        steps = {m: figures(records, noise, rewards, f"{model}, {m}, steps") for m in METHODS}
        random, all_of_it = (100 * (steps["teacher"] / steps[m] - 1) for m in ("random", "everything"))
        told = (
            f"{noise:.0%} wrong labels, rewards {rewards}, {model}: steps to the aim by a teacher {shown(random, True, 0)} % "
            f"against a random filter of the same rate, {shown(all_of_it, True, 0)} % against none"
        )
        mean, error = spread(random)
        expected = f"; fewer than at random by two standard errors: {'met' if mean < -2 * error else 'not met'}"
        said.append(told + (expected if model == MODELS[0] else "") + ".")
    return said


def figure(records: Records, file: Path) -> None:
    """Draw the steps of each method, a panel for each share of wrong labels."""

    def lines(*panels: Any) -> None:
        for axes, noise in zip(panels, AIM, strict=True):
            places = [(model, rewards) for model in MODELS for rewards in REWARDS]
            for shift, (method, colour) in enumerate(
                zip(METHODS, (colours()[7], colours()[2], colours()[5]), strict=True)
            ):
                for place, (model, rewards) in enumerate(places):
                    mean, error = spread(figures(records, noise, rewards, f"{model}, {method}, steps"))
                    axes.bar(
                        place + 0.27 * (shift - 1),
                        mean,
                        0.27,
                        yerr=error,
                        color=colour,
                        capsize=3,
                        label=method if not place else None,
                    )
            axes.set_xticks(
                range(len(places)), [f"{model}\nrewards {rewards}" for model, rewards in places], fontsize=7
            )
            axes.set(title=f"{noise:.0%} wrong labels", ylabel=f"steps to {100 * AIM[noise]:.0f} % test accuracy")
        panels[0].legend(fontsize=8, loc="upper left")

    draw(file, lines, panels=len(AIM))


QUESTION = Question(
    "teacher", "Learning what data to learn", ABOUT, runs, table, findings, figure, why=WHY, data=lambda given: None
)

if __name__ == "__main__":
    QUESTION.main()
