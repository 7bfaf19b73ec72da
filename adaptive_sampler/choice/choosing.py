"""Choose a policy by trainings, and the baseline unless something beats it."""

import dataclasses
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from adaptive_sampler.checks import is_number, whole_number
from adaptive_sampler.choice.dunnett import detectable, power, seeds_for
from adaptive_sampler.choice.grid import Grid
from adaptive_sampler.choice.halving import Round, rounds
from adaptive_sampler.choice.result import CHANCE, Choice, compare
from adaptive_sampler.choice.trainings import Key, Trainings
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.progress import Show, Tell, shown
from adaptive_sampler.selection.base import check_choice, describe

Train = Callable[[Any, int, float], Any]
GAIN = 2.5  # standard deviations of a single run: a gain that the seeds should suffice for


def choose(
    candidates: Mapping[str, Any],
    train: Train,
    *,
    seeds: int = 10,
    budget: float | None = None,
    baseline: str = "random",
    better: Literal["higher", "lower"] = "higher",
    finalists: int = 2,
    first_share: float = 0.25,
    level: float = 0.025,
    path: str | Path | None = None,
    progress: Show = None,
) -> Choice:
    """Find the candidate that trains best; it is the baseline unless another one beats it beyond what chance explains.

    Rounds of successive halving (Jamieson and Talwalkar 2016) come first: every candidate but the baseline trains a share of
    a training, and half of them go on to the next round, with twice the share. The `finalists` that are left and the baseline
    then train in full on the same `seeds`, which no round has used. Each finalist's mean difference to the baseline is held
    against Dunnett's one-sided test (1955), in blocks by seed and with the variance pooled over these arms, and against the
    paired t-test. Of those that pass both, the one of the highest mean is chosen. So if no candidate is better, one is chosen
    with a probability of about `level`, however many there were. The tests take figures as about normal.

    Args:
        candidates: policies by name, and grids of them by `grid`, whose policies get the grid's name and their arguments. Other
            values that `train` understands will do, if a plan could name them as a policy's argument.
        train: train(policy, seed, share) trains for that share, in (0, 1], of a training, with everything random derived from
            the seed, and returns a validation figure. A figure of the test set would be used up by the choice.
        seeds: how many full trainings the baseline and each finalist get, 2 or more. Fewer than find a gain of 2.5 standard
            deviations of a single run in 80 % of all cases are warned of, with that number.
        budget: of full trainings, in all, to which each adds its share. None: half of what every candidate on every seed takes
            or, if that is too little, two seeds in every round. It decides how many seeds the rounds have.
        baseline: the name of the candidate to beat.
        better: whether a higher or a lower figure is the better one.
        finalists: how many candidates are held against the baseline.
        first_share: the least share of a training that a candidate is judged by.
        level: the probability of choosing another one although none is better; one-sided, so that 0.025 is half of the
            usual 0.05. Above 1e-9.
        path: a file that keeps every figure as it comes. A call with the same arguments goes on where another one was stopped.
        progress: True: a bar; None: a bar on a terminal; a function: called with (done, of) trainings.

    Returns:
        A `Choice`: `.best` is the policy, `.name` its name, and `str` of it a table. A candidate whose training raises or gives
        NaN or inf is out: `.out` has its name and why, and a log line says it at once.

    Raises:
        InvalidValue: an argument breaks a rule; `train` returns something else than a number; or the baseline's training fails.
        ResumeError: `path` holds trainings of another arrangement.
        StoreDamaged: `path` is another file. StoreLocked: another process writes to it.
    """
    known, refused = _named(candidates)
    _check(known, baseline)
    check_choice("better", better, ("higher", "lower"))
    seeds = whole_number("seeds", seeds, 2, otherwise=": a standard error needs two")
    finalists = whole_number("finalists", finalists, 1)
    first_share, level = _number("first_share", first_share, 0, 1), _number("level", level, 1e-9, 0.5)
    budget = None if budget is None else _number("budget", budget, 0)
    others = [name for name in known if name != baseline]
    before = rounds(len(others), baseline, seeds=seeds, finalists=finalists, first_share=first_share, budget=budget)
    _warn(seeds, min(finalists, len(others)), level)
    kept = None if path is None else Path(path)
    about = {"baseline": baseline, "seeds": seeds, "better": better, "rounds": [repr(one) for one in before]}
    about |= {f"candidate {name}": _described(name, policy) for name, policy in known.items()} if kept else {}
    with Trainings(kept, about) as trainings, shown(progress, "choosing") as tell:
        number = sum(one.size * len(one.seeds) for one in before) + (min(finalists, len(others)) + 1) * seeds
        trial = _Trials(known, train, trainings, 1 if better == "higher" else -1, tell, number)
        trial.first(baseline)
        for one in before:
            others = trial.best(others, one)
        last = trial.last(others, baseline, range(seeds))
        tell(number, number, "chosen")
        return _choice(last, baseline, known, refused | trial.out, before, trainings, seeds, level)


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """What is described of a candidate in the file of its trainings."""

    policy: Any


