"""How many runs? A score of one training against the mean of 2, 4 and 10, and what the half that each keeps is worth.

Paul et al. 2021 average ten trainings, with bands from 16 to 84 %. Here twenty trainings of a seed score the same images. The
first ten make the means; the mean of the other ten is what these are compared with.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.ranking import bands, stability
from adaptive_sampler.ranking import runs as each_run
from adaptive_sampler.scoring import EL2N, Forgetting, GraNd, Mean, Score
from adaptive_sampler.torch import LossHook, PrunedSampler, grand
from benchmarks.evidence.runs import Question, Records, Run, Trial, colours, draw, shown, spread, values, verdict
from benchmarks.evidence.training import Images, Training, accuracy, in_order, logits_of, perceptron
from benchmarks.harness import Row

NUMBER, EPOCHS, SCORE_EPOCHS = 20_000, 5, 3  # images to train on, epochs on the half, and of each training that scores
KEEP, MOST, GROUPS = 0.5, 10, 5  # what is kept, the most runs of a mean, and of how many means a band is made
RETRAINED = {1: 2, 2: 1, 4: 1, MOST: 1}  # runs of a mean -> how many of these means are trained with
KINDS = {"el2n": "EL2N", "grand": "GraNd", "forgetting": "forgetting"}
AGREE = {"spearman": "rank correlation with the mean of 10 others", "kept": "half in common with theirs, %"}
ABOUT = (
    f"Scores of short trainings, {SCORE_EPOCHS} epochs of a perceptron with 128 hidden units on {NUMBER:,} Fashion-MNIST images, "
    "other ones for each seed: EL2N and GraNd at the end, forgetting over all epochs. A mean of several runs against the mean of "
    f"ten others; then test accuracy after {EPOCHS} epochs on the half it keeps, less that of a random half, in points. Mean ± "
    "standard error over the seeds; 16–84 % are percentiles over all means of all seeds. In doubt: images whose score lies, from "
    f"the 16th to the 84th percentile of {GROUPS} such means, on either side of the median; that of "
    "forgetting is 0, never."
)


def runs(trial: Trial) -> Iterator[Run]:
    """Yield the runs of one seed: everything, a random half, then each score's half by means of so many runs."""
    averages = Averages(trial)
    yield {"by": "full"}, lambda: averages.trained(trial.everything(len(averages.data)))
    yield {"by": "random"}, averages.at_random
    for kind in KINDS:
        for number in RETRAINED:
            yield {"by": kind, "runs": number}, partial(averages.compared, kind, number)


@dataclass(frozen=True)
class Averages:
    """A trial's images, their scores in each of twenty runs, and the trainings on halves by means of these."""

    trial: Trial

    @cached_property
    def parts(self) -> tuple[Images, Images]:
        """Training and held-out images."""
        return self.trial.some(NUMBER)

    @property
    def data(self) -> Images:
        """The images to train on."""
        return self.parts[0]

    @cached_property
    def store(self) -> ScoreStore:
        """The scores, with each run kept apart."""
        return self.trial.scored("averages", self._scored)

    def _scored(self, path: Path) -> ScoreStore:
        own = Score("forgetting", lambda value: value, Mean())
        store = ScoreStore.create(path, len(self.data), [EL2N(), GraNd(), own], overwrite=True, runs="kept")
        for run in range(2 * MOST):
            store.begin_run(f"run {run}")
            self._watched(1000 * (run + 1) + self.trial.seed, store)
        return store

    def _watched(self, seed: int, store: ScoreStore) -> None:
        """Train once, and fold all three scores at the end."""
        n, epochs = len(self.data), min(self.trial.epochs, SCORE_EPOCHS)
        live = ScoreStore.create(None, n, [Forgetting(never_learned="presentations")])
        hook = LossHook(nn.CrossEntropyLoss(), live)
        model = Training(self.data, self.trial.everything(n, seed), perceptron(seed), epochs, hook).fit()
        store.fold("el2n", np.arange(n), EL2N().measure(logits_of(model, self.data), self.data.labels))
        store.fold("forgetting", np.arange(n), live["forgetting"])
        for rows, (images, labels) in in_order(self.data):
            store.fold("grand", rows, grand(model, images, labels, chunk_size=1000).numpy())

    def each(self, kind: str) -> list[np.ndarray]:
        """The score of each of the twenty runs."""
        return list(each_run(self.store, kind).values())

    def compared(self, kind: str, number: int) -> Row:
        """Means of `number` of the first ten runs: how each agrees with the other ten, and what its half is worth."""
        each = self.each(kind)
        others = averaged(each[MOST:])
        means = [averaged(each[start : start + number]) for start in range(0, MOST - number + 1, number)]
        found = [stability(mean["score"], others["score"], keep=KEEP) for mean in means]
        trained = [self.half(mean) for mean in means[: RETRAINED[number]]]
        row: Row = {"each spearman": [f.spearman for f in found], "each kept": [100 * f.kept for f in found]}
        row |= {"each accuracy": trained, "accuracy": float(np.mean(trained))}
        row |= {key: float(np.mean(row[f"each {key}"])) for key in AGREE}
        if GROUPS * number <= len(each):
            row["in doubt"] = in_doubt([averaged(each[g * number : (g + 1) * number])["score"] for g in range(GROUPS)])
        return row

    def half(self, store: ScoreStore) -> float:
        """The test accuracy after training on the half with the highest score."""
        return self.trained(PrunedSampler(store, keep=KEEP, by="score", seed=self.trial.seed))["accuracy"]

    def at_random(self) -> Row:
        """Train on a random half."""
        return self.trained(self.trial.at_random(len(self.data), KEEP))

    def trained(self, sampler: AdaptiveSampler) -> Row:
        """Train with `sampler` -> the accuracy on the test set in percent."""
        net = perceptron(self.trial.seed)
        model = Training(self.data, sampler, net, self.trial.epochs, nn.CrossEntropyLoss()).fit()
        return {"accuracy": accuracy(model, self.trial.data.test)}


