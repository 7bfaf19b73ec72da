"""Figures of a store show its rows, what a plan keeps of them and its gaps, and refuse what they cannot show."""

from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Confidence, Error, Forgetting, Variability
from adaptive_sampler.selection import Draw, InfoBatch, KeepAll, Policy, Prune, RandomPrune, Upsample, Window

pytest.importorskip("matplotlib")
pytest.importorskip("altair")
pytest.importorskip("vl_convert")
pytest.importorskip("platformdirs")

from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from adaptive_sampler import report
from adaptive_sampler.choice import choose
from adaptive_sampler.sampler import AdaptiveSampler

N = 100


@pytest.fixture
def store(tmp_path: Path) -> ScoreStore:
    store = ScoreStore.create(tmp_path / "store", N, [EL2N(), Confidence(), Variability(), Forgetting(), Error()])
    rng = np.random.default_rng(0)
    for epoch in range(3):
        logits, labels = rng.normal(size=(N, 10)), np.arange(N) % 10
        store.update(np.arange(N), epoch=epoch, logits=logits, labels=labels)
    return store


def heights(figure: Figure) -> float:
    """The rows that a histogram's bars stand for."""
    return sum(bar.get_height() for bar in figure.axes[0].patches if isinstance(bar, Rectangle))


def outline(figure: Figure, which: int = 0) -> list[float]:
    """How many rows, or visits, an outline stands for in each bin."""
    polygons = [patch for patch in figure.axes[0].patches if isinstance(patch, Polygon)]
    return polygons[which].get_xy()[1:-1:2, 1].tolist()


def in_bins(store: ScoreStore, rows: np.ndarray) -> list[float]:
    """How many of these rows are in each of the histogram's bins."""
    scores = store["el2n"].astype(np.float64)
    edges = np.histogram_bin_edges(scores[np.isfinite(scores)], 40)
    return np.histogram(scores[rows], edges)[0].tolist()


def words(figure: Figure) -> str:
    axes = figure.axes[0]
    legend = axes.get_legend()
    entries = [text.get_text() for text in legend.get_texts()] if legend else []
    return "\n".join([axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel(), *entries])


def test_a_histogram_has_a_bar_share_for_every_row(store: ScoreStore) -> None:
    assert heights(report.histogram(store, "el2n")) == N


