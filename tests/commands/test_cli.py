"""The commands say what they did, and what to do where they cannot."""

import io
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import adaptive_sampler
from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Forgetting
from adaptive_sampler.selection import Prune
from adaptive_sampler.shards import ShardIndex
from tests.shards.others import HERE, prepared
from tests.shards.tars import shards

pytest.importorskip("typer")
pytest.importorskip("matplotlib")

from typer.testing import CliRunner

from adaptive_sampler.commands import compile as ahead
from adaptive_sampler.commands.app import app
from adaptive_sampler.kernels import bits, cache
from adaptive_sampler.sampler import AdaptiveSampler

HIDE = "import sys; sys.modules[{name!r}] = None; sys.argv = ['adaptive-sampler', *{arguments!r}]; "


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a version and a plan."""
    with ScoreStore.create(tmp_path / "store", 20, [EL2N(), Forgetting()]) as store:
        rng = np.random.default_rng(0)
        store.fold("el2n", np.arange(16), rng.random(16), epoch=4)
        store.commit("after four epochs", pin=True)
        next(iter(AdaptiveSampler(store, Prune(0.5, "el2n"))))
    return tmp_path / "store"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return result.output


def refused(status: int, *arguments: str) -> str:
    """What a command that ends with this status says: one line."""
    result = CliRunner().invoke(app, arguments, env={"NO_COLOR": "1", "TERM": "dumb"})
    assert (result.exit_code, result.stdout) == (status, "")
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1
    return result.stderr


def without(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a fresh process in which the package `name` is not installed."""
    code = HIDE.format(name=name, arguments=arguments) + "from adaptive_sampler.__main__ import main; main()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_info_shows_scores_and_versions(path: Path) -> None:
    shown = run("info", str(path))
    assert "20 rows" in shown
    row = next(line for line in shown.splitlines() if "el2n" in line).split()
    assert row[:4] == ["el2n", "16", "1.0", "4"]  # observed, times, last epoch
    version = next(line for line in shown.splitlines() if "after four epochs" in line)
    assert "16" in version
    assert "yes" in version  # pinned


def test_info_shows_columns_of_the_users_own(path: Path) -> None:
    assert "columns of your own" not in run("info", str(path))
    with ScoreStore.open(path) as store:
        store.columns["source"], store.columns["tokens"] = ["web"] * 20, range(20)
        store.commit()
    assert "columns of your own: source (text), tokens (int64)" in run("info", str(path))


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


@pytest.mark.parametrize("command", ["info", "report"])
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("nothing", "holds no store: nothing is there. Make one with ScoreStore.create"),
        ("file", "is a file, or in one. Name the folder of a store."),
        ("file/in", "is a file, or in one. Name the folder of a store."),
    ],
)
def test_what_is_no_store_is_one_line_and_not_a_traceback(command: str, place: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert words in refused(1, command, str(tmp_path / place))


def test_a_scheme_that_is_not_kept_is_no_name_of_a_folder() -> None:
    assert "path='hdfs://bucket/scores.zarr': scores and indexes are kept in a folder" in refused(
        2, "info", "hdfs://bucket/scores.zarr"
    )


@pytest.mark.parametrize("command", [["report", "STORE"], ["bench", "--quick"], ["demo", "--quick"]], ids=" ".join)
def test_an_output_that_is_no_folder_is_refused_before_anything_is_run(
    command: list[str], path: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "file").touch()
    words = [str(path) if word == "STORE" else word for word in command]
    said = refused(2, *words, "--output", str(tmp_path / "file"))
    assert f"--output {tmp_path / 'file'}: a folder to write into is needed (File exists)." in said


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "CURRENT"), MemoryError("no room")])
def test_what_the_disk_or_the_memory_refuses_is_one_line_and_not_a_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(ScoreStore, "open", refuse)
    assert str(error) in refused(1, "info", "store")


def test_report_of_a_store_that_observed_nothing_says_so(tmp_path: Path) -> None:
    ScoreStore.create(tmp_path / "empty", 3, [EL2N()]).close()
    said = refused(1, "report", str(tmp_path / "empty"))
    assert "no row of" in said
    assert "has a finite score yet, so there is no figure: observe some and commit." in said


def test_report_draws_the_store_that_one_stands_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path)
    run("report", ".")
    assert (path.parent / "store-report" / "el2n.png").exists()


def test_compile_says_where_the_kernels_lie_and_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_steps", lambda folder: [("bits", lambda: bits.count(np.ones(1, np.uint8)))])
    said = run("compile")
    assert re.fullmatch(rf"All kernels are compiled, in \d+ s: they lie in {re.escape(cache.KEPT[0])}\n", said)


