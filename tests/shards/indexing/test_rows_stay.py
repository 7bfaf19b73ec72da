"""A row of an index names one sample for ever: what would move or change it is an error, and what was lost is told again."""

from pathlib import Path

import pytest

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards import ShardDamaged, ShardIndex
from adaptive_sampler.shards.errors import Handler
from tests.shards.indexing.handlers import go_on, stop
from tests.shards.tars import body, shards, write_tar


def shard(path: Path, keys: list[str]) -> str:
    """A shard of samples with these keys."""
    return str(write_tar(path, [(f"{key}.bin", body(key)) for key in keys]))


def cut_off(path: str) -> bytes:
    """Cut the shard off within its fourth sample, and return what it was; the third is not known to be whole either."""
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: 3 * 2560 + 900])
    return whole


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


def test_a_handler_that_stops_stops_at_the_same_shard_the_next_time(tmp_path: Path) -> None:
    urls = shards(tmp_path, [5, 2])
    cut_off(urls[0])
    for _ in range(3):
        index = ShardIndex.build(urls, tmp_path / "index", handler=stop)
        assert index.keys == ["s0/00000", "s0/00001"]
    assert sorted(p.name for p in (tmp_path / "index").glob("v*")) == ["v0"]


def test_a_handler_that_stops_stops_though_shards_were_added_behind(tmp_path: Path) -> None:
    urls = shards(tmp_path, [5, 2])
    cut_off(urls[0])
    keys = ShardIndex.build(urls[:1], tmp_path / "index", handler=stop).keys
    assert ShardIndex.build(urls, tmp_path / "index", handler=stop).keys == keys


def test_a_handler_that_stops_at_a_key_that_repeats_stops_there_the_next_time(tmp_path: Path) -> None:
    keys = [["x", "y"], ["z", "x", "w"], ["q"]]
    urls = [shard(tmp_path / f"{number}.tar", keys) for number, keys in enumerate(keys)]
    for _ in range(3):
        assert ShardIndex.build(urls, tmp_path / "index", handler=stop).keys == ["x", "y", "z"]
    assert ShardIndex.build(urls, tmp_path / "index", handler=go_on).keys == ["x", "y", "z", "x", "w", "q"]


def test_where_a_handler_stopped_another_one_decides_anew(tmp_path: Path) -> None:
    urls = shards(tmp_path, [5, 2])
    whole = cut_off(urls[0])
    ShardIndex.build(urls, tmp_path / "index", handler=stop)
    with pytest.raises(ShardDamaged, match="shard-000"):
        ShardIndex.build(urls, tmp_path / "index")
    Path(urls[0]).write_bytes(whole)
    index = ShardIndex.build(urls, tmp_path / "index")
    assert (len(index), index.damage) == (7, ())


@pytest.mark.parametrize("handler", [go_on, stop])
def test_a_shard_that_is_back_is_missed_no_more(tmp_path: Path, handler: Handler) -> None:
    urls = shards(tmp_path, [3, 5, 2])
    cut_off(urls[1])
    ShardIndex.build(urls, tmp_path / "index", handler=go_on)
    Path(urls[0]).rename(tmp_path / "away")
    told = ShardIndex.build(urls, tmp_path / "index", handler=handler).damage
    assert [error["error"] for error in told] == ["ShardMissing", "ShardDamaged"]
    (tmp_path / "away").rename(urls[0])
    told = ShardIndex.build(urls, tmp_path / "index", handler=handler).damage
    assert [error["error"] for error in told] == ["ShardDamaged"]


def test_a_shard_that_is_still_missing_beside_a_damaged_one_is_nothing_new(tmp_path: Path) -> None:
    urls = shards(tmp_path, [5, 3])
    cut_off(urls[0])
    Path(urls[1]).unlink()
    for _ in range(2):
        ShardIndex.build(urls, tmp_path / "index", handler=go_on)
    assert sorted(p.name for p in (tmp_path / "index").glob("v*")) == ["v0"]


@pytest.mark.parametrize(("start", "stop"), [(2, 9), (-1, 2), (-2, -1), (5, 9), (0, 10**18)])
def test_keys_of_rows_that_an_index_does_not_have_are_refused(tmp_path: Path, start: int, stop: int) -> None:
    index = ShardIndex.build(shards(tmp_path, [3]), tmp_path / "index")
    with pytest.raises(InvalidValue, match=rf"rows {start} … {stop - 1}: this index has rows 0 … 2"):
        index.keys_of(start, stop)
    assert index.keys_of(stop, start) == []
