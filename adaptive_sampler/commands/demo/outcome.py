"""Summarises the demo's results: means over seeds, differences paired by seed, and sentences on what helped."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from adaptive_sampler.commands.demo.experiments import Result

BASELINE = "full set"

# (method, baseline): what is compared with what, in each question that has both.
COMPARISONS = (
    ("half by EL2N", "random half"),
    ("half by EL2N", BASELINE),
    ("half by EL2N, equal steps", "random half, equal steps"),
    ("half by EL2N, equal steps", BASELINE),
    ("half by EL2N, in one run", BASELINE),
    ("half with highest EL2N", BASELINE),
    ("half in a window of EL2N", BASELINE),
    ("half in a window of EL2N", "half with highest EL2N"),
    ("JTT", BASELINE),
)


class OverSeeds(NamedTuple):
    """A mean over seeds and the standard deviation between them (ddof 1; 0 for one seed)."""

    mean: float
    std: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.std:.1f}"


def spread(values: Sequence[float]) -> OverSeeds:
    """The mean and standard deviation of `values`, one per seed."""
    return OverSeeds(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


class Line(NamedTuple):
    """One method of one question, over all seeds."""

    question: str
    method: str
    steps: float
    accuracy: OverSeeds
    worst_group: OverSeeds | None
    against_full: OverSeeds | None
    choices: str
    seeds: tuple[float, ...]  # the accuracy that is compared, of each seed: the worst group's if there are groups


def lines(results: Sequence[Result]) -> list[Line]:
    """The table, in the order in which the methods were run."""
    return [_line(results, *names) for names in dict.fromkeys((r.question, r.method) for r in results)]


def verdicts(results: Sequence[Result]) -> list[str]:
    """A sentence for each comparison.

    A difference is clear if its 95 % interval (Student's t over the seeds) does not contain 0.
    """
    table = lines(results)
    sentences = []
    for question in dict.fromkeys(line.question for line in table):
        methods = {line.method: line for line in table if line.question == question}
        for method, baseline in COMPARISONS:
            if method in methods and baseline in methods:
                sentences.append(f"{question}: {_verdict(methods[method], methods[baseline])}")
    return sentences


def _line(results: Sequence[Result], question: str, method: str) -> Line:
    ours = [r for r in results if (r.question, r.method) == (question, method)]
    full = [r for r in results if (r.question, r.method) == (question, BASELINE)]
    worst = [r.worst_group for r in ours if r.worst_group is not None]
    differences = [a - b for a, b in zip(map(_compared, ours), map(_compared, full), strict=True)]
    chosen = Counter(r.choice for r in ours if r.choice is not None)
    return Line(
        question,
        method,
        float(np.mean([r.steps for r in ours])),
        spread([r.accuracy for r in ours]),
        spread(worst) if worst else None,
        None if method == BASELINE else spread(differences),
        ", ".join(f"{choice:g} ({times}×)" for choice, times in sorted(chosen.items())),
        tuple(map(_compared, ours)),
    )


def _compared(result: Result) -> float:
    return result.accuracy if result.worst_group is None else result.worst_group


def _verdict(line: Line, baseline: Line) -> str:
    differences = np.subtract(line.seeds, baseline.seeds)
    mean, seeds = float(differences.mean()), len(differences)
    what = "accuracy" if line.worst_group is None else "worst-group accuracy"
    ahead = f"ahead in {int((differences > 0).sum())} of {seeds} seeds"
    if seeds < 2:
        return f"{line.method} − {baseline.method}: {mean:+z.1f} points of {what}; one seed tells nothing"
    half_width = float(student.ppf(0.975, seeds - 1) * differences.std(ddof=1)) / seeds**0.5
    word = "no clear difference" if abs(mean) <= half_width else "better" if mean > 0 else "worse"
    return f"{line.method} − {baseline.method}: {word}, {mean:+z.1f} ± {half_width:.1f} points of {what}, {ahead}"
