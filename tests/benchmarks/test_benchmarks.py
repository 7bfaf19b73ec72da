"""Every benchmark runs at its smallest size, and a result file says who wrote it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adaptive_sampler.commands.bench import floors
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
    "arguments",
    [
        ["billion"],
        ["gradients"],
        ["hook"],
        ["store"],
        ["streams"],
        ["throughput", "--case", "plan: keep", "kernel: shuffle"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_benchmark_runs_at_its_smallest_size_and_writes_its_table(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, "--quick", "--rounds", 1, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    name = arguments[0]
    body = json.loads((tmp_path / f"{name}.json").read_text())
    assert body["rows"]
    assert {"cpu", "cores", "python", "versions", "commit"} <= set(body["machine"])
    assert (tmp_path / f"{name}.md").read_text() == markdown(body)


def test_every_case_of_the_command_runs_at_its_smallest_size(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "adaptive_sampler", "bench", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "throughput.json").read_text())["rows"]
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


def test_the_page_of_figures_is_what_the_results_make() -> None:
    shown = (ROOT / "docs/benchmarks.md").read_text()
    assert shown == page(), "results have changed: python -m benchmarks.page"