def averaged(scores: Sequence[np.ndarray]) -> ScoreStore:
    """A store whose `score` is the mean of these (n,) scores, each a run that is kept."""
    store = ScoreStore.create(None, len(scores[0]), [Score("score", lambda value: value, Mean())], runs="kept")
    for number, one in enumerate(scores):
        store.begin_run(f"{number}")
        store.fold("score", np.arange(len(one)), one)
    return store


def in_doubt(scores: Sequence[np.ndarray]) -> float:
    """The share of rows, in percent, whose band from 16 to 84 % of these (n,) scores has the median of their mean inside."""
    store = averaged(scores)
    band, median = bands(store, "score"), np.median(store["score"])
    return 100 * float(np.mean((band.low < median) & (median < band.high)))


def figures(records: Records, kind: str, number: int, key: str = "accuracy") -> np.ndarray:
    """(seeds,) a figure of means of so many runs; of accuracy, how far it is ahead of a random half."""
    found = values(records, key, by=kind, runs=number)
    return found - values(records, by="random") if key == "accuracy" else found


def each_of(records: Records, kind: str, number: int, key: str) -> np.ndarray:
    """(all means of all seeds,) a figure; of accuracy, how far it is ahead of the seed's random half."""
    mine = [r for r in records if r["by"] == kind and r.get("runs") == number]
    less = {r["seed"]: r["found"]["accuracy"] if key == "accuracy" else 0 for r in records if r["by"] == "random"}
    return np.array(list(chain(*([f - less[r["seed"]] for f in r["found"][f"each {key}"]] for r in mine))))


def banded(found: np.ndarray, digits: int, signed: bool = False) -> str:
    """The 16th and the 84th percentile, as text."""
    return " to ".join(f"{p:{'+' if signed else ''}.{digits}f}" for p in np.percentile(found, (16, 84)))


def doubted(kind: str) -> list[int]:
    """The numbers of runs of which doubt is told: of ten there are too few means. The median of forgetting is never: 0."""
    return [] if kind == "forgetting" else [number for number in RETRAINED if GROUPS * number <= 2 * MOST]


def table(records: Records) -> list[Row]:
    """A row for each score and number of runs."""
    rows: list[Row] = [{"test accuracy, %": by, "mean": shown(values(records, by=by))} for by in ("full", "random")]
    for kind, number in product(KINDS, RETRAINED):
        row: Row = {"score": KINDS[kind], "mean of runs": str(number)}
        for key, digits in (("spearman", 3), ("kept", 1)):
            row[AGREE[key]] = shown(figures(records, kind, number, key), digits=digits)
            row[f"{'its' if key == 'spearman' else 'their'} 16–84 %"] = banded(
                each_of(records, kind, number, key), digits
            )
        known = number in doubted(kind)
        row["in doubt, %"] = shown(figures(records, kind, number, "in doubt"), digits=1) if known else "–"
        rows.append(row)
    for kind in KINDS:
        for number in RETRAINED:
            row = {"half by": KINDS[kind], "mean of runs": str(number)}
            row["ahead of random, points"] = shown(figures(records, kind, number), signed=True)
            row["16–84 %"] = banded(each_of(records, kind, number, "accuracy"), 2, signed=True)
            rows.append(row)
    return rows


