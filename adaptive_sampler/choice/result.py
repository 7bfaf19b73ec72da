"""What was chosen, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptive_sampler.choice.dunnett import detectable, p_value
from adaptive_sampler.choice.halving import Round

CHANCE = 0.8  # with which what is called detectable is found
_ROUNDING = 1e-14  # what rounding leaves of the spread of equal differences, relative to the largest figure


@dataclass(frozen=True)
class Difference:
    """A finalist against the baseline: the mean of the differences at the same seeds, positive where it is better.

    `mean`, `standard_error`: in units of the figure, the latter of these differences alone. `p_value`: of no difference, against
    a gain: the larger one of Dunnett's test, which is corrected for the number of finalists, and of the paired t-test.
    """

    mean: float
    standard_error: float
    p_value: float


@dataclass(frozen=True)
class Choice:
    """What `choose` found.

    `name`, `best`: the candidate to take, and its policy. `baseline`: the name of what it was compared with, which `name` is
    where nothing beat it. `differences`: of each finalist, by name. `out`: candidates that failed or were refused, and why.
    `candidates`: the policy of every name. `rounds`: those before the last comparison. `figures`: (name, seed, share) -> what
    `train` returned. `seeds`: of the last comparison. `level`: the probability of a gain that is none. `spread`: the standard
    deviation of a single full training, pooled over the baseline and the finalists. `notes`: what to know beside.
    """

    name: str
    baseline: str
    differences: Mapping[str, Difference]
    out: Mapping[str, str]
    candidates: Mapping[str, Any]
    rounds: tuple[Round, ...]
    figures: Mapping[tuple[str, int, float], float]
    seeds: int
    level: float
    spread: float
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Any:
        """The policy to take."""
        return self.candidates[self.name]

    @property
    def detectable(self) -> float:
        """The gain, in units of the figure, that would have been found in 80 % of such cases; NaN without finalists or a spread."""
        if not self.differences or not self.spread:
            return float("nan")
        return self.spread * detectable(CHANCE, self.level, len(self.differences), self.seeds)

    @property
    def trainings(self) -> float:
        """How much was trained, in full trainings, by the shares of those that gave a figure."""
        return sum(share for _, _, share in self.figures)

    def mean(self, name: str, share: float = 1.0) -> float:
        """The mean figure of a candidate over its seeds, after this share of a training; NaN if there is none."""
        found = [figure for (whose, _, of), figure in self.figures.items() if whose == name and of == share]
        return float(np.mean(found)) if found else float("nan")

    @property
    def table(self) -> list[dict[str, Any]]:
        """A dict for each candidate, with the same keys: how far it came, its mean there, and the difference if it was last.

        Finalists come first, the best of them at the top, then the baseline, then those that fell out before.
        """
        return sorted(map(self._line, self.candidates), key=self._place)

    def _line(self, name: str) -> dict[str, Any]:
        none = float("nan")
        shares = [share for whose, _, share in self.figures if whose == name]
        share, found = max(shares, default=none), self.differences.get(name)
        return {
            "candidate": name,
            "share": share,
            "seeds": shares.count(share),
            "mean": self.mean(name, share),
            "difference": found.mean if found else none,
            "standard_error": found.standard_error if found else none,
            "p_value": found.p_value if found else none,
            "verdict": self._verdict(name),
        }

    def _place(self, line: Mapping[str, Any]) -> tuple[int, float]:
        """Where a line comes in the table."""
        if line["candidate"] in self.differences:
            return 0, -line["difference"]
        if line["candidate"] == self.baseline:
            return 1, 0.0
        return (2, -line["share"]) if line["share"] > 0 else (3, 0.0)

    def _verdict(self, name: str) -> str:
        if name in self.out:
            return "out"
        if name == self.name:
            return "chosen"
        if name in self.differences:
            return "better too" if self.differences[name].p_value <= self.level else "not better"
        return "" if name == self.baseline else "fell out"

    def __str__(self) -> str:
        lines = self.table
        rows = [list(lines[0]), *([_shown(value) for value in line.values()] for line in lines)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        why = [f"out: {name}: {reason}" for name, reason in self.out.items()]
        return "\n".join([self._found(), "", *table, *why, *self.notes])

    def _found(self) -> str:
        """What was found, in a sentence."""
        if self.name != self.baseline:
            found = self.differences[self.name]
            gain = f"{found.mean:.3g} ± {found.standard_error:.2g}"
            return f"{self.name!r} beats {self.baseline!r} by {gain} (p = {found.p_value:.2g})."
        if not self.differences:
            return f"{self.baseline!r}: no other candidate is left."
        nothing = f"{self.baseline!r}: nothing beats it at seeds={self.seeds}"
        if not self.spread:
            return f"{nothing}."
        return f"{nothing}, where a gain of {self.detectable:.3g} would have been found in {CHANCE:.0%} of all cases."


def _shown(value: Any) -> str:
    return f"{value:.4g}".replace("nan", "") if isinstance(value, float) else str(value)


def compare(baseline: np.ndarray, finalists: Mapping[str, np.ndarray]) -> tuple[dict[str, Difference], float]:
    """The difference of each finalist, and the standard deviation of a single run, pooled over all of them.

    `baseline`: (seeds,) figures, more being better; `finalists`: likewise, at the same seeds. What the seeds have in common is
    taken out (randomised blocks), and what then is left, of the baseline and every finalist alike, estimates the variance. Where
    one arm spreads more than another or two of them move alike, that is too small for some differences, so that the paired t-test
    is asked as well. Differences that are the same at every seed show no chance to compare a gain with: their p value is 1.
    """
    arms, seeds = len(finalists), len(baseline)
    table = np.stack([baseline, *finalists.values()])
    unit = float(np.abs(table).max()) or 1.0  # squares of very large and very small figures would leave float64
    table = table / unit
    left = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    pooled = float(np.sqrt((left**2).sum() / (arms * (seeds - 1))))
    found = {}
    for name, differences in zip(finalists, table[1:] - table[0], strict=True):
        mean, error = float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(seeds))
        if error <= _ROUNDING:
            error, p = 0.0, 1.0
        else:
            dunnett = p_value(mean / (pooled * np.sqrt(2 / seeds)), arms, arms * (seeds - 1))
            p = max(dunnett, p_value(mean / error, 1, seeds - 1))
        found[name] = Difference(mean * unit, error * unit, p)
    return found, pooled * unit if pooled > _ROUNDING else 0.0
