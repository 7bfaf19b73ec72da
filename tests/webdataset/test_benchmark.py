"""The benchmark of streams runs at its smallest size, so that it cannot rot."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_benchmark_fills_every_table(tmp_path: Path) -> None:
    # In a process of its own: WebDataset leaves shards open, which is an error in this one.
    command = [sys.executable, "benchmarks/streams.py", "--quick", "--folder", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": "."}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.count("\n## ") == 8
    assert "| size | keep | webdataset |" in done.stdout
    assert not list(tmp_path.iterdir())
