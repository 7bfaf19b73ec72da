"""The page says and draws what is in the store, whatever is in it, and refuses what does not belong to it."""

import base64
import csv
import html as markup
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Forgetting, Margin
from adaptive_sampler.selection import KeepAll, Prune, Window
from tests.report.pages import CLASSES, LABELS, N, charts, trained, words, written

pytest.importorskip("matplotlib")
pytest.importorskip("altair")
pytest.importorskip("vl_convert")
pytest.importorskip("platformdirs")

from adaptive_sampler.report import bundle, cuts, page
from adaptive_sampler.report.ordering import order
from adaptive_sampler.sampler import AdaptiveSampler


def test_the_summary_tells_rows_scores_versions_runs_and_what_the_plan_keeps(store: ScoreStore, tmp_path: Path) -> None:
    plan = Prune(0.25, "el2n").plan(store, epoch=2, seed=7)
    said = words(written(store, tmp_path, plan=plan))
    assert f"{N} 280 observed" in said
    assert "el2n, margin, confidence, variability, entropy" in said
    assert "25.0% 75 of 300 rows by Prune" in said
    assert "training runs 1: unnamed" in said
    assert "Prune(keep=0.25, by='el2n', order='highest', ties='random')" in said
    assert "epoch and seed 2, 7" in said
    assert store.about["uuid"] in said


def test_the_newest_saved_plan_is_shown_unless_another_is_given(tmp_path: Path) -> None:
    with trained(None) as store:
        assert "no plan is saved yet" in words(written(store, tmp_path))
        next(iter(AdaptiveSampler(store, Prune(0.5, "margin"))))
        assert "150 of 300 rows by Prune" in words(written(store, tmp_path))


