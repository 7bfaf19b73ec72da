"""An index has WebDataset's samples, those of tar itself, and survives re-runs with its rows in place."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue, StoreDamaged
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.shards import ShardDamaged, ShardIndex, ShardMissing
from adaptive_sampler.shards.indexing.build import expand
from tests.shards.tars import index_of, shards, whole, write_tar

# -- building ---------------------------------------------------------------------------------------------------------


def test_rows_of_a_shard_are_contiguous_and_in_its_order(tmp_path: Path) -> None:
    index = index_of(tmp_path, [3, 2])
    assert index.keys == ["s0/00000", "s0/00001", "s0/00002", "s1/00000", "s1/00001"]
    assert index.starts.tolist() == [0, 3, 5]
    assert index.keys_of(2, 4) == ["s0/00002", "s1/00000"]
    assert index.keys_of(1, 1) == []


def test_braces_and_double_colons_are_webdatasets() -> None:
    assert expand("a-{00..02}.tar::b.{x,y}") == ["a-00.tar", "a-01.tar", "a-02.tar", "b.x", "b.y"]
    assert expand(["a-{0..1}.tar"]) == ["a-{0..1}.tar"], "a list is taken as it is, as WebDataset does"


def test_an_index_is_plain_zarr_of_at_most_64_bytes_a_sample(tmp_path: Path) -> None:
    index = index_of(tmp_path, [500])
    group = zarr.open_group(str(tmp_path / "index" / "v0"), mode="r")
    assert group["sizes"][:4].tolist() == [700, 1, 700, 1]  # type: ignore[index, union-attr]
    assert index.overhead / len(index) <= 64
    stored = sum(f.stat().st_size for f in (tmp_path / "index").rglob("*") if f.is_file())
    assert stored <= (64 + 12) * len(index) + 20_000


def test_an_empty_shard_has_no_rows(tmp_path: Path) -> None:
    index = index_of(tmp_path, [2, 0, 1])
    assert index.starts.tolist() == [0, 2, 2, 3]
    assert [s["__index__"] for s in whole(index)] == [0, 1, 2]


def test_samples_larger_than_a_chunk_of_the_index_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive_sampler.shards.indexing.columns.CHUNK", 7)
    index = index_of(tmp_path, [20, 15])
    assert [s["__key__"] for s in whole(index)] == index.keys
    assert len(set(index.keys)) == 35


def test_only_new_and_changed_shards_are_read_again(tmp_path: Path) -> None:
    urls = shards(tmp_path, [3, 4])
    ShardIndex.build(urls[:1], tmp_path / "index")
    status = os.stat(urls[0])
    Path(urls[0]).write_bytes(b"\xff" * status.st_size)
    os.utime(urls[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    index = ShardIndex.build(urls, tmp_path / "index")
    assert len(index) == 7, "same size and mtime: the first shard was not looked into"
    os.utime(urls[0])
    with pytest.raises(ShardDamaged, match="shard-000"):
        ShardIndex.build(urls, tmp_path / "index")


def test_a_failed_build_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    urls = shards(tmp_path, [3])
    ShardIndex.build(urls, tmp_path / "index")
    with pytest.raises(ShardMissing):
        ShardIndex.build([*urls, str(tmp_path / "none.tar")], tmp_path / "index")
    assert len(ShardIndex.open(tmp_path / "index")) == 3
    assert not list((tmp_path / "index").glob(".*"))


def test_an_open_index_survives_a_rebuild(tmp_path: Path) -> None:
    urls = shards(tmp_path, [3, 4])
    index = ShardIndex.build(urls[:1], tmp_path / "index")
    ShardIndex.build(urls, tmp_path / "index")
    assert len(whole(index)) == 3


def test_a_change_that_would_move_rows_is_refused(tmp_path: Path) -> None:
    urls = shards(tmp_path, [3, 4])
    ShardIndex.build(urls, tmp_path / "index")
    with pytest.raises(InvalidValue, match=r"shard-000.*not among the 1 given.*renumber=True"):
        ShardIndex.build(urls[1:], tmp_path / "index")
    write_tar(Path(urls[0]), [("other.bin", b"1")])
    with pytest.raises(InvalidValue, match=r"shard-000\.tar has changed.*3 samples then, 1 now"):
        ShardIndex.build(urls, tmp_path / "index")
    assert len(ShardIndex.build(urls, tmp_path / "index", renumber=True)) == 5


def test_the_last_shard_may_grow(tmp_path: Path) -> None:
    urls = shards(tmp_path, [3, 4])
    ShardIndex.build(urls, tmp_path / "index")
    shutil.copy(shards(tmp_path / "more" if (tmp_path / "more").mkdir() is None else tmp_path, [0, 6])[1], urls[1])
    assert len(ShardIndex.build(urls, tmp_path / "index")) == 9


def test_a_shard_listed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="a is listed twice"):
        ShardIndex.build(["a", "a"], tmp_path / "index")
    with pytest.raises(InvalidValue, match="urls is empty"):
        ShardIndex.build([], tmp_path / "index")


def test_a_pipe_has_no_offsets(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="use `selected` on the stream"):
        ShardIndex.build("pipe:cat x.tar", tmp_path / "index")


def test_no_index_is_named_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged, match=r"holds no index of shards.*ShardIndex\.build"):
        ShardIndex.open(tmp_path)


def test_progress_counts_shards(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    ShardIndex.build(shards(tmp_path, [1, 1, 1]), tmp_path / "i", progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    ShardIndex.build(shards(tmp_path, [1, 1, 1]), tmp_path / "j", progress=True, workers=2)


# -- the same samples as tar itself ------------------------------------------------------------------------------------


def test_gnu_tars_of_every_format_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "data" / ("long" * 20) / ("er" * 40)
    folder.mkdir(parents=True)
    for i in range(4):
        (folder / f"sample{i}.txt").write_bytes(bytes([65 + i]) * 600 * i)
    for kind in ("gnu", "oldgnu", "pax", "posix", "ustar", "v7"):
        path = tmp_path / f"{kind}.tar"
        done = subprocess.run(
            ["tar", f"--format={kind}", "-cf", path, "--sort=name", "-C", tmp_path, "data"], capture_output=True
        )
        if done.returncode:  # v7 has no room for such names
            assert kind == "v7"
            continue
        with tarfile.open(path) as archive:
            expected = [(m.name[:-4], archive.extractfile(m).read()) for m in archive if m.isreg()]  # type: ignore[union-attr]
        index = ShardIndex.build(str(path), tmp_path / f"index-{kind}")
        assert [(s["__key__"], s["txt"]) for s in whole(index)] == expected


@settings(max_examples=10, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=12).filter(lambda b: not set(b) & {0, 46, 47, 95}), unique=True))
def test_names_that_are_no_utf8_come_through(tmp_path_factory: pytest.TempPathFactory, raw: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("raw")
    names = [b.decode("utf-8", "surrogateescape") for b in raw]
    path = write_tar(folder / "x.tar", [(f"{n}.x", n.encode("utf-8", "surrogateescape")) for n in names])
    index = ShardIndex.build(str(path), folder / "index")
    assert index.keys == names
    assert [s["x"] for s in whole(index)] == raw


@given(
    keys=st.lists(st.text(alphabet="ab\u00e9", min_size=1, max_size=3), min_size=1, max_size=9, unique=True),
    row=st.integers(0, 8),
)
def test_the_first_row_with_another_key_is_found(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], row: int
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    index = ShardIndex.build(write_tar(folder / "x.tar", [(f"{key}.x", b"1") for key in keys]), folder / "index")
    other = [f"{key}c" if at == row else key for at, key in enumerate(keys)]
    found = index.first_other_key(*KeyMap.of(other).arrays().values())
    assert found == (row if row < len(keys) else None)
    shorter = KeyMap.of(other[:row]).arrays().values() if row else KeyMap.of(keys[:1]).arrays().values()
    assert index.first_other_key(*shorter) is None
