"""What is odd in a store, a dataset or labels comes out of the page as it went in, and counts as the policies count."""

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
from adaptive_sampler.selection import Prune
from tests.report.pages import CLASSES, LABELS, N, charts, trained, words, written

pytest.importorskip("matplotlib")
pytest.importorskip("altair")
pytest.importorskip("vl_convert")
pytest.importorskip("platformdirs")


def test_equal_scores_of_a_version_are_cut_as_plans_cut_them_and_not_by_position(tmp_path: Path) -> None:
    labels = np.arange(N) // (N // 2)  # sorted by class, as data sets often are
    with ScoreStore.create(None, N, [EL2N()]) as store:
        store.fold("el2n", np.arange(N), np.ones(N))
        store.commit("all equal")
        kept = Prune(0.5, "el2n").plan(store, epoch=0, seed=0).repeats > 0
        cells = charts(written(store, tmp_path, labels=labels))["history"]["datasets"]["cells"]
    assert [cell["share"] for cell in cells] == [kept[labels == label].mean() for label in (0, 1)]


def test_the_median_of_a_score_is_numpys(tmp_path: Path) -> None:
    store = ScoreStore.create(None, 6, [Margin()])
    store.fold("margin", np.arange(4), [0.0, 1.0, 4.0, 9.0])
    assert "margin 4 1.0 0 0 2.5 9 0" in words(written(store, tmp_path))


def test_of_a_score_of_infinite_values_alone_each_is_counted(tmp_path: Path) -> None:
    store = ScoreStore.create(None, 6, [Forgetting()])
    store.update(np.arange(3), logits=np.eye(3), labels=[1, 2, 0])  # never learned
    assert "forgetting 3 1.0 0 inf inf inf 3" in words(written(store, tmp_path))


@pytest.mark.parametrize(
    ("labels", "predictions", "wrong"),
    [
        (LABELS, LABELS.astype(np.float32), False),
        (LABELS % 2, LABELS % 2 == 1, False),
        (LABELS % 2 == 1, LABELS % 2, False),
        (LABELS, (LABELS + 1.0) % CLASSES, True),
        (np.full(N, "x" * 70 + "1"), np.full(N, "x" * 70 + "2"), True),
    ],
)
def test_a_prediction_is_the_label_or_not_however_it_is_written(
    store: ScoreStore, labels: Any, predictions: Any, wrong: bool, tmp_path: Path
) -> None:
    page = words(written(store, tmp_path, labels=labels, predictions=predictions))
    assert ("≠ predicted" in page, "= predicted" in page) == (wrong, not wrong)


def test_predictions_that_are_no_array_are_refused(store: ScoreStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"predictions are no array: .* Pass one class for each row"):
        written(store, tmp_path, predictions=[[1], [1, 2]])


def test_a_dataset_whose_targets_are_a_method_or_raise_has_a_page_without_classes(tmp_path: Path) -> None:
    class Data(list[str]):
        def labels(self) -> list[int]:
            return [1]

        @property
        def targets(self) -> list[int]:
            raise RuntimeError("not loaded")

    assert "trial-classes" not in charts(written(trained(None), tmp_path, dataset=Data(["x"] * N)))


def exported(page: str) -> list[dict[str, str]]:
    link = re.search(r'href="data:text/csv;charset=utf-8;base64,([^"]*)"', page)
    assert link
    return list(csv.DictReader(io.StringIO(base64.b64decode(markup.unescape(link[1])).decode(), newline="")))


def test_no_spreadsheet_runs_a_key_or_label_of_the_suspects(tmp_path: Path) -> None:
    store = trained(None, keys=[f"=HYPERLINK({i})" for i in range(N)])
    lines = exported(written(store, tmp_path, labels=np.where(LABELS == 1, "@SUM(1)", "-1")))
    assert all(line["key"].startswith("'=HYPERLINK(") for line in lines)
    assert {line["label"] for line in lines} == {"'@SUM(1)", "-1"}
    assert float(lines[0]["margin"]) == pytest.approx(store["margin"].min(), rel=1e-5)


def test_labels_that_are_no_unicode_are_in_page_and_file(tmp_path: Path) -> None:
    lines = exported(written(trained(None), tmp_path, labels=np.where(LABELS == 1, "a\ud800", "b")))
    assert {line["label"] for line in lines} == {"a?", "b"}
