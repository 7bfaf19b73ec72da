"""An index names every damage of its shards and of itself, before it is built and while samples are read."""

import os
import tarfile
from pathlib import Path

import pytest

from adaptive_sampler.shards import DuplicateKey, ShardChanged, ShardDamaged, ShardIndex, ShardReader
from tests.shards.indexing.handlers import go_on, stop
from tests.shards.tars import END, file, index_of, pax, plan_of, shards, whole, write_tar


def test_a_truncated_shard_keeps_what_is_whole_with_the_handlers_leave(tmp_path: Path) -> None:
    (url,) = shards(tmp_path, [5])
    Path(url).write_bytes(Path(url).read_bytes()[: 3 * 2560 + 900])
    with pytest.raises(ShardDamaged, match=r"shard-000\.tar: cut off"):
        ShardIndex.build(url, tmp_path / "index")
    index = ShardIndex.build(url, tmp_path / "index", handler=go_on)
    # the third is not known to be whole: the header that followed it is gone
    assert index.keys == ["s0/00000", "s0/00001"]
    assert [d["error"] for d in index.damage] == ["ShardDamaged"]
    assert len(whole(index)) == 2


def test_a_missing_shard_can_be_left_out(tmp_path: Path) -> None:
    urls = shards(tmp_path, [2, 2])
    Path(urls[0]).unlink()
    index = ShardIndex.build(urls, tmp_path / "index", handler=go_on)
    assert index.urls == (urls[1],)
    assert index.damage[0]["error"] == "ShardMissing"
    assert len(ShardIndex.build(urls, tmp_path / "other", handler=stop)) == 0


def test_duplicate_keys_are_named_with_both_places(tmp_path: Path) -> None:
    one = write_tar(tmp_path / "1.tar", [("a.x", b"1"), ("b.x", b"2")])
    two = write_tar(tmp_path / "2.tar", [("b.x", b"3"), ("c.x", b"3")])
    with pytest.raises(DuplicateKey, match=r"key 'b' names row 1 in .*1\.tar and row 2 in .*2\.tar; 1 rows repeat"):
        ShardIndex.build([str(one), str(two)], tmp_path / "index")
    index = ShardIndex.build([str(one), str(two)], tmp_path / "index", handler=go_on)
    assert index.keys == ["a", "b", "b", "c"]


@pytest.mark.parametrize("part", ["x", "__key__", "__index__", "__loss_weight__"])
def test_a_part_named_twice_is_an_error(tmp_path: Path, part: str) -> None:
    path = write_tar(tmp_path / "1.tar", [("a.x", b"1"), (f"a.{part}", b"2"), ("b.x", b"3")])
    with pytest.raises(DuplicateKey, match=f"sample 'a' has a '{part}' already"):
        ShardIndex.build(str(path), tmp_path / "index")
    assert [s["x"] for s in whole(ShardIndex.build(str(path), tmp_path / "index", handler=go_on))] == [b"1", b"3"]


def test_a_shard_changed_since_indexing_is_named(tmp_path: Path) -> None:
    index = index_of(tmp_path, [5, 5])
    os.utime(index.urls[0], ns=(1, 1))
    with pytest.raises(ShardChanged, match=r"shard-000\.tar has changed.*mtime 1 now\. Run ShardIndex\.build again"):
        whole(index)
    reader = ShardReader(index, plan_of(10, range(10)), handler=go_on)
    assert len(list(reader)) == 5
    assert (reader.counts.samples_lost, reader.counts.shards_lost) == (5, 1)


def test_moved_bytes_are_noticed_though_size_and_time_are_the_same(tmp_path: Path) -> None:
    index = index_of(tmp_path, [5])
    path = Path(index.urls[0])
    status, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:2560] + data[3072 : 5 * 2560] + bytes(512) + data[5 * 2560 :])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ShardDamaged, match=r"sample 's0/00001' \(row 1\) is not at byte 3072"):
        whole(index)
    reader = ShardReader(index, plan_of(5, range(5)), handler=go_on)
    assert [s["__index__"] for s in reader] == [0]
    assert reader.counts.samples_lost == 4


@pytest.mark.parametrize("row", [0, 3])
def test_another_shard_of_the_same_size_and_time_is_noticed_by_its_names(tmp_path: Path, row: int) -> None:
    index = index_of(tmp_path, [5, 5])
    status = Path(index.urls[0]).stat()
    Path(index.urls[0]).write_bytes(Path(index.urls[1]).read_bytes())
    os.utime(index.urls[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    words = rf"sample 's0/0000{row}' .* is not at byte \d+: the header before it is of 's1/0000{row}\.bin'"
    with pytest.raises(ShardDamaged, match=words):
        list(ShardReader(index, plan_of(10, [row])))


@pytest.mark.parametrize("name", ["n" * 90 + "/" + "n" * 60 + ".BIN", "ä" * 90 + ".bin", "A.Bin", "b.bin"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_name_that_is_not_in_its_header_alone_is_no_change(tmp_path: Path, format: int, name: str) -> None:
    if format == tarfile.USTAR_FORMAT and len(name.encode()) > 155:
        name = name.replace("ä", "a")
    path = write_tar(tmp_path / "x.tar", [("0.bin", b"0"), (name, b"1"), ("z.bin", b"2")], format)
    index = ShardIndex.build(path, tmp_path / "index")
    assert [s["bin"] for s in ShardReader(index, plan_of(3, range(3)), window=0)] == [b"0", b"1", b"2"]


def test_a_name_that_an_extended_header_says_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(pax([("path", "real.bin")]) + file("other.bin", b"1") + END)
    index = ShardIndex.build(tmp_path / "x.tar", tmp_path / "index")
    assert [s["__key__"] for s in ShardReader(index, plan_of(1, [0]))] == ["real"]


def test_a_handler_that_stops_ends_the_epoch_in_good_order(tmp_path: Path) -> None:
    index = index_of(tmp_path, [5, 5, 5])
    Path(index.urls[1]).unlink()
    assert [s["__index__"] for s in ShardReader(index, plan_of(15, range(15)), window=0, handler=stop)] == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_a_shard_cut_while_it_is_read_is_named(tmp_path: Path) -> None:
    index = index_of(tmp_path, [5], size=3_000_000)
    walk = iter(ShardReader(index, plan_of(5, range(5)), window=0))
    next(walk)
    os.truncate(index.urls[0], 10_000_000)
    with pytest.raises(ShardDamaged, match=r"cut off within sample 's0/00003'"):
        list(walk)
