"""What is given in place of a shard is told in a sentence that names it and what to give instead."""

import errno
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards import (
    Access,
    Retry,
    ShardIndex,
    ShardMissing,
    ShardReader,
    ShardUnreadable,
    ShardUnsupported,
)
from adaptive_sampler.shards.sources.local import LocalSource
from benchmarks.helpers.server import serving
from tests.shards.tars import index_of, plan_of, shards

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"


def build(urls: object, folder: Path) -> ShardIndex:
    return ShardIndex.build(urls, folder / "index", access=Access(retry=Retry(1)))  # type: ignore[arg-type]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Two shards of three samples in a folder of their own."""
    (tmp_path / "data").mkdir()
    return [Path(url) for url in shards(tmp_path / "data", [3, 3])]


def test_paths_are_taken_as_urls(paths: list[Path], tmp_path: Path) -> None:
    index = build(paths, tmp_path)
    assert list(index.urls) == list(map(str, paths))
    assert len(list(ShardReader(index, plan_of(6, range(6))))) == 6


def test_one_path_is_taken_as_a_url(paths: list[Path], tmp_path: Path) -> None:
    assert len(build(paths[0], tmp_path)) == 3


def test_a_path_is_opened_as_it_is(paths: list[Path]) -> None:
    source = Access().open(paths[0])
    assert source.size == paths[0].stat().st_size
    source.close()


def test_a_file_may_have_a_colon_in_its_name(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths[0].rename(paths[0].with_name("run:1.tar"))
    monkeypatch.chdir(paths[0].parent)
    assert len(build(["run:1.tar"], tmp_path)) == 3


@pytest.mark.parametrize("spelled", [str, Path.as_uri, lambda path: f"{path}/"], ids=["path", "file://", "path/"])
def test_a_folder_is_told_and_what_lists_its_shards_works(
    paths: list[Path], tmp_path: Path, spelled: Callable[[Path], str]
) -> None:
    url = spelled(paths[0].parent)
    with pytest.raises(ShardMissing) as raised:
        build([url], tmp_path)
    assert str(raised.value).startswith(f"{url}: is a folder, not a shard. Name the shards in it: sorted(Path(")
    remedy = str(raised.value).split("in it: ")[1].split("; a handler")[0]
    assert len(build(eval(remedy, {"Path": Path}), tmp_path)) == 6


def test_a_folder_costs_only_itself_where_a_handler_goes_on(paths: list[Path], tmp_path: Path) -> None:
    errors: list[Exception] = []
    index = ShardIndex.build([tmp_path, *paths], tmp_path / "index", handler=lambda e: not errors.append(e))
    assert len(index) == 6
    assert len(errors) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("kind", ["named pipe", "device"])
def test_a_named_pipe_and_a_device_are_told_and_nobody_waits_for_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pipe.tar" if kind == "named pipe" else Path(os.devnull)
    if kind == "named pipe":
        os.mkfifo(path)
    with pytest.raises(ShardMissing, match=rf"^{path}: is a pipe or a device, not a file.*Write it to a file"):
        build([path], tmp_path)


@pytest.mark.parametrize("url", ["a\0.tar", "file://[a.tar"])
def test_what_is_neither_a_path_nor_a_url_is_told(tmp_path: Path, url: str) -> None:
    with pytest.raises(ShardMissing, match="cannot be opened: ValueError"):
        build([url], tmp_path)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENODEV, "No such device"), ValueError("mmap length is greater")], ids=repr
)
def test_a_shard_is_indexed_where_the_system_maps_no_files(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("adaptive_sampler.shards.sources.local.mmap.mmap", refuse)
    source = Access().open(paths[0])
    assert source.mapped() is None
    monkeypatch.undo()
    monkeypatch.setattr(LocalSource, "mapped", lambda self: None)
    assert len(build(paths, tmp_path)) == 6


@pytest.mark.parametrize("remote", [False, True])
def test_a_git_lfs_pointer_is_told(tmp_path: Path, remote: bool) -> None:
    path = tmp_path / "shard.tar"
    path.write_bytes(POINTER)
    with serving(tmp_path) as server:
        url = server.url("shard.tar") if remote else str(path)
        with pytest.raises(ShardMissing, match=rf"^{url}: is a Git LFS pointer.*Run `git lfs pull`"):
            build([url], tmp_path)


def test_a_zip_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "shard.tar", "w") as archive:
        archive.writestr("a.txt", "x" * 1000)
    with pytest.raises(ShardUnsupported, match=r"shard\.tar: a zip archive.*Pack the files as a tar"):
        build([tmp_path / "shard.tar"], tmp_path)


def test_an_unknown_scheme_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"^htp://x/a\.tar: nothing is known that reads htp://\. Give a local path"):
        build(["htp://x/a.tar"], tmp_path)


def test_a_pipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"^pipe:cat a\.tar: a pipe has no offsets"):
        build(["pipe:cat a.tar"], tmp_path)


def test_a_disk_that_fails_costs_the_samples_that_lie_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, errors = index_of(tmp_path, [4]), list[Exception]()
    real, bad = os.pread, Path(index.urls[0]).read_bytes().index(b"<s0/00002>")

    def pread(descriptor: int, length: int, start: int) -> bytes:
        if start <= bad < start + length:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, length, start)

    monkeypatch.setattr(os, "pread", pread)
    samples = list(ShardReader(index, plan_of(4, range(4)), window=0, handler=lambda e: not errors.append(e)))
    assert len(samples) == 3
    (error,) = errors
    assert isinstance(error, ShardUnreadable)
    assert str(error).startswith(f"{index.urls[0]}: bytes ")
