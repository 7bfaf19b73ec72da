"""Figures of a store show its rows, its cut and its gaps, and refuse what they cannot show."""

from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Confidence, Forgetting, Variability
from adaptive_sampler.selection import Prune, RandomPrune, Window

pytest.importorskip("matplotlib")

from adaptive_sampler import report
from adaptive_sampler.sampler import AdaptiveSampler

N = 100


@pytest.fixture
def store(tmp_path: Path) -> ScoreStore:
    store = ScoreStore.create(tmp_path / "store", N, [EL2N(), Confidence(), Variability(), Forgetting()])
    rng = np.random.default_rng(0)
    for epoch in range(3):
        logits, labels = rng.normal(size=(N, 10)), np.arange(N) % 10
        store.update(np.arange(N), epoch=epoch, logits=logits, labels=labels)
    return store


def heights(figure: report.Figure) -> float:
    """The rows that a histogram's bars stand for."""
    return sum(patch.get_height() for patch in figure.axes[0].patches if patch.get_x() > -1)


def words(figure: report.Figure) -> str:
    axes = figure.axes[0]
    legend = axes.get_legend()
    entries = [text.get_text() for text in legend.get_texts()] if legend else []
    return "\n".join([axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel(), *entries])


def test_a_histogram_has_a_bar_share_for_every_row(store: ScoreStore) -> None:
    assert heights(report.histogram(store, "el2n")) == N


def test_a_histogram_shades_what_the_plan_keeps_between_its_cuts(store: ScoreStore) -> None:
    plan = Window(0.5, 0.2, "el2n").plan(store, epoch=0, seed=0)
    figure = report.histogram(store, "el2n", plan=plan)
    kept = store["el2n"][plan.rows]
    cuts = [line.get_xdata()[0] for line in figure.axes[0].lines]
    assert cuts == pytest.approx([kept.min(), kept.max()])
    assert "kept by Window (50)" in words(figure)


def test_a_plan_that_keeps_the_top_has_one_cut(store: ScoreStore) -> None:
    plan = Prune(0.5, "el2n").plan(store, epoch=0, seed=0)
    assert len(report.histogram(store, "el2n", plan=plan).axes[0].lines) == 1


def test_a_plan_by_another_rule_is_outlined_instead_of_cut(store: ScoreStore) -> None:
    plan = RandomPrune(0.3).plan(store, epoch=0, seed=0)
    figure = report.histogram(store, "el2n", plan=plan)
    assert not figure.axes[0].lines
    assert "kept by RandomPrune (30)" in words(figure)


def test_marked_rows_are_told_apart(store: ScoreStore) -> None:
    figure = report.histogram(store, "el2n", marked=np.arange(N) < 7, mark="wrong label")
    assert "wrong label (7)" in words(figure)
    assert "other rows (93)" in words(figure)


def test_rows_that_no_axis_can_show_are_counted_in_its_name(tmp_path: Path) -> None:
    store = ScoreStore.create(tmp_path / "s", 4, [Forgetting()])
    store.update([0, 1, 2], logits=[[1.0, 0], [1, 0], [1, 0]], labels=[0, 0, 1])
    assert "1 never observed, 1 infinite" in words(report.histogram(store, "forgetting"))


def test_a_score_nobody_observed_has_no_histogram(tmp_path: Path) -> None:
    store = ScoreStore.create(tmp_path / "s", 4, [EL2N()])
    with pytest.raises(InvalidValue, match="no row has a finite 'el2n' yet: observe some first"):
        report.histogram(store, "el2n")


def test_marks_of_another_length_are_refused(store: ScoreStore) -> None:
    with pytest.raises(InvalidValue, match=r"marked has shape \(3,\): one value for each of the 100 rows"):
        report.histogram(store, "el2n", marked=np.zeros(3))


def test_a_data_map_has_a_point_for_every_row_observed(store: ScoreStore) -> None:
    figure = report.data_map(store, marked=np.arange(N) < 7)
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == N


def test_what_was_kept_of_a_class_is_its_share(store: ScoreStore) -> None:
    plan = Prune(0.2, "el2n", per_class=np.arange(N) % 10).plan(store, epoch=0, seed=0)
    figure = report.kept_by_class(store, plan, np.arange(N) % 10)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [20] * 10


def test_every_figure_is_saved_with_the_newest_plan(store: ScoreStore, tmp_path: Path) -> None:
    assert report.newest_plan(store) is None
    sampler = AdaptiveSampler(store, Prune(0.5, "el2n"))
    next(iter(sampler))
    assert report.newest_plan(store).id == sampler.plan.id
    paths = report.save_all(store, tmp_path / "figures", labels=np.arange(N) % 10)
    names = [path.stem for path in paths]
    assert names == ["el2n", "confidence", "variability", "forgetting", "data-map", "kept-by-class"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
