"""What real tools pack is indexed: the same files, with the same bytes, as the tool itself extracts."""

from pathlib import Path

import pytest

from adaptive_sampler.shards import ShardIndex, ShardReader
from tests.shards.tars import plan_of
from tests.shards.tools import TOOLS, packed, parts


@pytest.mark.parametrize("name", TOOLS)
def test_samples_are_the_files_that_the_tool_extracts(tmp_path: Path, name: str) -> None:
    archive, files = packed(name, tmp_path)
    index = ShardIndex.build(str(archive), tmp_path / "index")
    samples = list(ShardReader(index, plan_of(len(index), range(len(index))), window=0))
    assert parts(samples) == files
    assert 3 * len(samples) == len(files)
