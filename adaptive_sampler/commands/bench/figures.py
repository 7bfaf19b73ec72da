"""The figure of a run: a panel a case, in it a group of bars a contestant, in that a bar a size, from few rows to many.

A bar is the ratio to ours, which reads the same whatever the work is; the seconds stand beside it. All panels have one
logarithmic axis, and everything is placed in inches, so that panels stand in line and no text meets another.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptive_sampler.commands.bench.base import Row

try:
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.patches import Patch
except ImportError as error:
    raise ImportError('The figures need matplotlib: pip install "adaptive-sampler[report]"') from error

HEADLINE = "How many times as long as adaptive_sampler"
HOW = (
    "Time divided by ours, on a logarithmic axis that is the same in all panels: a shorter bar is faster. A group of bars "
    "is one contestant at growing numbers of rows; beside it stand the ratio and the seconds at the most rows it finished. "
    "Where a bar is missing, the tables say why."
)
COLUMNS = 2
MARGIN, GAP = 0.15, 0.3  # inches, as all below
NAMES, BARS, VALUES = 1.95, 2.25, 1.75
TITLE, SLOT, TICKS = 0.28, 0.32, 0.42
LINE, LETTER = 0.2, 0.072  # of the head's text: from line to line, and what a letter takes on average
_LETTERS = 26  # of a contestant's name, in a line
_LEAST = 1e-9  # a logarithmic axis has no 0
DARK = "0.15"


@dataclass(frozen=True)
class Panel:
    """A case, and the rows of each contestant that finished at some size, ascending; the fastest contestant comes first."""

    case: str
    groups: tuple[tuple[Row, ...], ...]

    @property
    def sizes(self) -> list[int]:
        """The numbers of rows that somebody finished, ascending."""
        return sorted({row["n"] for group in self.groups for row in group})


@dataclass(frozen=True)
class Scale:
    """What all panels share: the numbers of rows that have bars, ascending; where the axis begins and ends."""

    sizes: tuple[int, ...]
    low: float
    high: float

    @classmethod
    def of(cls, panels: Sequence[Panel]) -> "Scale":
        """The least that holds all bars; it begins well below 1, so that ours has a length."""
        ratios = [_ratio(row) for panel in panels for group in panel.groups for row in group]
        sizes = {n for panel in panels for n in panel.sizes if n}
        return cls(tuple(sorted(sizes)), min(0.2, min(ratios) / 1.5), max(10, 1.1 * max(ratios)))

    def ticks(self) -> list[float]:
        """The powers of ten on the axis, 1 among them; only every second, third … where they would not fit."""
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        step = 1 + (last - first) // 6
        return [10.0**power for power in range(first, last + 1) if power % step == 0]

    def colour(self, contestant: str, n: int) -> Any:
        """Ours blue, others grey, and the darker the more rows: told apart by any eye, and in print."""
        shade = (self.sizes.index(n) + 1) / len(self.sizes) if n else 1
        return colormaps["Blues" if contestant.partition(",")[0] == "ours" else "Greys"](0.25 + 0.5 * shade)


class _Page:
    """A figure on which places are inches from the upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes whose upper left corner is there."""
        below = self.height - top - height
        return self.figure.add_axes((left / self.width, below / self.height, width / self.width, height / self.height))

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """Text whose upper left corner is there."""
        self.figure.text(left / self.width, 1 - top / self.height, text, va="top", color=DARK, **style)


def save(found: Mapping[str, Any], path: Path) -> None:
    """Draw a result's contests as a PNG, which bears the digest of what it shows; nothing where none was held."""
    panels, where = panels_of(found["rows"]), found["machine"]
    if panels:
        told = f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB, commit {where['commit']}"
        draw(panels, told).savefig(
            path, dpi=140, metadata={"Description": found["digest"]}, pil_kwargs={"optimize": True}
        )


def panels_of(rows: Sequence[Row]) -> list[Panel]:
    """A panel for each case with contestants, in the order of the rows."""
    cases: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if row.get("contestant") and row["s"] != "":
            cases.setdefault(row["case"], {}).setdefault(row["contestant"], []).append(row)
    panels = []
    for case, contestants in cases.items():
        groups = [tuple(sorted(some, key=lambda row: row["n"])) for some in contestants.values()]
        panels.append(Panel(case, tuple(sorted(groups, key=lambda group: group[-1]["ratio"]))))
    return panels


