"""The commands say what they did, and what to do where they cannot."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Forgetting
from adaptive_sampler.selection import Prune

pytest.importorskip("typer")
pytest.importorskip("matplotlib")

from typer.testing import CliRunner

from adaptive_sampler.commands.app import app
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


def test_report_writes_the_figures_and_names_them(path: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.arange(20) % 2)
    shown = run("report", str(path), "--output", str(tmp_path / "figures"), "--labels", str(tmp_path / "labels.npy"))
    written = {file.name for file in (tmp_path / "figures").iterdir()}
    assert written == {"el2n.png", "kept-by-class.png"}  # nobody observed forgetting
    assert all(str(tmp_path / "figures" / name) in shown for name in written)


def test_report_changes_no_store(path: Path, tmp_path: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    run("report", str(path), "--output", str(tmp_path / "figures"))
    assert before == {file: file.stat().st_mtime_ns for file in path.rglob("*")}


@pytest.mark.parametrize("content", [None, b"no array"])
def test_labels_that_are_no_array_are_one_line_and_not_a_traceback(
    path: Path, tmp_path: Path, content: bytes | None
) -> None:
    labels = tmp_path / "labels.npy"
    if content is not None:
        labels.write_bytes(content)
    result = CliRunner().invoke(app, ["report", str(path), "--labels", str(labels), "--output", str(tmp_path / "f")])
    assert result.exit_code == 1
    assert f"--labels {labels}: a .npy file of NumPy's is needed" in result.output.replace("\n", "")
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["info", "report"])
def test_what_is_no_store_is_one_line_and_not_a_traceback(command: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [command, str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert "holds no store: nothing is there. Make one with ScoreStore.create" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("missing", "arguments", "hint"),
    [
        ("typer", ["info", "x"], 'pip install "adaptive-sampler[torch,report]"'),
        ("rich", ["demo"], 'pip install "adaptive-sampler[torch,report]"'),
        ("matplotlib", ["report", "x"], 'pip install "adaptive-sampler[report]"'),
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
