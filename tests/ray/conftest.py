"""One local cluster of two workers for all tests with Ray: it takes seconds to start."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

if importlib.util.find_spec("ray") is None:
    collect_ignore_glob = ["test_*"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests come first, so that xdist, which deals out a row of tests to each of its processes, gives them to one."""
    here = Path(__file__).parent
    items.sort(key=lambda item: here not in item.path.parents)


def begin() -> None:
    """Begin a cluster."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=1 << 27)


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    import ray

    begin()
    yield
    ray.shutdown()
