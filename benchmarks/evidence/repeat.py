"""`--repeat KEY=VALUE …`: recorded runs are done again, and told beside what was recorded. Nothing is written.

Scores are made again, too, in a folder that is thrown away. Another processor rounds otherwise, and a training that takes
another way after such a step ends elsewhere, by about as much as with another order of the samples.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from adaptive_sampler.commands.bench.show import tell
from benchmarks.evidence.runs import Question, Records, made_here, seeds_of, setting_of, spread, trial
from benchmarks.harness import Row

Figures = dict[str, np.ndarray | str]  # by name, each (any number,) or a text


def repeat(question: Question, given: argparse.Namespace, kept: Records) -> None:
    """Do those of the runs in `kept` again that fit `given.repeat`, and print both. Raises SystemExit if none does."""
    console = Console()
    mine = [r for r in kept if fits(r, given.repeat) and given.seed in (None, r["seed"])]
    if not given.repeat or not mine:
        there = "\n".join(dict.fromkeys(named(r) for r in kept))
        if given.repeat:
            raise SystemExit(f"{question.name}: no recorded run is of {' '.join(given.repeat)}. There are\n{there}")
        console.print(f"{question.name}:\n{there}", highlight=False, markup=False, soft_wrap=True)
        return
    again = list(_again(question, given, mine))
    for rows in (each_run(mine, again), means(mine, again)):
        tell(console, {"benchmark": question.name, "rows": rows})
    made = {f"commit {r['commit']}, {r.get('cpu', 'a processor that was not recorded')}" for r in mine}
    here = made_here()
    told = f"Recorded at {'; '.join(sorted(made))}. Repeated at commit {here['commit']}, {here['cpu']}."
    console.print(told, highlight=False, markup=False, soft_wrap=True)


def _again(question: Question, given: argparse.Namespace, mine: Records) -> Iterator[Row]:
    """The same runs as `mine`, made here and now."""
    data, wanted = question.data(given), [setting_of(r) for r in mine]
    for seed in track(seeds_of(mine), f"{question.name}, seeds"):
        with TemporaryDirectory() as folder:
            for setting, run in question.runs(trial(question, seed, data, Path(folder), given.quick)):
                if setting_of(setting | {"seed": seed}) in wanted:
                    yield {"seed": seed, **setting, "found": run()}


def fits(record: Row, asked: list[str]) -> bool:
    """Whether a run is of the setting that is asked for, each as KEY=VALUE; 0.50 is 0.5."""
    return all(same(record.get(key), value) for key, _, value in (one.partition("=") for one in asked))


def same(known: object, asked: str) -> bool:
    """Whether a value of a setting is the one asked for."""
    try:
        return math.isclose(float(str(known)), float(asked))
    except ValueError:
        return str(known) == asked


def named(record: Row) -> str:
    """A run's setting as it is asked for, without the seed; quoted where a shell would take it apart."""
    pairs = (f"{key}={value}" for key, value in setting_of(record).items() if key != "seed")
    return " ".join(f"'{pair}'" if set(pair) & set(" &;<>()*?") else pair for pair in pairs)


def figures(found: Row, prefix: str = "") -> Figures:
    """Every figure of a run under one name, those of lists together."""
    flat: Figures = {}
    for key, value in found.items():
        if isinstance(value, dict):
            flat |= figures(value, f"{prefix}{key}, ")
        else:
            flat[prefix + key] = value if isinstance(value, str) else np.ravel(value).astype(float)
    return flat


def _pairs(mine: Records, again: Records) -> Iterator[tuple[Row, Figures, Figures]]:
    """(a recorded run, its figures, those of the same run made again)."""
    for record in mine:
        twin = next(r for r in again if setting_of(r) == setting_of(record))
        yield record, figures(record["found"]), figures(twin["found"])


def each_run(mine: Records, again: Records) -> list[Row]:
    """A row for each figure of each run. Of a list of figures: its mean, and the largest difference of any."""
    rows: list[Row] = []
    for record, old, new in _pairs(mine, again):
        for name in dict.fromkeys((*old, *new)):
            one, other = old.get(name, "–"), new.get(name, "–")
            row: Row = {"setting": named(record), "seed": record["seed"], "figure": name}
            row |= {"recorded": _told(one), "repeated": _told(other), "difference": _apart(one, other)}
            rows.append(row)
    return rows


def means(mine: Records, again: Records) -> list[Row]:
    """A row for each figure of each setting that has several seeds, as the page tells it: mean ± standard error."""
    both: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for record, old, new in _pairs(mine, again):
        for name in old.keys() & new.keys():
            if not isinstance(old[name], str) and not isinstance(new[name], str):
                pair = float(np.mean(old[name])), float(np.mean(new[name]))
                both.setdefault((named(record), name), []).append(pair)
    rows: list[Row] = []
    for (setting, name), pairs in sorted(both.items()):
        one, other = np.array(pairs).T
        row: Row = {"setting": setting, "seeds": str(len(pairs)), "mean of": name}
        for told, figure in (("recorded", one), ("repeated", other), ("difference", other - one)):
            mean, error = spread(figure)
            row[told] = f"{mean:{'+.3' if told == 'difference' else '.5'}g} ± {error:.2g}"
        rows.append(row)
    return [row for row in rows if row["seeds"] != "1"]


def _told(figure: Any) -> str:
    return figure[:40] if isinstance(figure, str) else f"{np.mean(figure):.7g}"


def _apart(one: Any, other: Any) -> str:
    """The difference of two figures, the largest one of two lists; of texts whether they are the same."""
    if isinstance(one, str) or isinstance(other, str) or len(one) != len(other):
        return "none" if np.array_equal(one, other) else "another"
    differences = other - one
    return f"{differences[np.argmax(abs(differences))]:+.4g}" if differences.any() else "none"