class _Trials:
    """Runs trainings, or takes their figures from the file, and puts candidates out. Figures are more where better."""

    def __init__(
        self, known: Mapping[str, Any], train: Train, trainings: Trainings, sign: int, tell: Tell, number: int
    ) -> None:
        self._known, self._train, self._trainings, self._sign = known, train, trainings, sign
        self._tell, self._number, self._done = tell, number, set[Key]()
        self.out: dict[str, str] = {}

    def first(self, baseline: str) -> None:
        """Train the baseline once, as the last comparison needs it: a fault of `train` itself shows before all the rest."""
        self._into({baseline: []}, baseline, 0, 1.0, needed=True)

    def best(self, names: list[str], one: Round) -> list[str]:
        """The candidates that a round leaves, in the order of `names`: those of the highest means."""
        found: dict[str, list[float]] = {name: [] for name in names}
        for seed in one.seeds:
            for name in names:
                self._into(found, name, seed, one.share)
        ranked = sorted(found, key=lambda name: -math.fsum(found[name]))
        return [name for name in names if name in ranked[: one.kept]]

    def last(self, names: list[str], baseline: str, seeds: range) -> dict[str, np.ndarray]:
        """(seeds,) figures of the baseline and of each finalist after full trainings; of none if no candidate is left."""
        found: dict[str, list[float]] = {name: [] for name in [baseline, *names]}
        for seed in seeds:
            for name in [baseline, *names]:
                if len(found) > 1:
                    self._into(found, name, seed, 1.0, needed=name == baseline)
        return {name: np.array(figures) for name, figures in found.items()} if len(found) > 1 else {}

    def _into(self, found: dict[str, list[float]], name: str, seed: int, share: float, *, needed: bool = False) -> None:
        """Add the figure of one training to those of its candidate, which is taken out of `found` if it has none."""
        self._tell(len(self._done), self._number, name)
        self._done.add((name, seed, share))
        if name not in found:
            return
        figure, cause = self._trainings.get((name, seed, share)), None
        if figure is None:
            figure, cause = self._run(name, seed, share)
            if needed and isinstance(figure, str):
                raise InvalidValue(
                    f"the baseline {name!r} at seed {seed}: train {figure}. Nothing can be held against it then: name another "
                    "baseline, or mend that and call again; with path= all other figures are kept."
                ) from cause
            self._trainings.add((name, seed, share), figure)
        if isinstance(figure, str):
            self.out[name] = f"train {figure} at seed {seed}, share {share:g}"
            del found[name]
            logging.getLogger("adaptive_sampler").warning("%s is out: %s.", name, self.out[name], exc_info=cause)
        else:
            found[name].append(self._sign * figure)

    def _run(self, name: str, seed: int, share: float) -> tuple[float | str, Exception | None]:
        """The figure of a training, or why it has none and the error that was raised, if one was."""
        try:
            found = self._train(self._known[name], seed, share)
        except Exception as error:
            return f"raised {type(error).__name__}: {error}", error
        try:
            finite, figure = math.isfinite(found), float(found)  # a text is no number to the first
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidValue(
                f"train returned {found!r} for {name!r}: return the validation figure, a number."
            ) from error
        return (figure if finite else f"returned {figure}"), None


