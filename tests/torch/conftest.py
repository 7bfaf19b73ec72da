"""One thread, because two cores are shared and sums must not depend on how they are split; and where stores are kept."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
SHM = Path("/dev/shm")


@pytest.fixture
def place() -> Iterator[Path]:
    """A path for a store, in memory where the system has such a folder: hundreds of commits, each with its fsyncs."""
    with tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as folder:
        yield Path(folder) / "store"
