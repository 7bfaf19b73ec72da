"""Archives of real tools give the samples that WebDataset gives, where it reads them right."""

from pathlib import Path

import pytest

from tests.shards.tools import TOOLS, packed
from tests.webdataset.test_same_as_webdataset import by_index, by_webdataset


@pytest.mark.parametrize("name", [name for name in TOOLS if not TOOLS[name].times])
def test_samples_are_those_of_webdataset(tmp_path: Path, name: str) -> None:
    archive, files = packed(name, tmp_path)
    samples = by_index([str(archive)], tmp_path)
    assert samples == by_webdataset([str(archive)])
    assert 3 * len(samples) == len(files)
