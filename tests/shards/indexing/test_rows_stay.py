"""A row of an index names one sample for ever: what would move or change it is an error, and what was lost is told again."""

from pathlib import Path

import pytest

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards import ShardIndex
from tests.shards.tars import body, write_tar


def shard(path: Path, keys: list[str]) -> str:
    """A shard of samples with these keys."""
    return str(write_tar(path, [(f"{key}.bin", body(key)) for key in keys]))


@pytest.mark.parametrize(
    ("before", "after"), [(["a/1"], ["a/10", "a/11"]), (["1", "23"], ["12", "3"]), (["1", "2"], ["12"])]
)
@pytest.mark.parametrize("last", [True, False])
def test_keys_that_only_read_the_same_end_to_end_are_other_keys(
    tmp_path: Path, before: list[str], after: list[str], last: bool
) -> None:
    urls = [shard(tmp_path / "a.tar", before)] + ([] if last else [shard(tmp_path / "b.tar", ["z"])])
    known = ShardIndex.build(urls, tmp_path / "index").keys
    shard(tmp_path / "a.tar", after)
    with pytest.raises(InvalidValue, match=r"a\.tar has changed since it was indexed.*renumber=True"):
        ShardIndex.build(urls, tmp_path / "index")
    assert ShardIndex.open(tmp_path / "index").keys == known