def test_compile_where_no_folder_can_be_written_is_one_line_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_steps", lambda folder: [])
    monkeypatch.setattr(cache, "KEPT", [])
    assert "no folder for them can be written. Set NUMBA_CACHE_DIR to a folder that can" in refused(1, "compile")


def test_errors_go_to_stderr(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["info", str(tmp_path)])
    assert result.stdout == ""
    assert "holds no store" in result.stderr


def test_the_version_is_that_of_the_installed_package() -> None:
    assert run("--version").strip() == adaptive_sampler.__version__ == metadata.version("adaptive-sampler")


def test_the_version_of_sources_that_are_not_installed_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert adaptive_sampler.__version__ == "unknown"


@pytest.mark.parametrize(
    ("missing", "arguments", "hint"),
    [
        ("typer", ["info", "x"], 'pip install "adaptive-sampler[torch,report]"'),
        ("rich", ["demo"], 'pip install "adaptive-sampler[torch,report]"'),
        ("matplotlib", ["report", "x"], 'pip install "adaptive-sampler[report]"'),
        ("altair", ["report", "x"], 'pip install "adaptive-sampler[report]"'),
        ("torch", ["demo"], 'pip install "adaptive-sampler[torch,report]"'),
        ("matplotlib", ["demo"], 'pip install "adaptive-sampler[torch,report]"'),
        ("sklearn", ["demo"], 'pip install "adaptive-sampler[torch,report]"'),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    missing: str, arguments: list[str], hint: str
) -> None:
    result = without(missing, *arguments)
    assert result.returncode == 1
    assert hint in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_the_package_runs_as_a_module() -> None:
    result = subprocess.run([sys.executable, "-m", "adaptive_sampler", "--help"], capture_output=True, text=True)
    assert result.returncode == 0
    assert all(command in result.stdout for command in ("demo", "info", "report"))


def test_the_commands_that_need_no_torch_load_none(path: Path) -> None:
    code = (
        f"import sys; sys.argv = ['adaptive-sampler', 'info', {str(path)!r}]\n"
        "from adaptive_sampler.__main__ import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# -- index --------------------------------------------------------------------------------------------------------------


def test_index_indexes_shards_in_the_notation_of_webdataset(tmp_path: Path) -> None:
    shards(tmp_path, [3, 2])
    out = tmp_path / "index"
    said = run("index", f"{tmp_path}/shard-{{000..001}}.tar", "--output", str(out))
    assert said == f"{out}: 5 samples in 2 shards\n"
    assert len(ShardIndex.open(out)) == 5


def test_index_says_what_cannot_be_read_and_makes_nothing(tmp_path: Path) -> None:
    shards(tmp_path, [3])
    out = tmp_path / "index"
    said = refused(1, "index", f"{tmp_path}/shard-000.tar", f"{tmp_path}/none.tar", "--output", str(out))
    assert said.startswith(f"{tmp_path}/none.tar: cannot be opened: FileNotFoundError")


def test_index_leaves_out_what_cannot_be_read_where_it_is_told_to_go_on(tmp_path: Path) -> None:
    shards(tmp_path, [3])
    out = tmp_path / "index"
    arguments = ("index", f"{tmp_path}/shard-000.tar", f"{tmp_path}/none.tar", "--output", str(out), "--go-on")
    result = CliRunner().invoke(app, arguments, env={"NO_COLOR": "1", "TERM": "dumb"})
    assert (result.exit_code, result.stdout) == (0, f"{out}: 3 samples in 1 shards\n")
    assert result.stderr.startswith(f"{tmp_path}/none.tar: cannot be opened: ")


@pytest.mark.parametrize(
    ("wrote", "place", "count"), [("energon", ".", "12 samples in 4"), ("wids", "shardindex.json", "7 samples in 2")]
)
def test_index_takes_what_another_package_wrote_of_shards(tmp_path: Path, wrote: str, place: str, count: str) -> None:
    prepared(tmp_path / "data")
    shutil.copytree(HERE / "wids", tmp_path / "data", dirs_exist_ok=True)
    out = tmp_path / "index"
    assert run("index", f"{tmp_path}/data/{place}", "--from", wrote, "--output", str(out)) == f"{out}: {count} shards\n"


def test_index_takes_one_place_of_another_packages_index(tmp_path: Path) -> None:
    assert "name one folder of Energon's" in refused(2, "index", "a", "b", "--from", "energon")
