"""Figures of a store: the distribution of a score and what a plan keeps of it, the data map, the kept share by class."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adaptive_sampler.choice.result import Choice
from adaptive_sampler.errors import InvalidValue, StoreError
from adaptive_sampler.plan import Plan
from adaptive_sampler.report.colours import BLUE, GREY, ORANGE, SKY, VERMILION
from adaptive_sampler.report.plans import kind, newest_plan, visits
from adaptive_sampler.store import ScoreStore

_MANY = 20_000  # points that a scatter plot shows; of more rows, only every k-th is drawn
_NAMED = 30  # classes that a bar chart names; of more, only every k-th, and no bar's share
_LETTERS = 80  # of names that stand beside one another; more are turned


def histogram(
    store: ScoreStore,
    by: str,
    *,
    plan: Plan | None = None,
    marked: np.ndarray | None = None,
    mark: str = "marked",
    bins: int = 40,
    axes: Axes | None = None,
) -> Figure:
    """A histogram of the score `by`, in a new figure or in `axes`. Returns the figure.

    With `plan`, the outline of a second histogram is that of the rows which the plan keeps, by their scores as they are
    now; where the plan visits rows more than once, a dashed outline is that of the visits. `marked`: (n,) bool, rows
    that get a colour of their own and the label `mark`. Raises `InvalidValue` if no row has a finite score, and for a
    plan of more rows than the store has.
    """
    axes = axes or _axes(f"{by}: how many rows have which score")
    scores = store[by].astype(np.float64)  # of two neighbours in float32 there are no 40 bins
    known = np.isfinite(scores)
    if not known.any():
        raise InvalidValue(f"no row has a finite {by!r} yet: observe some first.")
    parts = [(known, "all rows", SKY)]
    if marked is not None:
        marked = _of_rows("marked", marked, store).astype(np.bool_)
        parts = [(known & ~marked, "other rows", SKY), (known & marked, mark, ORANGE)]
    edges = np.histogram_bin_edges(scores[known], bins)
    axes.hist(
        [scores[rows] for rows, _, _ in parts],
        edges.tolist(),
        stacked=True,
        color=[color for *_, color in parts],
        label=[f"{name} ({np.count_nonzero(rows):,})" for rows, name, _ in parts],
    )
    if plan is not None:
        _outline(axes, scores, known, plan, edges)
    axes.set(xlabel=_with_missing(by, scores), ylabel="rows")
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])  # room for the legend, whose "best" place a slow machine warns of
    axes.legend(frameon=False, loc="upper right")
    return _figure(axes)


def data_map(
    store: ScoreStore,
    *,
    confidence: str = "confidence",
    variability: str = "variability",
    marked: np.ndarray | None = None,
    mark: str = "marked",
    axes: Axes | None = None,
) -> Figure:
    """The data map: every row by its confidence and its variability (Swayamdipta et al. 2020, figure 1).

    `confidence`, `variability`: the names of the scores to use. The other arguments, and what is returned, are as for
    `histogram`.
    """
    axes = axes or _axes("data map")
    x, y = store[variability], store[confidence]
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    shown = known[:: -(-len(known) // _MANY) or 1]
    chosen = np.zeros(len(store), np.bool_) if marked is None else _of_rows("marked", marked, store).astype(np.bool_)
    for rows, name, color, shape in (
        (shown[~chosen[shown]], "other rows" if marked is not None else "rows", BLUE, "o"),
        (shown[chosen[shown]], mark, ORANGE, "D"),
    ):
        if len(rows):
            axes.scatter(x[rows], y[rows], s=12, c=color, alpha=0.6, marker=shape, linewidths=0, label=name)
    for height, words in (
        (0.95, "easy to learn:\nupper left"),
        (0.5, "ambiguous:\nright"),
        (0.05, "hard to learn:\nlower left"),
    ):
        axes.text(1.02, height, words, va="center", style="italic", color="0.3", transform=axes.transAxes)
    axes.set(xlabel="variability: standard deviation of p(label)", ylabel="confidence: mean p(label)")
    axes.set(xlim=(0, 0.5), ylim=(0, 1))  # no standard deviation of a probability exceeds 0.5
    if marked is not None:
        axes.legend(frameon=False, loc="upper right")
    return _figure(axes)


def kept_by_class(store: ScoreStore, plan: Plan, labels: np.ndarray, *, axes: Axes | None = None) -> Figure:
    """A bar chart of the share of each class that `plan` keeps, beside its share of all rows. Returns the figure.

    `labels`: (n,) integers, bools or strings, the class of each row. Raises `InvalidValue` for others, and for a plan
    of more rows than the store has.
    """
    labels = _of_rows("labels", labels, store)
    if labels.dtype.kind not in "iubU":
        raise InvalidValue(f"labels has dtype {labels.dtype}: classes are integers, bools or strings. Convert them.")
    axes = axes or _axes("what was kept of each class")
    classes, members = np.unique(labels, return_inverse=True)
    kept = visits(plan, len(store)) > 0
    share = 100 * np.bincount(members, kept) / np.bincount(members)
    bars = axes.bar(range(len(classes)), share, color=BLUE)
    every = -(-len(classes) // _NAMED)
    names = [str(name) for name in classes[::every]]
    axes.set_xticks(range(0, len(classes), every), names, rotation=90 if sum(map(len, names)) > _LETTERS else 0)
    if every == 1:
        white = {"facecolor": "white", "linewidth": 0, "pad": 0.5}  # over the line of all rows
        axes.bar_label(bars, [f"{s:.0f}" for s in share], padding=2, bbox=white)
    overall = 100 * plan.num_rows / len(store)
    axes.axhline(overall, color=VERMILION, linestyle="--", label=f"of all rows: {overall:.0f} %")
    axes.set(xlabel="class", ylabel="kept, %", ylim=(0, 125))
    axes.legend(frameon=False, loc="upper right")
    return _figure(axes)


def choice(found: Choice, *, axes: Axes | None = None) -> Figure:
    """A chart of what `choice.choose` found: each finalist's difference to the baseline. Returns the figure.

    A point is the mean difference, more being better, its bar reaches from one standard error below to one above; the dashed
    line is where a gain would have been found in 80 % of all cases. `axes`: as for `histogram`. Raises `InvalidValue` if there is
    no finalist.
    """
    if not found.differences:
        raise InvalidValue(
            f"no candidate was held against {found.baseline!r}, so there is no difference to draw: {found}"
        )
    axes = axes or _axes(f"chosen: {found.name}")
    names = sorted(found.differences, key=lambda name: found.differences[name].mean)
    for height, name in enumerate(names):
        one, colour = found.differences[name], VERMILION if name == found.name else BLUE
        axes.errorbar(one.mean, height, xerr=one.standard_error, fmt="o", color=colour, capsize=4)
        axes.annotate(f"p = {one.p_value:.2g}", (one.mean, height), (0, 8), textcoords="offset points", ha="center")
    axes.axvline(0, color="0.1", linewidth=1)
    if found.spread:
        axes.axvline(found.detectable, color=GREY, linestyle="--", label="found in 80 % of all cases")
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(-0.5, len(names)), xlabel=f"better than {found.baseline} by (mean ± standard error)")
    if found.spread:
        axes.legend(frameon=False, loc="upper right")
    return _figure(axes)


def save_all(store: ScoreStore, folder: Path, *, labels: np.ndarray | None = None) -> list[Path]:
    """Save every figure that the store has data for as a PNG file in `folder`. Returns their paths.

    `labels`: as for `kept_by_class`. Raises `InvalidValue` for labels where no plan is saved that could keep any,
    and `StoreError` if no row has a finite score yet.
    """
    plan = newest_plan(store)
    if plan is None and labels is not None:
        raise InvalidValue(
            f"labels were given, and {store.path} holds no plan that kept any of them: begin an epoch of a sampler first, or "
            "leave them out."
        )
    figures = {name: histogram(store, name, plan=plan) for name in store.names if np.isfinite(store[name]).any()}
    if {"confidence", "variability"} <= set(figures):
        figures["data-map"] = data_map(store)
    if plan is not None and labels is not None:
        figures["kept-by-class"] = kept_by_class(store, plan, labels)
    if not figures:
        raise StoreError(
            f"no row of {store.path} has a finite score yet, so there is no figure: observe some and commit."
        )
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path, dpi=150)
    return paths


def _outline(axes: Axes, scores: np.ndarray, known: np.ndarray, plan: Plan, edges: np.ndarray) -> None:
    """Outline the rows that the plan keeps, and its visits if they are more.

    Not the range of their scores: the scores have moved on since the plan was made, classes and draws have no one cut.
    """
    times = visits(plan, len(scores))
    drawn = [("kept by", np.minimum(times, 1), "-")] + [("visits by", times, "--")] * (plan.num_samples > plan.num_rows)
    for what, counted, style in drawn:
        shown, missing = int(counted[known].sum()), int(counted[~known].sum())
        axes.hist(
            scores[known],
            edges.tolist(),
            weights=counted[known],
            histtype="step",
            color="0.1",
            linestyle=style,
            linewidth=1.5,
            label=f"{what} {kind(plan)} in epoch {plan.epoch} ({shown:,}{f'; {missing:,} not shown' * (missing > 0)})",
        )


def _with_missing(by: str, scores: np.ndarray) -> str:
    """The label of the axis, with the number of rows that it cannot show."""
    never, infinite = int(np.isnan(scores).sum()), int(np.isinf(scores).sum())
    left_out = [f"{never:,} never observed"] * (never > 0) + [f"{infinite:,} infinite"] * (infinite > 0)
    return by + (f"   (not shown: {', '.join(left_out)})" if left_out else "")


def _of_rows(name: str, values: np.ndarray, store: ScoreStore) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != (len(store),):
        raise InvalidValue(f"{name} has shape {values.shape}: one value for each of the {len(store)} rows is needed.")
    return values


def _axes(title: str) -> Axes:
    """Axes in a new figure, made without pyplot, so that the user's own figures and backend are left alone."""
    axes = Figure(figsize=(7, 4.5), layout="constrained").subplots()
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure
