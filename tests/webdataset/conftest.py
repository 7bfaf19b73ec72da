"""An index of five shards, of unequal sizes, that hold the 90 samples of `planned.py`."""

import pytest

from adaptive_sampler.shards import ShardIndex
from tests.shards.tars import index_of


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    return index_of(tmp_path_factory.mktemp("shards"), [13, 1, 40, 7, 29])
