"""An index is kept as a store is: many may build it at once, none disturbs a reader, and what is not new is not written."""

import multiprocessing
import os
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreDamaged, StoreError
from adaptive_sampler.scoring import Loss
from adaptive_sampler.shards import ShardDamaged, ShardIndex, ShardMissing, ShardReader
from adaptive_sampler.shards.indexing import index as building
from adaptive_sampler.storage.local import LocalStorage
from tests.shards.indexing.handlers import go_on
from tests.shards.tars import body, plan_of, shards, write_tar

SPAWN = multiprocessing.get_context("spawn")


def read(index: ShardIndex) -> list[str]:
    """The keys of all samples, each of which has the bytes of its key."""
    samples = list(ShardReader(index, plan_of(len(index), range(len(index))), window=0))
    assert all(sample["bin"] == body(sample["__key__"]) for sample in samples)
    return [sample["__key__"] for sample in samples]


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """All files of a folder: inode, size and time of change."""
    found = ((path, path.stat()) for path in folder.rglob("*") if path.name != "LOCK")
    return {str(path): (s.st_ino, s.st_size, s.st_mtime_ns) for path, s in found}


def more_shards(folder: Path, counts: list[int]) -> Callable[[int], ShardIndex]:
    """A function that builds the index of the first so many shards."""
    urls = shards(folder, counts)
    return lambda many: ShardIndex.build(urls[:many], folder / "index")


# -- one builder among many -------------------------------------------------------------------------------------------


def build_and_tell(urls: list[str], path: str, start: Any, told: Any) -> None:
    start.wait()
    index = ShardIndex.build(urls, path, progress=False)
    told.put((len(index), index.keys, len(ShardIndex.open(path).keys)))