def draw(panels: Sequence[Panel], told: str) -> Figure:
    """All panels on one page, `told` in its head."""
    columns, scale = min(COLUMNS, len(panels)), Scale.of(panels)
    width = 2 * MARGIN + columns * (NAMES + BARS + VALUES) + (columns - 1) * GAP
    words = [line for text in (HOW, told) for line in textwrap.wrap(text, int((width - 2 * MARGIN) / LETTER))]
    lines = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    slots = [max(len(panel.groups) for panel in line) for line in lines]
    top = MARGIN + 0.35 + LINE * len(words) + 0.6
    page = _Page(width, top + sum(TITLE + SLOT * some + TICKS for some in slots))
    page.text(MARGIN, MARGIN, HEADLINE, fontsize=14, weight="bold")
    page.text(MARGIN, MARGIN + 0.35, "\n".join(words), fontsize=9.5, linespacing=1.45)
    _legend(page, scale, top - 0.45)
    for line, some in zip(lines, slots, strict=True):
        for column, panel in enumerate(line):
            _panel(page, panel, scale, MARGIN + column * (NAMES + BARS + VALUES + GAP), top)
        top += TITLE + SLOT * some + TICKS
    return page.figure


def _legend(page: _Page, scale: Scale, top: float) -> None:
    """Which shade is how many rows: ours and the others' side by side."""
    sizes = [n for n in scale.sizes if n]
    pairs: list[Any] = [tuple(Patch(color=scale.colour(who, n)) for who in ("ours", "others")) for n in sizes]
    page.figure.legend(
        pairs,
        [f"{_rows(n)} rows" for n in sizes],
        handler_map={tuple: HandlerTuple(None, pad=0)},
        loc="upper left",
        bbox_to_anchor=(MARGIN / page.width, 1 - top / page.height),
        borderaxespad=0,
        borderpad=0,
        ncols=len(sizes) or 1,
        frameon=False,
        fontsize=9.5,
    )


def _panel(page: _Page, panel: Panel, scale: Scale, left: float, top: float) -> None:
    """The case in full, and below it the contestants, a slot each."""
    page.text(left, top, panel.case, fontsize=10, weight="bold")
    axes = page.axes(left + NAMES, top + TITLE, BARS, SLOT * len(panel.groups))
    axes.set(xscale="log", xlim=(scale.low, scale.high), ylim=(len(panel.groups), 0))
    for at, group in enumerate(panel.groups):
        _bars(axes, group, panel.sizes, scale, at)
        _words(axes, group, at)
    _frame(axes, scale)


def _bars(axes: Axes, group: Sequence[Row], sizes: Sequence[int], scale: Scale, at: int) -> None:
    """A bar for each of `sizes`, in the slot `at`; where the contestant did not finish, its place stays empty."""
    thick = 0.8 / len(sizes)
    axes.barh(
        [at + 0.1 + thick * (sizes.index(row["n"]) + 0.5) for row in group],
        [_ratio(row) - scale.low for row in group],
        0.9 * thick,
        left=scale.low,
        color=[scale.colour(row["contestant"], row["n"]) for row in group],
    )


def _words(axes: Axes, group: Sequence[Row], at: int) -> None:
    """The contestant's name to the left of its bars; to the right what the last of them, that of the most rows, tells."""
    name, last = group[0]["contestant"], group[-1]
    size = f" at {_rows(last['n'])}" if last["n"] else ""
    seconds = f"{_seconds(last['s'])}{size}"
    style: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 9, "color": DARK}
    weight = "bold" if name == "ours" else "normal"
    axes.text(-0.08 / BARS, at + 0.5, _short(name), ha="right", linespacing=1.15, weight=weight, **style)
    axes.text(1 + 0.62 / BARS, at + 0.5, f"{_shown(last['ratio'])}×", ha="right", **style)
    axes.text(1 + 0.7 / BARS, at + 0.5, seconds, ha="left", **style)


def _frame(axes: Axes, scale: Scale) -> None:
    """A line at each power of ten, and a stronger one where a bar is as long as ours."""
    ticks = scale.ticks()
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8, color="0.3")
    axes.set_xticks([], minor=True)
    axes.set_yticks([])
    axes.tick_params(axis="x", length=2, color="0.6")
    axes.grid(axis="x", color="0.88", linewidth=0.8)
    axes.axvline(1, color="0.4", linewidth=1)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _ratio(row: Row) -> float:
    return max(float(row["ratio"]), _LEAST)


def _short(name: str) -> str:
    """In two lines at most; of a longer name the end, which in module:factory tells more."""
    most = 2 * _LETTERS
    return textwrap.fill(name if len(name) <= most else f"…{name[1 - most :]}", _LETTERS)


def _shown(x: float) -> str:
    return f"{x:,.0f}" if 100 <= x < 10**5 else f"{x:.3g}"


def _seconds(s: float) -> str:
    unit, per = next((u, p) for u, p in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)) if s >= p or p == 1e-6)
    return f"{_shown(s / per)} {unit}"


def _rows(n: int) -> str:
    unit, per = next((u, p) for u, p in (("G", 10**9), ("M", 10**6), ("k", 10**3), ("", 1)) if n >= p)
    return f"{n / per:.3g}{unit}"
