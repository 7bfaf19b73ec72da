"""Every benchmark runs at its smallest size, and a result file says who wrote it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import RESULTS, digest, markdown
from benchmarks.page import page

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    # In a process of its own: WebDataset leaves shards open, which is an error in this one.
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["billion", "gradients", "store", "streams", "throughput"])
def test_a_benchmark_runs_at_its_smallest_size_and_writes_its_table(name: str, tmp_path: Path) -> None:
    done = run(name, "--quick", "--rounds", 1, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    body = json.loads((tmp_path / f"{name}.json").read_text())
    assert body["rows"]
    assert {"cpu", "cores", "python", "versions", "commit"} <= set(body["machine"])
    assert (tmp_path / f"{name}.md").read_text() == markdown(body)


def test_benchmarks_are_listed_without_a_name() -> None:
    assert {"store", "streams", "throughput"} <= set(run().stdout.split())


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_result_file_is_what_its_benchmark_wrote(path: Path) -> None:
    body = json.loads(path.read_text())
    assert body["digest"] == digest(body)
    assert path.with_suffix(".md").read_text() == markdown(body)


def test_an_edited_result_is_noticed(tmp_path: Path) -> None:
    run("store", "--quick", "--rounds", 1, "--out", tmp_path)
    body = json.loads((tmp_path / "store.json").read_text())
    body["rows"][0]["ratio"] = 0.01
    assert body["digest"] != digest(body)


def test_the_page_of_figures_is_what_the_results_make() -> None:
    shown = (ROOT / "docs/benchmarks.md").read_text()
    assert shown == page(), "results have changed: python -m benchmarks.page"
