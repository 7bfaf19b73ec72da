"""`adaptive-sampler report` draws a store's figures or writes its page, and says what it cannot take."""

import io
from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N

pytest.importorskip("typer")
pytest.importorskip("matplotlib")

from tests.commands.typed import refused, run


def test_report_writes_the_figures_and_names_them(path: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.arange(20) % 2)
    shown = run("report", str(path), "--output", str(tmp_path / "figures"), "--labels", str(tmp_path / "labels.npy"))
    written = {file.name for file in (tmp_path / "figures").iterdir()}
    assert written == {"el2n.png", "kept-by-class.png"}  # nobody observed forgetting
    assert all(str(tmp_path / "figures" / name) in shown for name in written)


def test_report_writes_one_page_where_a_file_is_named_for_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "labels.npy", np.arange(20) % 2)
    np.save(tmp_path / "images.npy", np.zeros((20, 4, 4)))
    (tmp_path / "mydata.py").write_text("def train_set():\n    return ['some text'] * 20\n")
    monkeypatch.chdir(tmp_path)
    for data, sign in (("images.npy", "data:image/png"), ("mydata:train_set", "some text")):
        more = ["--data", data, "--labels", "labels.npy", "--predictions", "labels.npy"]
        shown = run("report", str(path), "--html", str(tmp_path / "deep" / "page.html"), *more)
        assert shown.strip() == str(tmp_path / "deep" / "page.html")
        assert sign in (tmp_path / "deep" / "page.html").read_text()
    assert not (path.parent / "store-report").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--data", "mydata:train_set"],
            "--data and --predictions are for the page: name its file by --html report.html",
        ),
        (["--html", "p.html", "--data", "mydata"], "--data mydata: write module:name, as in mydata:train_set"),
        (
            ["--html", "p.html", "--data", "nomodule:x"],
            "--data nomodule:x: ModuleNotFoundError: No module named 'nomodule'. Name a module that can be imported from here",
        ),
        (["--html", "."], "path='.' is a folder: name a file in it, such as 'report.html'"),
    ],
)
def test_what_no_page_can_be_made_of_is_one_line_and_not_a_traceback(
    path: Path, options: list[str], words: str
) -> None:
    assert words in refused(2, "report", str(path), *options)


def test_report_changes_no_store(path: Path, tmp_path: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    run("report", str(path), "--output", str(tmp_path / "figures"))
    assert before == {file: file.stat().st_mtime_ns for file in path.rglob("*")}


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


LABELS = npy(np.arange(20) % 2)
NO_ARRAYS = {
    "missing": None,
    "empty": b"",
    "no array": b"no array",
    "a zip": b"PK\x03\x04",
    "objects": npy(np.full(20, None)),
    "cut off": LABELS[:-8],
    "damaged header": LABELS.replace(b"'shape'", b"'''hape"),
    "more than there is memory": LABELS.replace(b"(20,), }" + b" " * 13, b"(99999999999999,), }"),
}


@pytest.mark.parametrize("content", NO_ARRAYS.values(), ids=NO_ARRAYS)
def test_labels_that_are_no_array_are_one_line_and_not_a_traceback(
    path: Path, tmp_path: Path, content: bytes | None
) -> None:
    labels = tmp_path / "labels.npy"
    if content is not None:
        labels.write_bytes(content)
    said = refused(2, "report", str(path), "--labels", str(labels), "--output", str(tmp_path / "f"))
    assert f"--labels {labels}: a .npy file of NumPy's is needed" in said


@pytest.mark.parametrize(
    ("labels", "words"),
    [(np.arange(3), "labels has shape (3,): one value for each of the 20"), (np.zeros(20), "labels has dtype float64")],
)
def test_labels_that_do_not_fit_the_store_are_one_line_and_not_a_traceback(
    path: Path, tmp_path: Path, labels: np.ndarray, words: str
) -> None:
    np.save(tmp_path / "labels.npy", labels)
    assert words in refused(2, "report", str(path), "--labels", str(tmp_path / "labels.npy"))


def test_report_of_a_store_that_observed_nothing_says_so(tmp_path: Path) -> None:
    ScoreStore.create(tmp_path / "empty", 3, [EL2N()]).close()
    said = refused(1, "report", str(tmp_path / "empty"))
    assert "no row of" in said
    assert "has a finite score yet, so there is no figure: observe some and commit." in said


def test_report_draws_the_store_that_one_stands_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path)
    run("report", ".")
    assert (path.parent / "store-report" / "el2n.png").exists()
