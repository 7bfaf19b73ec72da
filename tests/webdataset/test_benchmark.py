"""The benchmark of streams runs at its smallest size, so that it cannot rot."""

from pathlib import Path

import pytest

from benchmarks.streams import main


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_benchmark_fills_every_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = main(["--quick", "--folder", str(tmp_path)])
    assert all(found.values())
    assert "torch" in found["machine"]
    assert "| size | keep | webdataset |" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
