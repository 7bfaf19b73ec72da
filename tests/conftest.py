"""What every test shares: Hypothesis's profiles, small on every run and larger at night; where files lie; the server of forks;
and `--covering`, a few cases of each test."""

import gc
import os
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import forks

settings.register_profile("quick", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("few", max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# Every temporary store is committed with fsync when it is made. In memory, hundreds of them need not wait for a disk.
if Path("/dev/shm").is_dir() and "TMPDIR" not in os.environ:
    tempfile.tempdir = "/dev/shm"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected, more than a million objects, is never garbage. Python would look through it time and
    again, and so would the Trainer, Accelerate and Lightning, which collect garbage when a training begins or ends."""
    gc.disable()
    found = yield
    gc.collect()
    gc.freeze()
    gc.enable()
    return found


@pytest.fixture
def interruptible() -> Generator[None, None, None]:
    """Interrupts arrive, also where the shell lets a job in the background ignore them, or Ray Train's handler was left."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def server_of_forks() -> None:
    """Before any test begins one that has loaded less."""
    forks.begin()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--covering",
        action="store_true",
        help="of each test the cases that bring a value of a parameter which no case before them had: all values, and not "
        "all combinations of them",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--covering"):
        return
    seen: set[tuple[str, str, int]] = set()
    kept, left = [], []
    for item in items:
        given = item.callspec.params if hasattr(item, "callspec") else {"": None}
        values = {(item.nodeid.partition("[")[0], name, id(value)) for name, value in given.items()}
        (left if values <= seen else kept).append(item)
        seen |= values
    config.hook.pytest_deselected(items=left)
    items[:] = kept
