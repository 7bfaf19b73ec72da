"""Time and memory against n, one line a contestant, both axes logarithmic: a figure a case."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptive_sampler.commands.bench.base import Row

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError('The figures need matplotlib: pip install "adaptive-sampler[report]"') from error


_LEAST = 1e-9  # a logarithmic axis has no 0


def draw(found: Mapping[str, Any], folder: Path) -> list[str]:
    """A PNG for each case of a result that has sizes -> their names."""
    cases: dict[str, list[Row]] = {}
    for row in found["rows"]:
        if row.get("contestant") and row["n"] and row["s"] != "":
            cases.setdefault(row["case"], []).append(row)
    folder.mkdir(parents=True, exist_ok=True)
    return [_save(case, rows, folder / f"{found['benchmark']}-{slug(case)}.png") for case, rows in cases.items()]


def slug(case: str) -> str:
    """The case as a file name."""
    return re.sub(r"[^a-z0-9]+", "-", case.lower()).strip("-")


def _save(case: str, rows: Sequence[Row], path: Path) -> str:
    held = [row for row in rows if row["extra MiB"] != ""]  # of contestants that share a process nobody can tell
    figure = Figure(figsize=(10 if held else 5, 4), layout="constrained")
    time, *others = figure.subplots(1, 1 + bool(held), squeeze=False)[0]
    _lines(time, rows, "s", "seconds")
    for memory in others:
        _lines(memory, held, "extra MiB", "MiB at the peak, above what was set up")
        memory.set_ylim(bottom=0.1)  # below that it is a page more or less
    figure.suptitle(case)
    handles, names = time.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)
    return path.name


def _lines(axes: Axes, rows: Sequence[Row], column: str, label: str) -> None:
    for number, name in enumerate(dict.fromkeys(row["contestant"] for row in rows)):
        some = sorted((row["n"], max(row[column], _LEAST)) for row in rows if row["contestant"] == name)
        ours = name == "ours"
        style = {"color": "black", "linewidth": 2.5} if ours else {"color": f"C{number - 1}"}
        axes.plot(*zip(*some, strict=True), marker="o", markersize=4, label=name, zorder=3 if ours else 2, **style)
    axes.set(xscale="log", yscale="log", xlabel="rows", ylabel=label)
    axes.grid(which="major", color="0.9")
