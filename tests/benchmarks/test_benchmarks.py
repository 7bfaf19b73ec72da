"""Every benchmark runs at its smallest size, and a result file says who wrote it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from adaptive_sampler.commands.bench import arena, command, contest, files, floors
from adaptive_sampler.commands.bench.arena import Setup, Turns
from adaptive_sampler.commands.bench.cases import CASES, PACKAGES
from adaptive_sampler.commands.bench.result import digest, markdown
from benchmarks.harness import RESULTS
from benchmarks.page import page

NOT_HERE = {f"not installed (pip install {package.pip})" for package in PACKAGES}
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}  # small tensors on busy cores wait for a second thread
ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    # In a process of its own: WebDataset leaves shards open, which is an error in this one.
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        cwd=ROOT,
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "name",
    [
        "billion",
        "choice",
        "epochs",
        "gradients",
        "hook",
        "mutations",
        "ranking",
        "ranks",
        "report",
        "selection",
        "store",
        "streams",
        "tables",
        "tokens",
    ],
)
def test_a_benchmark_runs_at_its_smallest_size_and_writes_its_table(name: str, tmp_path: Path) -> None:
    done = run(name, "--quick", "--rounds", 1, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    body = json.loads((tmp_path / f"{name}.json").read_text())
    assert body["rows"]
    assert {"cpu", "cores", "python", "versions", "commit"} <= set(body["machine"])
    assert (tmp_path / f"{name}.md").read_text() == markdown(body)


@pytest.fixture(scope="module")
def throughput(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run of one case and one kernel."""
    results = tmp_path_factory.mktemp("results")
    case = "--case", "plan: keep", "kernel: shuffle"
    done = run("throughput", *case, "--quick", "--rounds", 1, "--out", results)
    assert done.returncode == 0, done.stderr
    return results


def test_throughput_writes_what_the_command_writes_into_a_folder_of_its_name(throughput: Path) -> None:
    assert [path.name for path in throughput.iterdir()] == ["throughput"]
    names = {path.name for path in (throughput / "throughput").iterdir()}
    assert names == {files.ROWS, files.ABOUT, files.TABLE, files.FIGURE}


def test_table_and_figure_are_made_anew_from_kept_rows(throughput: Path, tmp_path: Path) -> None:
    for name in (files.ROWS, files.ABOUT):
        (tmp_path / "throughput").mkdir(exist_ok=True)
        shutil.copy(throughput / "throughput" / name, tmp_path / "throughput" / name)
    assert run("throughput", "--redraw", "--out", tmp_path).returncode == 0
    for path in (throughput / "throughput").iterdir():
        assert (tmp_path / "throughput" / path.name).read_bytes() == path.read_bytes()


def at_once(contestants: dict[str, Setup], turns: int, told: object = None) -> dict[str, Turns]:
    """A contest in this process. That each contestant has one of its own is tested beside the command."""
    return {name: Turns(tuple(each), None, None) for name, each in arena._in_one(contestants, turns).items()}


def test_every_case_of_the_command_runs_at_its_smallest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "compete", at_once)
    monkeypatch.setattr(contest, "compete_in_one", at_once)
    rows = command.run(command.BenchSettings(()).quickly(), Console(quiet=True))["rows"]
    assert {row["case"] for row in rows} == {case.name for case in CASES} | {floors.CASE}
    for row in rows:  # torch's and our own are here, and run
        if row.get("contestant", "").startswith(("ours", "torch", "np.")):
            assert row["s"] > 0, f"{row['case']}, {row['contestant']}: {row['note']}"
    assert {row["note"] for row in rows if row.get("s") == ""} <= NOT_HERE


def test_benchmarks_are_listed_without_a_name() -> None:
    assert {"store", "streams", "throughput"} <= set(run().stdout.split())


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_result_file_is_what_its_benchmark_wrote(path: Path) -> None:
    body = json.loads(path.read_text())
    assert body["digest"] == digest(body)
    assert path.with_suffix(".md").read_text() == markdown(body)


def test_kept_throughput_is_what_its_rows_make() -> None:
    folder = RESULTS / "throughput"
    found = files.read(folder)  # refuses rows that were edited
    assert (folder / files.TABLE).read_text() == markdown(found)
    with Image.open(folder / files.FIGURE) as figure:
        assert figure.info["Description"] == found["digest"]


def test_every_kept_figure_is_shown_by_a_page() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    kept = {path.relative_to(ROOT).as_posix() for path in RESULTS.rglob("*.png")}
    assert {figure for figure in kept if f"(../{figure})" not in pages} == set()


def test_the_page_of_figures_is_what_the_results_make() -> None:
    shown = (ROOT / "docs/benchmarks.md").read_text()
    assert shown == page(), "results have changed: python -m benchmarks.page"


def test_the_page_explains_kernels_as_the_code_does_now() -> None:
    lines = page().splitlines()
    for floor in floors.FLOORS:
        ends = {line.rpartition(" | ")[2] for line in lines if f"| {floor.name} |" in line}
        assert ends
        assert ends <= {f"{floor.why} |", " |", "|"}


@pytest.mark.parametrize("folder", ["adaptive_sampler", "benchmarks"])
def test_nothing_outside_the_tests_imports_them(folder: str) -> None:
    sources = {path: path.read_text() for path in (ROOT / folder).rglob("*.py")}
    assert [path for path, text in sources.items() if re.search(r"(from|import) tests\b", text)] == []


def test_benchmarks_use_no_private_name_of_the_package() -> None:
    """Their own private names, on `self`, are theirs; the text of a program that they start counts too."""
    for path in (ROOT / "benchmarks").rglob("*.py"):
        text = path.read_text()
        assert re.findall(r"\b(?!self\b)\w+\._[a-z]\w*", text) == [], path
        imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
        assert [a.name for node in imported for a in node.names if a.name.startswith("_")] == [], path