@pytest.mark.parametrize(
    "policy",
    [
        Prune(0.5, "el2n"),
        Prune(0.5, "confidence"),
        Prune(0.2, "el2n", per_class=np.arange(N) % 10),
        Window(0.5, 0.2, "el2n"),
        RandomPrune(0.3),
        Draw("el2n", 60, replacement=True),
        InfoBatch(epochs=9, by="el2n"),
        Upsample(3, "error"),
        KeepAll(),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_the_outline_of_a_plan_is_the_histogram_of_the_rows_that_it_keeps(store: ScoreStore, policy: Policy) -> None:
    plan = policy.plan(store, epoch=0, seed=0)
    figure = report.histogram(store, "el2n", plan=plan)
    assert outline(figure) == in_bins(store, plan.rows)
    assert f"kept by {type(policy).__name__} in epoch 0 ({plan.num_rows})" in words(figure)


def test_the_rows_of_a_plan_made_once_are_outlined_by_their_scores_of_now(store: ScoreStore) -> None:
    sampler = AdaptiveSampler(store, Prune(0.3, "el2n"), replan="once")
    rows = list(sampler)
    store.fold("el2n", rows, np.linspace(-3, 3, len(rows)))  # they are no longer the highest
    assert outline(report.histogram(store, "el2n", plan=report.newest_plan(store))) == in_bins(store, np.array(rows))


def test_visits_that_are_more_than_rows_have_an_outline_of_their_own(store: ScoreStore) -> None:
    plan = Upsample(3, "error").plan(store, epoch=0, seed=0)
    figure = report.histogram(store, "el2n", plan=plan)
    assert plan.num_samples > N
    assert outline(figure, 1) == in_bins(store, plan.indices())
    assert f"visits by Upsample in epoch 0 ({plan.num_samples})" in words(figure)


def test_rows_that_came_after_the_plan_are_not_shown_as_kept(store: ScoreStore) -> None:
    plan = KeepAll().plan(store, epoch=0, seed=0)
    store.grow(2 * N)
    store.fold("el2n", np.arange(N, 2 * N), np.full(N, 0.5))
    assert outline(report.histogram(store, "el2n", plan=plan)) == in_bins(store, np.arange(N))
    shares = report.kept_by_class(store, plan, np.arange(2 * N) // N)
    assert [bar.get_height() for bar in shares.axes[0].patches] == [100, 0]


def test_kept_rows_that_no_axis_can_show_are_counted(store: ScoreStore) -> None:
    store.grow(N + 5)
    plan = KeepAll().plan(store, epoch=2, seed=0)
    assert "kept by KeepAll in epoch 2 (100; 5 not shown)" in words(report.histogram(store, "el2n", plan=plan))


def test_a_composed_policy_is_labelled_by_its_parts(store: ScoreStore) -> None:
    plan = (Prune(0.5, "el2n") & RandomPrune(0.5)).plan(store, epoch=1, seed=0)
    assert f"kept by Prune & RandomPrune in epoch 1 ({plan.num_rows})" in words(
        report.histogram(store, "el2n", plan=plan)
    )


def test_a_plan_of_more_rows_than_the_store_has_is_refused(store: ScoreStore) -> None:
    with ScoreStore.create(None, N + 1, [EL2N()]) as other:
        plan = RandomPrune(0.5).plan(other, epoch=0, seed=0)
    with pytest.raises(
        InvalidValue, match=f"plan {plan.id} is one of 101 rows, the store has 100: pass a plan of this"
    ):
        report.histogram(store, "el2n", plan=plan)


def test_scores_that_only_a_last_bit_tells_apart_have_a_histogram(tmp_path: Path) -> None:
    store = ScoreStore.create(tmp_path / "s", 4, [EL2N()])
    store.fold("el2n", [0, 1, 2, 3], [1, 1, 1, np.nextafter(np.float32(1), np.float32(2))])
    assert heights(report.histogram(store, "el2n")) == 4


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
    scores = ["el2n", "confidence", "variability", "forgetting", "error"]
    assert names == [*scores, "data-map", "kept-by-class"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_each_of_few_classes_is_named_and_of_many_every_kth(store: ScoreStore) -> None:
    plan = KeepAll().plan(store, epoch=0, seed=0)

    def named(labels: np.ndarray) -> list[str]:
        return [tick.get_text() for tick in report.kept_by_class(store, plan, labels).axes[0].get_xticklabels()]

    assert named(np.arange(N) % 3) == ["0", "1", "2"]
    assert named(np.arange(N) % 50) == [str(2 * i) for i in range(25)]


@pytest.mark.parametrize("labels", [np.zeros(N), np.full(N, np.nan), np.full(N, None)], ids=["0.0", "nan", "None"])
def test_labels_that_are_no_classes_are_refused(store: ScoreStore, labels: np.ndarray) -> None:
    with pytest.raises(InvalidValue, match=f"labels has dtype {labels.dtype}: classes are integers, bools or strings"):
        report.kept_by_class(store, KeepAll().plan(store, epoch=0, seed=0), labels)


def test_labels_without_a_plan_that_kept_any_are_refused_before_anything_is_written(
    store: ScoreStore, tmp_path: Path
) -> None:
    with pytest.raises(InvalidValue, match="holds no plan that kept any of them: begin an epoch of a sampler first"):
        report.save_all(store, tmp_path / "figures", labels=np.arange(N))
    assert not (tmp_path / "figures").exists()


def test_a_choice_is_drawn_as_the_finalists_differences() -> None:
    rng = np.random.default_rng(0)
    found = choose({"random": 0, "a": 3, "b": 0.1}, lambda gain, seed, share: rng.normal() + gain)
    axes = report.choice(found).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert "better than random" in axes.get_xlabel()
    alone = choose({"random": 0, "a": 3}, lambda gain, seed, share: float("nan") if gain else 1.0)
    with pytest.raises(InvalidValue, match="no candidate was held against 'random'"):
        report.choice(alone)