def findings(records: Records) -> list[str]:
    """What was expected before the first run, and what was measured."""

    def agreement(kind: str, number: int) -> np.ndarray:
        return figures(records, kind, number, "spearman")

    def ahead(kind: str, number: int, other: int) -> np.ndarray:
        return figures(records, kind, number) - figures(records, kind, other)

    unit = "of correlation"
    return [
        verdict("one run of EL2N ranks as ten others do (rank correlation 0.9)", agreement("el2n", 1), 0.9, unit),
        verdict("ten runs of EL2N rank as ten others do (rank correlation 0.98)", agreement("el2n", MOST), 0.98, unit),
        verdict(
            "one run of EL2N agrees more than one of GraNd", agreement("el2n", 1) - agreement("grand", 1), 0, unit, 3
        ),
        verdict(
            "ten runs of forgetting agree more than one does, by 0.2",
            agreement("forgetting", MOST) - agreement("forgetting", 1),
            0.2,
            unit,
        ),
        verdict("half by ten runs of EL2N, ahead of that by one by 0.2 points", ahead("el2n", MOST, 1), 0.2),
        verdict("half by ten runs of GraNd, ahead of that by one by 0.2 points", ahead("grand", MOST, 1), 0.2),
        verdict(
            "half by ten runs of forgetting, ahead of that by one by 0.3 points", ahead("forgetting", MOST, 1), 0.3
        ),
        verdict("half by four runs of EL2N, at most 0.1 points behind that by ten", ahead("el2n", 4, MOST), -0.1),
        verdict("half by one run of EL2N, ahead of a random half", figures(records, "el2n", 1), 0),
    ]


def figure(records: Records, file: Path) -> None:
    """Draw agreement, doubt and accuracy against the number of runs; agreement and accuracy with their bands."""

    def lines(agreement: Any, doubt: Any, gain: Any) -> None:
        numbers = list(RETRAINED)
        for kind, colour in zip(KINDS, colours(), strict=False):
            for axes, key in ((agreement, "spearman"), (gain, "accuracy")):
                low, high = zip(
                    *(np.percentile(each_of(records, kind, m, key), (16, 84)) for m in numbers), strict=True
                )
                axes.fill_between(numbers, low, high, color=colour, alpha=0.15)
            for axes, key in ((agreement, "spearman"), (doubt, "in doubt"), (gain, "accuracy")):
                here = doubted(kind) if key == "in doubt" else numbers
                if not here:
                    continue
                means, errors = zip(*(spread(figures(records, kind, m, key)) for m in here), strict=True)
                axes.errorbar(here, means, errors, color=colour, marker="o", capsize=3, label=KINDS[kind])
        for axes in (agreement, doubt, gain):
            axes.set(xscale="log", xlabel="runs of the mean")
            axes.set_xticks(numbers, labels=[str(m) for m in numbers])
            axes.minorticks_off()
        gain.axhline(0, color="#888888", linewidth=1)
        agreement.set(ylabel="rank correlation with ten others")
        doubt.set(ylabel="in doubt, % of the images")
        gain.set(ylabel="half kept: points ahead of random")
        agreement.legend(fontsize=8, loc="lower right")

    draw(file, lines, width=4.5, panels=3)


WHY = (
    "For the ranking one training is enough by EL2N or GraNd, taken at its end: it ranks as ten others do, and keeps 96 % of their "
    "half. Accuracy tells no clear tale: from one run to ten EL2N's half gains 0.3 points and GraNd's loses as much, which is 2.4 "
    "and 1.4 standard errors. Three epochs to the end are worth more here than a look at a longer training while its learning "
    "rate is high, as in the question before. Forgetting needs runs: in three epochs it is 0 for most samples, so that one run "
    "leaves most of the half to chance; its half by one run is no better than a random one."
)
QUESTION = Question("how_many", "How many runs?", ABOUT, runs, table, findings, figure, EPOCHS, why=WHY)

if __name__ == "__main__":
    QUESTION.main()
