"""A store to look at, which the tests of the page share."""

import pytest

from adaptive_sampler import ScoreStore
from tests.report.pages import N, trained


@pytest.fixture(scope="module")
def store() -> ScoreStore:
    return trained(None, seen=N - 20)