def test_the_bars_of_a_histogram_are_all_rows_that_have_a_score(store: ScoreStore, tmp_path: Path) -> None:
    plan = Prune(0.5, "el2n").plan(store, epoch=0, seed=0)
    drawn = charts(written(store, tmp_path, plan=plan))
    bins = drawn["histogram-0"]["datasets"]["bins"]
    assert (sum(b["all"] for b in bins), sum(b["kept"] for b in bins)) == (N - 20, N // 2 - 20)


@pytest.mark.parametrize(
    ("policy", "places"),
    [(Prune(0.5, "el2n"), 1), (Prune(0.5, "el2n", order="lowest"), 1), (Window(0.4, 0.3, "el2n"), 2), (KeepAll(), 0)],
)
def test_a_plan_that_keeps_a_stretch_of_the_ranking_cuts_where_it_begins_and_ends(policy: Any, places: int) -> None:
    with trained(None) as store:
        plan = policy.plan(store, epoch=0, seed=0)
        found = cuts.of_score(order(store, "el2n"), plan.repeats > 0)
        kept = store["el2n"][plan.rows]
        assert len(found) == places
        assert set(found) <= {float(kept.min()), float(kept.max())}


def test_a_plan_within_classes_cuts_nowhere(store: ScoreStore) -> None:
    plan = Prune(0.5, "margin", per_class=LABELS).plan(store, epoch=0, seed=0)
    assert cuts.of_score(order(store, "margin"), plan.repeats > 0) == []


@pytest.mark.parametrize("keys", [None, [f"key {i}" for i in range(N)]], ids=["rows", "keys"])
@pytest.mark.parametrize(("offset", "keep"), [(0, 50), (20, 30), (50, 50), (33, 67), (97, 3), (0, 5), (0, 100)])
def test_what_the_sliders_count_is_what_the_policy_keeps_by_class(offset: int, keep: int, keys: Any) -> None:
    """With many equal scores, of which a hash decides, and rows that were never observed."""
    store = ScoreStore.create(None, N, [EL2N()], keys=keys)
    store.fold("el2n", np.arange(N - 30), np.random.default_rng(1).integers(0, 9, N - 30))
    highest = offset + keep == 100
    policy = Prune(keep / 100, "el2n") if highest else Window(keep / 100, offset / 100, "el2n")
    plan = policy.plan(store, epoch=0, seed=0)
    one = order(store, "el2n")
    low, high, top = one.before(LABELS, CLASSES)
    unseen = np.bincount(LABELS[N - 30 :], minlength=CLASSES)
    kept = high[:, 100] - top[:, keep] if highest else np.maximum(high[:, offset + keep] - low[:, offset], 0)
    assert (unseen + kept).tolist() == np.bincount(LABELS[plan.rows], minlength=CLASSES).tolist()


def test_scores_agree_as_spearmans_correlation_says(store: ScoreStore, tmp_path: Path) -> None:
    pairs = charts(written(store, tmp_path))["agreement"]["datasets"]["cells"]
    found = {(pair["one"], pair["other"]): pair["spearman"] for pair in pairs}
    ranks = [np.argsort(np.argsort(store[name][: N - 20])) for name in ("el2n", "margin")]
    assert found["el2n", "margin"] == pytest.approx(np.corrcoef(ranks)[0, 1], abs=1e-6)
    assert found["margin", "el2n"] == found["el2n", "margin"]
    assert found["el2n", "el2n"] == 1


def test_stability_compares_each_version_with_now(store: ScoreStore, tmp_path: Path) -> None:
    lines = charts(written(store, tmp_path))["stability"]["datasets"]["lines"]
    assert [line["version"] for line in lines if line["score"] == "margin"] == [1, 2, 3]
    assert [line["spearman"] for line in lines if line["version"] == 3] == pytest.approx([1] * 5)


def test_classes_are_followed_over_the_plans_or_else_over_the_versions(tmp_path: Path) -> None:
    with trained(None) as store:
        cells = charts(written(store, tmp_path, labels=LABELS))["history"]["datasets"]["cells"]
        assert {cell["when"] for cell in cells} == {"version 1", "version 2", "version 3"}
        sampler = AdaptiveSampler(store, Prune(0.5, "margin"))
        kept = []
        for _ in range(2):
            kept.append(np.bincount(LABELS[list(sampler)], minlength=CLASSES) / (N / CLASSES))
        cells = charts(written(store, tmp_path, labels=LABELS))["history"]["datasets"]["cells"]
        assert [cell["share"] for cell in cells] == pytest.approx(np.concatenate(kept).tolist())
        assert {cell["when"] for cell in cells} == {"epoch 0", "epoch 1"}


def test_suspects_are_the_lowest_margins_as_a_csv_file(tmp_path: Path) -> None:
    store = trained(None, keys=[f'key, "{i}"' for i in range(N)])
    page = written(store, tmp_path, labels=LABELS, predictions=LABELS[::-1])
    link = re.search(r'download="suspects.csv" href="data:text/csv;charset=utf-8;base64,([^"]*)"', page)
    assert link
    lines = list(csv.DictReader(io.StringIO(base64.b64decode(markup.unescape(link[1])).decode(), newline="")))
    rows = [int(line["row"]) for line in lines]
    assert rows == np.argsort(store["margin"]).tolist()
    assert [line["key"] for line in lines] == [store.key(row) for row in rows]
    assert [(int(line["label"]), int(line["prediction"])) for line in lines] == [
        (LABELS[row], LABELS[::-1][row]) for row in rows
    ]
    assert [float(line["margin"]) for line in lines] == pytest.approx(store["margin"][rows].tolist(), rel=1e-5)


def test_the_gallery_shows_both_ends_of_a_score_and_both_sides_of_the_cut(store: ScoreStore, tmp_path: Path) -> None:
    plan = Prune(0.5, "margin").plan(store, epoch=0, seed=0)
    texts = [f"text of row {row}." for row in range(N)]
    page = written(store, tmp_path, dataset=texts, plan=plan)
    opened = page.split("<details open>")[1].split("</details>")[0]
    groups = [re.findall(r"text of row (\d+)", part) for part in opened.split("<h3")[1:]]
    ranking = order(store, "margin").rows
    assert [int(row) for row in groups[0]] == ranking[:8].tolist()  # of margins the lowest are those to look at
    assert [int(row) for row in groups[2]] == ranking[::-1][:8].tolist()
    assert re.findall(r"· (stays|goes)", opened.split("<h3")[2]) == ["goes"] * 4 + ["stays"] * 4


def test_labels_come_from_the_dataset_or_a_column_where_none_are_given(tmp_path: Path) -> None:
    class Data(list[str]):
        targets = tuple(f"class {label}" for label in LABELS)

    with trained(None) as store:
        assert "trial-classes" not in charts(written(store, tmp_path))
        assert "class 3" in written(store, tmp_path, dataset=Data(["x"] * N))
        store.columns["source"] = LABELS % 2
        drawn = charts(written(store, tmp_path, labels="source"))
        assert [c["of"] for c in drawn["trial-classes"]["datasets"]["classes"]] == [N // 2, N // 2]
        store.columns["label"] = LABELS
        assert len(charts(written(store, tmp_path))["trial-classes"]["datasets"]["classes"]) == CLASSES


def test_of_many_classes_the_largest_are_shown_and_the_others_as_one(store: ScoreStore, tmp_path: Path) -> None:
    labels = np.minimum(np.arange(N), 100)
    lines = charts(written(store, tmp_path, labels=labels))["trial-classes"]["datasets"]["classes"]
    assert len(lines) == 24
    assert lines[-1]["class"] == "78 other classes"
    assert sum(line["of"] for line in lines) == N


@pytest.mark.parametrize("kind", ["no scores", "never observed", "only infinite"])
def test_a_store_without_a_finite_score_has_a_page_that_says_so(kind: str, tmp_path: Path) -> None:
    store = ScoreStore.create(None, 5, [] if kind == "no scores" else [Forgetting()])
    if kind == "only infinite":
        store.update(np.arange(5), logits=np.eye(5), labels=(np.arange(5) + 1) % 5)
    page = written(store, tmp_path, dataset=["x"] * 5, labels=[0, 0, 1, 1, 1])
    assert "No row of this store has a finite score" in words(page)
    assert len(page) < 50_000  # nothing is drawn, so it needs no library


@pytest.mark.parametrize("n", [1, 2, 300])
def test_a_page_is_made_of_one_score_one_class_and_any_number_of_rows(n: int, tmp_path: Path) -> None:
    store = ScoreStore.create(None, n, [Margin()])
    store.fold("margin", np.arange(n), np.ones(n))
    drawn = charts(written(store, tmp_path, labels=np.zeros(n, int)))
    assert sum(b["all"] for b in drawn["histogram-0"]["datasets"]["bins"]) == n
    assert "agreement" not in drawn


def test_one_row_far_out_does_not_press_all_others_into_one_bar(tmp_path: Path) -> None:
    store = ScoreStore.create(None, 5000, [EL2N()])
    store.fold("el2n", np.arange(5000), np.r_[np.linspace(0, 1, 4999), 1e9])
    bins = charts(written(store, tmp_path))["histogram-0"]["datasets"]["bins"]
    assert max(b["all"] for b in bins) < 200
    assert sum(b["all"] for b in bins) == 5000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"dataset": ["x"] * 3},
            "dataset has 3 samples, the store 300 rows: row i must be dataset[i]. Pass the dataset",
        ),
        ({"dataset": iter("x")}, "one with a length and samples by number is needed"),
        ({"labels": [1, 2]}, r"labels have shape (2,): one for each of the 300 rows is needed"),
        ({"labels": np.zeros(N)}, "labels have dtype float64: classes are integers, bools or strings. Convert them"),
        ({"labels": "group"}, "labels='group' is no column of the store, whose columns are: none"),
        ({"predictions": np.zeros((N, 4))}, "predictions have shape (300, 4): one class for each of the 300 rows"),
    ],
)
def test_what_is_not_of_the_stores_rows_is_refused(
    store: ScoreStore, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidValue, match=re.escape(words)):
        written(store, tmp_path, **options)
    assert not (tmp_path / "page.html").exists()


def test_a_plan_of_another_store_is_refused(store: ScoreStore, tmp_path: Path) -> None:
    with trained(None, n=N + 1) as other, pytest.raises(InvalidValue, match="pass a plan of this store"):
        written(store, tmp_path, plan=KeepAll().plan(other, epoch=0, seed=0))


def test_the_script_is_made_once_a_machine_and_again_where_the_kept_one_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(bundle.FOLDER, str(tmp_path))
    made = []
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda snippet, release: made.append(1) or "a </script><!-- b")
    for _ in range(2):
        assert bundle.script.__wrapped__().startswith(r"a <\/script><\!-- b")
    (kept,) = tmp_path.iterdir()
    assert len(made) == 1
    kept.write_text("a <")
    bundle.script.__wrapped__()
    assert len(made) == 2


def test_where_no_folder_can_be_written_the_script_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(bundle.FOLDER, str(tmp_path / "file" / "folder"))
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda snippet, release: "made")
    assert bundle.script.__wrapped__().startswith("made")


def test_a_page_that_cannot_be_written_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        ScoreStore.create(None, 3, [EL2N()]) as store,
        pytest.raises(InvalidValue, match=r"cannot be written .*Name a file"),
    ):
        page.html(store, tmp_path / "file" / "page.html")
