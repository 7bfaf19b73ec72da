"""What a benchmark measured is read back as it was written, an edit is noticed, and its figure can be read."""

import importlib
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler.commands.bench import files
from adaptive_sampler.commands.bench.cases import CASES
from adaptive_sampler.commands.bench.result import body, digest, markdown, tables, write
from adaptive_sampler.errors import InvalidValue


def row(case: str, n: int, contestant: str, ratio: Any, note: str = "") -> dict[str, Any]:
    """A contestant's row, as a contest writes it; `ratio` "" where it did not run."""
    seconds = "" if ratio == "" else 0.1 * ratio
    return {"case": case, "n": n, "contestant": contestant, "s": seconds, "ratio": ratio, "note": note}


ROWS = [
    row("sort", 1000, "ours", 1.0),
    row("sort", 1000, "slow", 300.0),
    row("sort", 1000, "fast", 0.5),
    row("sort", 2000, "ours", 1.0),
    row("sort", 2000, "slow", "", "skipped: 58 s a turn\u2028by what it took at 1000"),
    row("sort", 2000, "fast", 2 / 3),
    row("import", 0, "ours", 1.0),
    {"case": "kernels", "n": 1000, "kernel": "shuffle", "s": 0.1},
]


@pytest.fixture
def found() -> dict[str, Any]:
    return body("throughput", ROWS, {"n": (1000, 2000)}, "about", by="case")


# -- one file ---------------------------------------------------------------------------------------------------------


def test_a_result_names_no_folder_and_says_where_it_comes_from() -> None:
    found = body("name", [{"a": 1}], {"out": Path("/somewhere"), "n": 3}, "about")
    assert found["arguments"] == {"n": 3}
    assert {"cpu", "cores", "python", "versions", "commit"} <= set(found["machine"])


def test_an_edited_result_is_noticed(tmp_path: Path) -> None:
    path = write(body("name", [{"ratio": 0.5}], {}, "about"), tmp_path)
    found = json.loads(path.read_text())
    assert found["digest"] == digest(found)
    found["rows"][0]["ratio"] = 0.1
    assert found["digest"] != digest(found)


def test_rows_of_other_columns_or_another_case_are_another_table() -> None:
    rows = [{"case": "a", "s": 1}, {"case": "a", "s": 2}, {"case": "b", "s": 3}, {"case": "b", "share": 4}]
    assert [(title, names, len(some)) for title, names, some in tables(rows, "case")] == [
        ("a", ["s"], 2),
        ("b", ["s"], 1),
        ("b", ["share"], 1),
    ]


# -- a folder ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(found: dict[str, Any], tmp_path: Path) -> Path:
    pytest.importorskip("matplotlib")
    files.save(found, tmp_path / "run")
    return tmp_path / "run"


def test_what_is_read_is_what_was_saved(found: dict[str, Any], folder: Path) -> None:
    again = files.read(folder)
    assert again.pop("digest")
    assert again == found | {"arguments": {"n": [1000, 2000]}}  # JSON has no tuples


def test_every_row_is_a_line(folder: Path) -> None:
    assert [json.loads(line) for line in (folder / files.ROWS).read_text().splitlines()] == ROWS


def test_saving_what_was_read_changes_no_byte(folder: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert set(before) == {files.ROWS, files.ABOUT, files.TABLE, files.FIGURE}
    files.save(files.read(folder), folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_the_table_is_made_from_the_rows(folder: Path) -> None:
    assert (folder / files.TABLE).read_text() == markdown(files.read(folder))


@pytest.mark.parametrize(
    ("name", "old", "new"), [(files.ROWS, "300.0", "3000.0"), (files.ABOUT, '"about": "about"', '"about": "better"')]
)
def test_an_edited_file_is_refused(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    with pytest.raises(InvalidValue, match="was edited after the run"):
        files.read(folder)


def test_without_contests_no_figure_is_left(found: dict[str, Any], folder: Path) -> None:
    files.save(found | {"rows": ROWS[-1:]}, folder)
    assert not (folder / files.FIGURE).exists()


# -- the figure -------------------------------------------------------------------------------------------------------


@pytest.fixture
def figures() -> Any:
    """The module, which cannot be imported without matplotlib."""
    pytest.importorskip("matplotlib")
    return importlib.import_module("adaptive_sampler.commands.bench.figures")


def test_a_case_is_a_panel_with_the_fastest_first_and_those_that_never_ran_left_out(figures: Any) -> None:
    rows = [*ROWS, row("import", 0, "broken", "", "ImportError")]
    panels = figures.panels_of(rows)
    assert [(panel.case, [group[0]["contestant"] for group in panel.groups]) for panel in panels] == [
        ("sort", ["fast", "ours", "slow"]),
        ("import", ["ours"]),
    ]


def test_the_figure_bears_the_digest_of_its_rows(folder: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    with image.open(folder / files.FIGURE) as figure:
        assert figure.info["Description"] == files.read(folder)["digest"]


LONG = "module_of_a_user.submodule:factory_of_curriculum_samplers"
EVERYBODY = [row(case.name, 10**8, each.name, 0.999) for case in CASES for each in case.contestants]
PAGES = {
    "two panels": ROWS,
    "every case, and all who compete": EVERYBODY,
    "one panel": ROWS[:3],
    "odd sizes, far ratios and a long name": [
        row("case with a title in full, n/2 of n rows, plan included", 123_456_789, name, ratio)
        for name, ratio in (("ours", 1.0), (LONG, 123_456.7), ("other", 0.000_123))
    ],
}


@pytest.mark.parametrize("rows", PAGES.values(), ids=PAGES)
def test_no_text_of_the_figure_is_cut_off_or_meets_another(rows: list[dict[str, Any]], figures: Any) -> None:
    shown = figures.draw(
        figures.panels_of(rows), "A processor of a long name (TM) @ 3.20 GHz, 128 cores, 2048 GiB " * 2
    )
    texts = boxes_of_texts(shown)
    assert {row["case"] for row in rows if row.get("contestant")} <= {text for text, _ in texts}
    for text, box in texts:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= shown.bbox.x1, text
        assert box.y1 <= shown.bbox.y1, text
    assert [(a, b) for (a, one), (b, other) in combinations(texts, 2) if one.overlaps(other)] == []


def boxes_of_texts(figure: Any) -> list[tuple[str, Any]]:
    """Every text that the figure shows, and where."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    return [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts]


def test_panels_stand_in_line_on_one_axis(figures: Any) -> None:
    rows = [row(f"case {i}", 1000, "ours", 1.0) for i in range(5)]
    axes = figures.draw(figures.panels_of(rows), "").axes
    places = [a.get_position() for a in axes]
    assert len({round(place.x0, 6) for place in places}) == len({round(place.width, 6) for place in places}) + 1 == 2
    assert {place.y1 for place in places[:2]} == {places[0].y1}
    assert {(a.get_xscale(), a.get_xlim()) for a in axes} == {("log", axes[0].get_xlim())}
