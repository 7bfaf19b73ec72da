"""The demo's one figure: what a window keeps, what each method reached, and what the highest scores look like."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from adaptive_sampler import ScoreStore
from adaptive_sampler.commands.demo.experiments import KEEP, WRONG_SHARE, Trial
from adaptive_sampler.commands.demo.outcome import Line
from adaptive_sampler.report import histogram
from adaptive_sampler.report.colours import BLUE, GREEN, GREY, VERMILION

_COLUMNS = 6  # images in a row


def draw(path: Path, trial: Trial, offset: float, table: Sequence[Line]) -> None:
    """Write the figure as a PNG. `trial`: the seed whose scores are shown; `offset`: where its window begins."""
    figure = Figure(figsize=(14, 9), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.1, 1), wspace=0.04)[0]
    upper, lower = left.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.3))[:, 0]
    wrong = trial.noisy.labels != trial.data.train.labels
    with ScoreStore.open(trial.folder / "wrong-labels", mode="r") as store:
        axes = _plain(upper.subplots())
        plan = trial.window(store, offset).plan
        histogram(store, "el2n", plan=plan, marked=wrong, mark="wrong label", axes=axes)
        scores = store["el2n"]
    axes.set_title(f"{WRONG_SHARE:.0%} of labels are wrong: a window keeps {KEEP:.0%}, below the top", loc="left")
    axes.set(xlabel="EL2N, mean of early runs", ylabel="training samples")
    _images(lower, trial, scores)
    _bars(right, table)
    figure.savefig(path, dpi=140)


def _bars(figure: SubFigure, table: Sequence[Line]) -> None:
    questions = list(dict.fromkeys(line.question for line in table))
    parts = [[line for line in table if line.question == question] for question in questions]
    grid = figure.subplots(len(parts), 1, height_ratios=[len(part) + 0.8 for part in parts], squeeze=False)
    for axes, question, part in zip(grid[:, 0], questions, parts, strict=True):
        _question(_plain(axes), question, part)
    seeds = len(table[0].seeds)
    grid[-1, 0].set_xlabel(
        f"%   (bar: mean of {seeds} seeds; line: ± standard deviation; dots: the seeds; axes are cut)"
    )


def _question(axes: Axes, question: str, part: Sequence[Line]) -> None:
    groups = part[0].worst_group is not None
    worst = [line.worst_group or line.accuracy for line in part]
    at = range(len(part))
    axes.barh(at, [s.mean for s in worst], xerr=[s.std for s in worst], color=_colors(part), height=0.62, ecolor="0.2")
    for y, line, value in zip(at, part, worst, strict=True):
        axes.scatter(
            line.seeds, np.full(len(line.seeds), y), s=10, color="white", edgecolors="0.2", linewidths=0.6, zorder=3
        )
        average = f"\n(average {line.accuracy})" if groups else ""
        axes.text(1.015, y, f"{value}{average}", va="center", transform=axes.get_yaxis_transform(), fontsize=9)
    lowest = min(min(line.seeds) for line in part)
    axes.set(xlim=(max(10 * np.floor((lowest - 3) / 10), 0), 100), ylim=(len(part) - 0.5, -0.5))
    axes.set_yticks(at, [fill(line.method, 16) for line in part], fontsize=9.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"{question}: {'worst-group' if groups else 'test'} accuracy", loc="left")


def _colors(part: Sequence[Line]) -> list[str]:
    names = {"full": GREY, "rand": "#BBBBBB", "JTT": BLUE}
    return [next((c for start, c in names.items() if line.method.startswith(start)), BLUE) for line in part]


def _images(figure: SubFigure, trial: Trial, scores: np.ndarray) -> None:
    ranking = np.argsort(-scores, kind="stable")
    top, bottom = ranking[: 2 * _COLUMNS], ranking[-_COLUMNS:][::-1]
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(2, 1.08))[:, 0]
    for part, rows, name in ((above, top, "highest"), (below, bottom, "lowest")):
        wrong = int((trial.noisy.labels[rows] != trial.data.train.labels[rows]).sum())
        words = (
            f"the {len(rows)} {name} scores ({scores[rows].min():.2f} … {scores[rows].max():.2f}): {wrong} wrong labels"
        )
        part.suptitle(words, x=0.02, ha="left", fontsize="large")
        for axes, row in zip(part.subplots(len(rows) // _COLUMNS, _COLUMNS).flat, rows, strict=True):
            _image(axes, trial, int(row))


def _image(axes: Axes, trial: Trial, row: int) -> None:
    label, truth, names = trial.noisy.labels[row], trial.data.train.labels[row], trial.data.names
    axes.imshow(trial.noisy.images[row], cmap="gray_r", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    wrong = label != truth
    axes.spines[:].set(color=VERMILION if wrong else GREEN, linewidth=2.5 if wrong else 1.5)
    words = f"label {names[label]}, is {names[truth]}" if wrong else f"label {names[label]}"
    axes.set_title(
        words if len(words) < 17 else words.replace(", ", ",\n"), fontsize=9, color=VERMILION if wrong else "0.2"
    )


def _plain(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    return axes