def built_by(processes: int, urls: list[str], path: Path) -> list[tuple[int, list[str], int]]:
    """What so many processes have that build the same index at the same moment."""
    start, told = SPAWN.Barrier(processes), SPAWN.Queue()
    workers = [SPAWN.Process(target=build_and_tell, args=(urls, str(path), start, told)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    answers = [told.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    return answers


def test_processes_that_build_together_build_once_and_all_have_the_index(tmp_path: Path) -> None:
    urls = shards(tmp_path, [3, 4, 2])
    answers = built_by(4, urls, tmp_path / "index")
    assert answers == [(9, ShardIndex.open(tmp_path / "index").keys, 9)] * 4
    assert sorted(p.name for p in (tmp_path / "index").glob("v*")) == ["v0"]
    before = tree(tmp_path / "index")
    assert built_by(2, urls, tmp_path / "index") == answers[:2]
    assert tree(tmp_path / "index") == before


def test_who_waited_for_another_builder_reads_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = shards(tmp_path, [3, 4])
    scanned, scan = [], building.scan

    def slow(url: str, access: Any) -> Any:
        scanned.append(url)
        time.sleep(0.3)
        return scan(url, access)

    monkeypatch.setattr(building, "scan", slow)
    with ThreadPoolExecutor(3) as pool:
        indexes = list(pool.map(lambda _: ShardIndex.build(urls, tmp_path / "index", progress=True), range(3)))
    assert [index.keys for index in indexes] == [indexes[0].keys] * 3
    assert sorted(scanned) == urls


def test_who_waited_builds_what_the_other_was_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = shards(tmp_path, [3, 4])
    turns = [urls[:1], urls]

    def later(many: int) -> ShardIndex:
        time.sleep(0.2 * many)
        return ShardIndex.build(turns[many], tmp_path / "index")

    scan = building.scan
    monkeypatch.setattr(building, "scan", lambda url, access: (time.sleep(0.5), scan(url, access))[1])
    with ThreadPoolExecutor(2) as pool:
        assert [len(index) for index in pool.map(later, range(2))] == [3, 7]


def test_who_waited_is_told_itself_of_a_shard_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [*shards(tmp_path, [3]), str(tmp_path / "none.tar")]
    ready, scan = threading.Event(), building.scan

    def slow(url: str, access: Any) -> Any:
        ready.set()
        time.sleep(0.3)
        return scan(url, access)

    monkeypatch.setattr(building, "scan", slow)
    with ThreadPoolExecutor(1) as pool:
        lenient = pool.submit(ShardIndex.build, urls, tmp_path / "index", handler=go_on)
        assert ready.wait(30)
        with pytest.raises(ShardMissing, match=r"none\.tar"):
            ShardIndex.build(urls, tmp_path / "index")
        assert len(lenient.result()) == 3


def test_renumbering_by_several_is_done_once(tmp_path: Path) -> None:
    urls = shards(tmp_path, [3, 4])
    ShardIndex.build(urls, tmp_path / "index")

    def turned(_: int) -> ShardIndex:
        return ShardIndex.build(urls[::-1], tmp_path / "index", renumber=True)

    with ThreadPoolExecutor(3) as pool:
        assert [index.urls for index in pool.map(turned, range(3))] == [tuple(urls[::-1])] * 3
    assert sorted(p.name for p in (tmp_path / "index").glob("v*")) == ["v0", "v1"]


# -- nothing new, nothing written -------------------------------------------------------------------------------------


@pytest.mark.parametrize("renumber", [False, True])
def test_nothing_new_is_nothing_written(tmp_path: Path, renumber: bool) -> None:
    build = more_shards(tmp_path, [3, 4])
    keys = build(2).keys
    before = tree(tmp_path / "index")
    again = ShardIndex.build(list(build(2).urls), tmp_path / "index", renumber=renumber)
    assert again.keys == keys
    assert tree(tmp_path / "index") == before


def test_nothing_new_needs_no_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = more_shards(tmp_path, [3])
    build(1)
    monkeypatch.setattr("adaptive_sampler.storage.local.LocalStorage.lease", lambda *_, **__: pytest.fail("a lease"))
    assert len(build(1)) == 3


def test_shards_that_are_still_missing_need_no_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [*shards(tmp_path, [3]), str(tmp_path / "none.tar")]
    ShardIndex.build(urls, tmp_path / "index", handler=go_on)
    lease = LocalStorage.lease
    monkeypatch.setattr(LocalStorage, "lease", lambda *_, **__: pytest.fail("a lease"))
    assert len(ShardIndex.build(urls, tmp_path / "index", handler=go_on)) == 3
    with pytest.raises(ShardMissing, match=r"none\.tar"):
        ShardIndex.build(urls, tmp_path / "index")
    monkeypatch.setattr(LocalStorage, "lease", lease)
    write_tar(Path(urls[1]), [("late.bin", body("late"))])
    assert ShardIndex.build(urls, tmp_path / "index").keys[3:] == ["late"]


def test_of_a_shard_that_is_still_missing_a_handler_is_told_once(tmp_path: Path) -> None:
    urls = [*shards(tmp_path, [3, 2]), str(tmp_path / "none.tar")]
    Path(urls[1]).rename(tmp_path / "away")
    ShardIndex.build(urls, tmp_path / "index", handler=go_on)
    (tmp_path / "away").rename(urls[1])
    told: list[str] = []
    ShardIndex.build(urls, tmp_path / "index", handler=lambda error: (told.append(str(error)), True)[1])
    assert [urls[2] in message for message in told] == [True]


def test_shards_that_are_still_missing_are_asked_for_again_and_write_nothing(tmp_path: Path) -> None:
    urls = shards(tmp_path, [3, 4])
    Path(urls[1]).rename(tmp_path / "away")
    ShardIndex.build(urls, tmp_path / "index", handler=go_on)
    before = tree(tmp_path / "index")
    assert len(ShardIndex.build(urls, tmp_path / "index", handler=go_on)) == 3
    assert tree(tmp_path / "index") == before
    (tmp_path / "away").rename(urls[1])
    index = ShardIndex.build(urls, tmp_path / "index", handler=go_on)
    assert (len(index), index.damage) == (7, ())


def test_rows_stay_where_an_indexed_shard_is_gone(tmp_path: Path) -> None:
    urls = shards(tmp_path, [3, 4, 2])
    before = ShardIndex.build(urls[:2], tmp_path / "index")
    Path(urls[0]).unlink()
    index = ShardIndex.build(urls, tmp_path / "index", handler=go_on)
    assert index.keys[:7] == before.keys
    assert (len(index), [error["error"] for error in index.damage]) == (9, ["ShardMissing"])


@pytest.mark.parametrize("first", [0, 1])
def test_rows_stay_where_a_handler_stops_at_an_indexed_shard(tmp_path: Path, first: int) -> None:
    urls = shards(tmp_path, [3, 4, 2])
    before = ShardIndex.build(urls[:2], tmp_path / "index")
    Path(urls[first]).unlink()
    index = ShardIndex.build(urls, tmp_path / "index", handler=lambda error: False)
    assert index.keys == before.keys


def test_damage_is_still_told_after_shards_were_added(tmp_path: Path) -> None:
    urls = shards(tmp_path, [5, 2])
    Path(urls[0]).write_bytes(Path(urls[0]).read_bytes()[: 3 * 2560 + 900])
    first = ShardIndex.build(urls[:1], tmp_path / "index", handler=go_on)
    assert [(error["error"], error["url"]) for error in first.damage] == [("ShardDamaged", urls[0])]
    assert ShardIndex.build(urls, tmp_path / "index").damage == first.damage


def test_what_shards_were_added_to_is_shared_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive_sampler.shards.indexing.columns.CHUNK", 4)
    build = more_shards(tmp_path, [10, 3])
    build(1)
    build(2)
    same = [(tmp_path / "index" / version / "offsets" / "c" / "0").stat().st_ino for version in ("v0", "v1")]
    assert same[0] == same[1]
    assert len(read(ShardIndex.open(tmp_path / "index"))) == 13


def test_an_index_of_many_files_takes_one_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive_sampler.shards.indexing.columns.CHUNK", 4)
    build = more_shards(tmp_path, [40, 3])
    read(build(1))  # the first may begin what Zarr keeps open for the whole process
    before = len(os.listdir("/dev/fd"))
    index = build(2)
    assert len(read(index)) == 43
    assert len(os.listdir("/dev/fd")) == before + 1  # the hold on its version
    del index
    assert len(os.listdir("/dev/fd")) == before


# -- readers are not disturbed ----------------------------------------------------------------------------------------


def test_a_reader_goes_on_with_the_index_that_it_opened(tmp_path: Path) -> None:
    build = more_shards(tmp_path, [3, 4, 2, 1, 2])
    index = build(1)
    for many in (2, 3, 4, 5):
        build(many)
    assert read(index) == ["s0/00000", "s0/00001", "s0/00002"]
    assert len(read(ShardIndex.open(tmp_path / "index"))) == 12


def test_a_worker_gets_the_index_that_its_loader_has_open(tmp_path: Path) -> None:
    build = more_shards(tmp_path, [3, 4, 2, 1, 2])
    index = build(2)
    sent = pickle.dumps(index)
    for many in (3, 4, 5):
        build(many)
    ShardIndex.build(list(index.urls[::-1]), tmp_path / "index", renumber=True)
    assert read(pickle.loads(sent)) == read(index)
    with SPAWN.Pool(1) as pool:
        assert pool.apply(read, (index,)) == read(index)


def test_the_newest_two_versions_stay_and_what_is_open(tmp_path: Path) -> None:
    build = more_shards(tmp_path, [1, 1, 1, 1, 1])
    index = build(1)
    for many in (2, 3, 4):
        build(many)
    assert sorted(p.name for p in (tmp_path / "index").glob("v*")) == ["v0", "v2", "v3"]
    del index
    build(5)
    assert sorted(p.name for p in (tmp_path / "index").glob("v*")) == ["v3", "v4"]


def build_until_killed(urls: list[str], path: str, told: Any) -> None:
    told.send("begins")
    for many in range(2, len(urls) + 1):
        ShardIndex.build(urls[:many], path)
    told.send("ends")


@pytest.mark.parametrize("seed", range(4))
def test_a_builder_that_is_killed_leaves_the_last_index(tmp_path: Path, seed: int) -> None:
    build = more_shards(tmp_path, [3] * 30)
    known = build(1).keys
    mine, theirs = SPAWN.Pipe()
    urls = [str(tmp_path / f"shard-{i:03d}.tar") for i in range(30)]
    builder = SPAWN.Process(target=build_until_killed, args=(urls, str(tmp_path / "index"), theirs))
    builder.start()
    assert mine.poll(60)
    time.sleep(float(np.random.default_rng(seed).uniform(0, 0.5)))
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    left = ShardIndex.open(tmp_path / "index")
    assert read(left)[:3] == known
    assert read(build(30)) == [f"s{shard}/{i:05d}" for shard in range(30) for i in range(3)]


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_place_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    urls = shards(tmp_path, [3])
    ScoreStore.create(tmp_path / "store", 3, [Loss()]).close()
    before = tree(tmp_path / "store")
    with pytest.raises(StoreDamaged, match=r"none of an index of shards.*build one elsewhere"):
        ShardIndex.build(urls, tmp_path / "store")
    assert tree(tmp_path / "store") == before
    ShardIndex.build(urls, tmp_path / "index")
    with pytest.raises(StoreDamaged, match="makes no store"):
        ScoreStore.open(tmp_path / "index")


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"exist_ok": True}])
def test_a_store_never_replaces_an_index(tmp_path: Path, how: dict[str, bool]) -> None:
    ShardIndex.build(shards(tmp_path, [3]), tmp_path / "index")
    before = tree(tmp_path / "index")
    with pytest.raises(StoreError, match=r"makes no store|holds something else than a store.*Name another place"):
        ScoreStore.create(tmp_path / "index", 3, [Loss()], **how)
    assert tree(tmp_path / "index") == before
    ScoreStore.create(tmp_path / "scores", 3, [Loss()], **how).close()


