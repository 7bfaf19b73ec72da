"""Finding wrong labels: does one training's store rank them as well as cleanlab does?

20 % of 55,000 labels are replaced by another class, uniformly. One training with a hook gives EL2N, forgetting events,
the margin (AUM) and the loss, each over all epochs. Its final model gives influence on 1,000 clean images, and the
probabilities by which cleanlab ranks. cleanlab's own recipe takes probabilities from cross-validation, which trains
three more models.
"""

from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score
from torch import nn

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import EL2N, Forgetting, Loss, Margin
from adaptive_sampler.scoring.folds import Mean
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.torch import LossHook
from benchmarks.evidence.clean import influence_on
from benchmarks.evidence.runs import Question, Records, Run, Trial, colours, draw, seeds_of, shown, verdict
from benchmarks.evidence.training import Images, logits_of, train, with_wrong_labels
from benchmarks.harness import Row

NOISE, FOLDS, CLEAN = 0.2, 3, 1000
DAMPING = (0.1, 1.0)  # both are reported: choosing one would need the right labels
SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)  # of the samples, which are inspected from the most suspect on
INSTALLED = version("cleanlab") if find_spec("cleanlab") else None  # not a dependency of this package
CLEANLAB = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
ABOUT = (
    "20 % of 55,000 labels are wrong, uniformly. Samples ranked by each score, the most suspect first: average precision, "
    "precision of the first 10 %, of the first 20 % (as many as are wrong, so recall is the same), recall in the first 30 %; "
    "in %, mean ± standard error. No ranking has seen a right label, but influence: 1,000 of them."
)


def runs(trial: Trial) -> Iterator[Run]:
    """Yield the runs of one seed: one training with all its rankings, and the cross-validated rankings."""
    yield {"from": "one training", "cleanlab": INSTALLED}, lambda: one_training(trial)
    yield {"from": f"{FOLDS} folds", "cleanlab": INSTALLED}, lambda: cross_validated(trial)


def noisy(trial: Trial) -> tuple[Images, np.ndarray, Images]:
    """Make wrong labels -> (training images with the labels as given, (n,) bool which are wrong, clean images)."""
    data, held = trial.held_out()
    given = with_wrong_labels(data.labels.numpy(), NOISE, trial.seed)
    return data.relabelled(given), given != data.labels.numpy(), held.part(np.arange(min(CLEAN, len(held))))


def one_training(trial: Trial) -> Row:
    """All rankings that come from one training on the labels as given."""
    data, wrong, clean = noisy(trial)
    scores = [EL2N(), Forgetting(never_learned="presentations"), Margin(), Loss(fold=Mean())]
    with ScoreStore.create(None, len(data), scores) as store:
        hook = LossHook(nn.CrossEntropyLoss(), store)
        sampler = AdaptiveSampler(store, KeepAll(), seed=trial.seed)
        model = train(data, sampler, seed=trial.seed, epochs=trial.epochs, criterion=hook).model
        suspicion = {name: store[name] for name in ("el2n", "forgetting", "loss")} | {"margin (AUM)": -store["margin"]}
    suspicion |= influences(model, data, clean, trial.quick)
    probabilities = logits_of(model, data).double().softmax(1).numpy()
    return told(suspicion | by_probabilities(data, probabilities, "same model"), wrong)


def influences(model: nn.Module, data: Images, clean: Images, quick: bool) -> dict[str, np.ndarray]:
    """The (n,) influences for each damping, by name."""
    more = 100 if quick else 1  # after three epochs on little data the Hessian is far from positive definite
    return {f"influence, damping {d:g}": influence_on(model, data, clean, more * d) for d in DAMPING}


def cross_validated(trial: Trial) -> Row:
    """cleanlab's recipe: each sample's probabilities from a model that has not seen it."""
    data, wrong, _ = noisy(trial)
    fold = np.random.default_rng([trial.seed, 2]).integers(0, FOLDS, len(data))
    probabilities = np.zeros((len(data), 10))
    for number in range(FOLDS):
        seen, unseen = data.part(np.flatnonzero(fold != number)), data.part(np.flatnonzero(fold == number))
        model = train(seen, trial.everything(len(seen)), seed=trial.seed, epochs=trial.epochs).model
        probabilities[fold == number] = logits_of(model, unseen).double().softmax(1).numpy()
    return told(by_probabilities(data, probabilities, f"{FOLDS} folds"), wrong)


