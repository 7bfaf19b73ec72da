"""Local samples are read when they are delivered: few files are open, little is held, and what changes meanwhile is named."""

import gc
import os
import tarfile
from pathlib import Path

import pytest

from adaptive_sampler.shards import ShardChanged, ShardDamaged, ShardIndex, ShardReader
from adaptive_sampler.shards.reading import samples as module
from adaptive_sampler.shards.reading.samples import OpenFiles
from adaptive_sampler.shards.reading.settings import ShardReading, opened
from adaptive_sampler.shards.sources.local import LocalSource
from tests.shards.tars import body, index_of, plan_of, write_tar

LARGE = module._LARGE


def open_files(index: ShardIndex) -> int:
    """How many shards of `index` this process holds open; those of other tests are none of ours."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("open files are counted through /proc")
    return sum(os.readlink(folder / name) in index.urls for name in os.listdir(folder) if (folder / name).exists())


@pytest.fixture
def many(tmp_path: Path) -> ShardIndex:
    return index_of(tmp_path, [2] * 100)


def test_a_buffer_over_many_shards_holds_few_files_open_and_delivers_all(many: ShardIndex) -> None:
    most, rows = 0, []
    for sample in ShardReader(many, plan_of(200, range(200)), window=150):
        assert sample["bin"] == body(sample["__key__"])
        rows.append(sample["__index__"])
        most = max(most, open_files(many))
    assert sorted(rows) == list(range(200))
    assert 1 < most <= 33  # one more than are held, while the newest is added


def test_no_file_stays_open_behind_an_epoch(many: ShardIndex) -> None:
    list(ShardReader(many, plan_of(200, range(200))))
    assert open_files(many) == 0


def test_no_file_stays_open_behind_an_epoch_that_was_left(many: ShardIndex) -> None:
    walk = iter(ShardReader(many, plan_of(200, range(200))))
    next(walk)
    assert open_files(many) > 0
    del walk
    gc.collect()  # a walk and its generator know each other
    assert open_files(many) == 0


def test_a_shard_counts_once_however_often_it_is_opened(many: ShardIndex) -> None:
    reader = ShardReader(many, plan_of(200, range(200)), window=150)
    list(reader)
    assert reader.counts.shards == 100


def test_nothing_is_read_before_it_is_delivered(tmp_path: Path) -> None:
    reader = ShardReader(index_of(tmp_path, [50]), plan_of(50, range(50)))
    next(iter(reader))
    assert reader.counts.bytes_read == 512 + 1024 + 512 + 1


def test_a_file_opened_again_that_is_another_now_is_named(tmp_path: Path) -> None:
    index = index_of(tmp_path, [2, 2])
    files = OpenFiles(index, ShardReading())
    assert files.get(0).stamp == index.stamps[0]
    files.close()
    os.utime(index.urls[0], ns=(1, 1))
    with pytest.raises(ShardChanged, match=r"shard-000\.tar has changed"):
        files.get(0)


def test_a_sample_whose_file_cannot_be_opened_again_is_lost_with_the_handlers_leave(many: ShardIndex) -> None:
    reader = ShardReader(many, plan_of(200, range(200)), window=150, handler=lambda error: True)
    walk = iter(reader)
    first = next(walk)["__url__"]
    for url in many.urls:
        os.utime(url, ns=(1, 1))
    left = list(walk)
    assert len(left) < 199, f"{first} and its like were closed meanwhile"
    assert len(left) + reader.counts.samples_lost == 199


@pytest.mark.parametrize("size", [700, LARGE * 2], ids=["at once", "part by part"])
def test_a_shard_cut_off_while_it_is_read_is_named(tmp_path: Path, size: int) -> None:
    index = index_of(tmp_path, [4], size=size)
    walk = iter(ShardReader(index, plan_of(4, range(4)), window=0))
    next(walk)
    os.truncate(index.urls[0], (512 + -(-size // 512) * 512 + 1024) + 600)
    with pytest.raises(ShardDamaged, match=r"shard-000\.tar: cut off within sample 's0/00001' \(row 1\)"):
        list(walk)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("size", [0, 1, 511, 512, LARGE - 2048, LARGE, LARGE + 1])
def test_samples_of_any_size_come_whole(tmp_path: Path, format: int, size: int) -> None:
    members = [(f"{key}.{part}", body(key + part, size)) for key in "abc" for part in ("x", "y")]
    index = ShardIndex.build(str(write_tar(tmp_path / "1.tar", members, format)), tmp_path / "index")
    found = {f"{s['__key__']}.{part}": s[part] for s in ShardReader(index, plan_of(3, range(3))) for part in "xy"}
    assert found == dict(members)


@pytest.mark.parametrize("size", [700, LARGE * 2], ids=["at once", "part by part"])
def test_merging_by_request_delivers_the_same(tmp_path: Path, size: int) -> None:
    index = index_of(tmp_path, [5, 9], size=size)
    plan = plan_of(14, range(0, 14, 2), counts={4: 3})
    assert list(ShardReader(index, plan)) == list(ShardReader(index, plan, merge_gap=1 << 20))


def test_a_repeat_counts_as_a_sample_delivered(tmp_path: Path) -> None:
    index, plan = index_of(tmp_path, [5]), plan_of(5, [1, 3], counts={3: 4})
    for gap in (None, 0):
        reader = ShardReader(index, plan, merge_gap=gap)
        assert len(list(reader)) == reader.counts.samples == 5


def test_a_system_without_advice_reads_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    index = index_of(tmp_path, [5])
    assert len(list(ShardReader(index, plan_of(5, range(5))))) == 5


def test_what_is_asked_for_ahead_is_what_will_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(LocalSource, "expect", lambda self, start, stop: asked.append((start, stop)))
    index = index_of(tmp_path, [300])
    list(ShardReader(index, plan_of(300, [0, 1, 299])))
    whole = 512 + 1024 + 512 + 512
    assert asked == [(0, 2 * whole - 511), (299 * whole, 300 * whole - 511)]


def test_a_shard_that_was_never_the_indexed_one_is_refused(tmp_path: Path) -> None:
    index = index_of(tmp_path, [2])
    os.utime(index.urls[0], ns=(1, 1))
    with pytest.raises(ShardChanged):
        opened(index, 0, ShardReading())