def test_an_index_that_lost_its_pointer_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    build = more_shards(tmp_path, [3, 4])
    build(1)
    build(2)
    (tmp_path / "index" / "CURRENT").unlink()
    with pytest.raises(StoreDamaged, match="there is no CURRENT"):
        build(2)


def test_a_build_that_was_cut_off_before_the_first_version_begins_anew(tmp_path: Path) -> None:
    build = more_shards(tmp_path, [3])
    build(1)
    (tmp_path / "index" / "CURRENT").unlink()
    assert len(build(1)) == 3


def test_a_scheme_that_is_no_place_is_refused_and_not_taken_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"hdfs://bucket/index.*folder"):
        ShardIndex.build(shards(tmp_path, [1]), "hdfs://bucket/index")
    assert not Path("hdfs:").exists()


@pytest.mark.parametrize("name", ["offsets", "layout", "member_ends", "starts", "sizes", "key_ends", "keys"])
def test_a_flipped_bit_in_a_column_is_noticed_before_it_is_used(tmp_path: Path, name: str) -> None:
    index = more_shards(tmp_path, [5])(1)
    file = Path(index.path) / "v0" / name / "c" / "0"
    data = bytearray(file.read_bytes())
    data[3] ^= 4
    file.write_bytes(data)
    with pytest.raises(StoreDamaged, match=f"v0/{name}/c/0.*checksum differs"):
        read(ShardIndex.open(index.path))