def by_probabilities(data: Images, probabilities: np.ndarray, whose: str) -> dict[str, np.ndarray]:
    """cleanlab's rankings if it is installed, otherwise 1 − p of the given label, which is not cleanlab's."""
    given = data.labels.numpy()
    if not INSTALLED:
        return {f"1 − p(label), {whose}": 1 - probabilities[np.arange(len(given)), given]}
    from cleanlab.rank import get_label_quality_scores

    return {
        f"cleanlab {method}, {whose}": -get_label_quality_scores(given, probabilities, method=method)
        for method in CLEANLAB
    }


def told(suspicion: dict[str, np.ndarray], wrong: np.ndarray) -> Row:
    """For each ranking, in percent: average precision, and precision and recall in the first share, for each of SHARES."""
    found: Row = {}
    for name, scores in suspicion.items():
        tied = np.random.default_rng(0).permutation(len(scores))  # so that equal scores are in random order
        ranked = wrong[tied[np.argsort(-scores[tied], kind="stable")]]
        caught = [int(ranked[: round(share * len(ranked))].sum()) for share in SHARES]
        found[name] = {
            "average precision": 100 * float(average_precision_score(wrong, scores)),
            "precision": [100 * c / round(s * len(ranked)) for c, s in zip(caught, SHARES, strict=True)],
            "recall": [100 * c / int(wrong.sum()) for c in caught],
        }
    return found


def figures(records: Records, name: str, key: str, share: float | None = None) -> np.ndarray:
    """(seeds,) the figure `key` of one ranking; `share`: in the first samples of this share."""
    mine = [next(r["found"][name] for r in records if r["seed"] == s and name in r["found"]) for s in seeds_of(records)]
    return np.array([m[key] if share is None else m[key][SHARES.index(share)] for m in mine])


def rankings(records: Records) -> list[str]:
    """The names of all rankings."""
    return list(dict.fromkeys(name for r in records for name in r["found"]))


def table(records: Records) -> list[Row]:
    """A row for each ranking, the best average precision first."""
    rows: list[Row] = []
    for name in sorted(rankings(records), key=lambda n: -figures(records, n, "average precision").mean()):
        row: Row = {"ranked by": name, "average precision": shown(figures(records, name, "average precision"))}
        row |= {f"precision, first {s:.0%}": shown(figures(records, name, "precision", s)) for s in (0.1, 0.2)}
        rows.append(row | {"recall, first 30%": shown(figures(records, name, "recall", 0.3))})
    return rows


def findings(records: Records) -> list[str]:
    """Our best ranking against cleanlab's best one, on the same model and with cleanlab's own recipe; best by the figure itself."""
    names = rankings(records)
    ours = [n for n in names if not n.startswith(("cleanlab", "1 − p"))]
    best = max(ours, key=lambda n: figures(records, n, "average precision").mean())
    said = []
    for whose in ("same model", f"{FOLDS} folds"):
        theirs = [n for n in names if n.startswith("cleanlab") and n.endswith(whose)]
        if not theirs:
            said.append(
                f"cleanlab was not installed where this ran ({whose}): the table has 1 − p(label) in its place."
            )
            continue
        rival = max(theirs, key=lambda n: figures(records, n, "average precision").mean())
        about = (
            f"{best}, the best of ours, at least the average precision of {rival}, the best of cleanlab "
            f"{records[0]['cleanlab']}'s three"
        )
        ahead = figures(records, best, "average precision") - figures(records, rival, "average precision")
        said.append(verdict(about, ahead, 0))
    return said


def figure(records: Records, file: Path) -> None:
    """Draw the recall against the share inspected."""
    mine = [n for n in rankings(records) if not n.startswith("1 − p") and "entropy" not in n and "margin, " not in n]

    def lines(axes: Any) -> None:
        for name, colour in zip(mine, colours(), strict=False):
            recall = [figures(records, name, "recall", share).mean() for share in SHARES]
            axes.plot([100 * s for s in SHARES], recall, color=colour, marker="o", markersize=3, label=name)
        axes.plot([0, 20, 40], [0, 100, 100], color="#bbbbbb", linestyle=":", label="perfect")
        axes.set(xlabel="share inspected in %", ylabel="wrong labels found in %")
        axes.legend(fontsize=8, loc="lower right")

    draw(file, lines)


QUESTION = Question("wrong_labels", "Finding wrong labels", ABOUT, runs, table, findings, figure)

if __name__ == "__main__":
    QUESTION.main()
