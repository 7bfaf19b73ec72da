"""The commands say what they did, and what to do where they cannot."""

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
from adaptive_sampler.shards import ShardIndex
from tests.shards.others import HERE, prepared
from tests.shards.tars import shards

pytest.importorskip("typer")
pytest.importorskip("matplotlib")

from typer.testing import CliRunner

from adaptive_sampler.commands import compile as ahead
from adaptive_sampler.commands.app import app
from adaptive_sampler.kernels import bits, cache
from tests.commands.typed import refused, run

HIDE = "import sys; sys.modules[{name!r}] = None; sys.argv = ['adaptive-sampler', *{arguments!r}]; "


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