def test_a_shard_damaged_on_the_second_build_leaves_the_first_index(tmp_path: Path) -> None:
    build = more_shards(tmp_path, [3, 4])
    build(1)
    before = tree(tmp_path / "index")
    Path(tmp_path / "shard-001.tar").write_bytes(b"\xff" * 4096)
    with pytest.raises(ShardDamaged, match="shard-001"):
        build(2)
    assert tree(tmp_path / "index") == before


def test_a_last_shard_may_still_grow_after_its_index_was_moved(tmp_path: Path) -> None:
    urls = shards(tmp_path, [2])
    shutil.move(str(Path(ShardIndex.build(urls, tmp_path / "index").path)), tmp_path / "moved")
    parts = [(f"s0/{i:05d}.{part}", body(f"s0/{i:05d}")) for i in range(4) for part in ("bin", "cls")]
    write_tar(Path(urls[0]), parts)
    assert len(ShardIndex.build(urls, tmp_path / "moved")) == 4


def test_a_lock_that_names_no_holder_holds_nobody_up(tmp_path: Path) -> None:
    build = more_shards(tmp_path, [3, 4])
    build(1)
    (tmp_path / "index" / "LOCK").write_text('{"zarr_format": 3, "node_type": "group"}')
    assert len(build(2)) == 7