def _choice(
    last: Mapping[str, np.ndarray],
    baseline: str,
    known: Mapping[str, Any],
    out: Mapping[str, str],
    before: tuple[Round, ...],
    trainings: Trainings,
    seeds: int,
    level: float,
) -> Choice:
    """What the figures of the last comparison say."""
    finalists = {name: figures for name, figures in last.items() if name != baseline}
    differences, spread = compare(last[baseline], finalists) if finalists else ({}, float("nan"))
    passed = [name for name, found in differences.items() if found.p_value <= level]
    name = max(passed, key=lambda name: differences[name].mean, default=baseline)
    notes = tuple(
        f"{name!r} differs from {baseline!r} by {found.mean:.3g} at every seed, and nothing tells a gain from chance where "
        "chance does not show: does train use its seed, and its policy?"
        for name, found in differences.items()
        if found.standard_error == 0
    )
    return Choice(name, baseline, differences, out, known, before, trainings.figures(), seeds, level, spread, notes)


def _described(name: str, policy: Any) -> dict[str, Any]:
    """A candidate as the file of trainings has it. Raises `InvalidValue` if it would read like another one."""
    try:
        told = describe(_Candidate(policy))
        json.dumps(told, allow_nan=False)
    except ValueError as error:
        raise InvalidValue(
            f"candidate {name!r} cannot be named in a file of trainings: {str(error).rstrip('.')}. Make it a dataclass of such "
            "values, or call without path=."
        ) from error
    return told


def _named(candidates: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Every candidate by its name, those of grids among them, and why combinations of grids are none."""
    known: dict[str, Any] = {}
    refused: dict[str, str] = {}
    if not isinstance(candidates, Mapping) or not all(isinstance(name, str) for name in candidates):
        raise InvalidValue(f"candidates={candidates!r}: a dict of policies by name is needed, the names being texts.")
    for name, value in _flat(candidates):
        if name in known:
            raise InvalidValue(f"two candidates are called {name!r}. Call one another name.")
        if isinstance(value, type):
            raise InvalidValue(f"candidate {name!r} is the class {value.__name__}: pass a policy made by it.")
        known[name] = value
    for name, value in candidates.items():
        if isinstance(value, Grid):
            refused |= {f"{name}({arguments})": f"refused: {why}" for arguments, why in value.refused.items()}
    return known, refused


def _flat(candidates: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in candidates.items():
        if isinstance(value, Grid):
            yield from ((f"{name}({arguments})", policy) for arguments, policy in value.items())
        else:
            yield name, value


def _check(known: Mapping[str, Any], baseline: str) -> None:
    """Raise `InvalidValue` unless there is a baseline among the candidates, and another one."""
    if baseline not in known:
        names = f"name one of {', '.join(map(repr, known))}, or " if known else ""
        raise InvalidValue(
            f"baseline={baseline!r} is no candidate: {names}add it, as in {{'random': RandomPrune(0.5)}}."
        )
    if len(known) == 1:
        raise InvalidValue(f"{baseline!r} is the only candidate: pass others to hold against it.")


def _number(name: str, value: Any, above: float, most: float = math.inf) -> float:
    """`value` as a float. Raises `InvalidValue` unless it is a finite number, above < value <= most."""
    if not is_number(value) or not above < value <= most:
        end = "" if math.isinf(most) else f" <= {most}"
        raise InvalidValue(f"{name}={value!r}: a number, {above:g} < {name}{end}, is needed.")
    return float(value)


def _warn(seeds: int, arms: int, level: float) -> None:
    """Say so if the seeds are too few for the correction to leave much power."""
    chance = power(GAIN, level, arms, seeds)
    if chance < CHANCE:
        warnings.warn(
            f"seeds={seeds}: corrected for {arms} finalists, a gain of {GAIN} standard deviations of a single run is found in "
            f"{chance:.0%} of all cases, and only one of {detectable(CHANCE, level, arms, seeds):.2g} in {CHANCE:.0%}. Pass "
            f"seeds={seeds_for(GAIN, CHANCE, level, arms)} or more.",
            RuntimeWarning,
            stacklevel=3,
        )
