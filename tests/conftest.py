"""What every test shares: Hypothesis's profiles, small on every run and larger at night; where files lie; the server of forks."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import forks

settings.register_profile("quick", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# Every temporary store is committed with fsync when it is made. In memory, hundreds of them need not wait for a disk.
if Path("/dev/shm").is_dir() and "TMPDIR" not in os.environ:
    tempfile.tempdir = "/dev/shm"


@pytest.fixture(scope="session", autouse=True)
def server_of_forks() -> None:
    """Before any test begins one that has loaded less."""
    forks.begin()
