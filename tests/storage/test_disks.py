"""File systems that lack something: deleting what is open, syncing folders, sharing maps, locks. The session goes on."""

import contextlib
import errno
import fcntl
import logging
import mmap
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.disk import nbytes
from adaptive_sampler.errors import StoreError, StoreLocked
from adaptive_sampler.scoring import Loss
from adaptive_sampler.storage import local, mapped
from adaptive_sampler.storage.local import LocalStorage
from tests.storage.helpers import filled, running, three

KEYS = [f"key {i}" for i in range(100)]


def failing(code: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


# -- what is open cannot be deleted -------------------------------------------------------------------------------------


@pytest.fixture
def silly_renames(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The inodes of files that are open, which an NFS client renames when they are deleted, and does not delete then."""
    opened: set[int] = set()
    unlink = os.unlink

    def rename_instead(name: str | Path, *, dir_fd: int | None = None) -> None:
        number = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_ino
        if number not in opened:
            unlink(name, dir_fd=dir_fd)
        elif os.path.basename(name).startswith(".nfs"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        else:
            os.rename(name, f".nfs{number:016x}", src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", rename_instead)
    return opened


def test_open_files_of_a_dropped_version_are_deleted_once_they_are_closed(
    tmp_path: Path, silly_renames: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    with filled(tmp_path / "s", keys=KEYS) as store:
        silly_renames |= {file.stat().st_ino for file in (tmp_path / "s/v1/keys").rglob("0")}
        for value in range(3):
            store.fold("loss", [0], [value])
            store.commit(keep=1)
        assert len([*(tmp_path / "s/v1").rglob(".nfs*")]) == 2
        assert [*(tmp_path / "s/v1").rglob("0")] == []
        assert [v.version for v in store.versions()] == [4]
        assert store.rows(["key 7"]).tolist() == [7]
        silly_renames.clear()
        store.commit()
        assert not (tmp_path / "s/v1").exists()
    assert caplog.records == []


def test_what_was_deleted_while_it_was_open_is_no_object(tmp_path: Path) -> None:
    place = LocalStorage(tmp_path)
    for name in ("v1/a", "v1/.nfs00000000004abc1200000001", ".fuse_hidden0000000400000001"):
        place.put(name, [b"x"])
    place.flush()
    assert (place.names(), place.names("v1")) == (["v1"], ["a"])


def test_a_leftover_of_a_dropped_version_is_never_taken_for_a_version(tmp_path: Path, silly_renames: set[int]) -> None:
    with three(tmp_path / "s") as store:
        silly_renames |= {file.stat().st_ino for file in (tmp_path / "s/v1").rglob("0")}
        store.drop_versions(keep=1)
        assert (tmp_path / "s/v1").exists()
    with pytest.raises(KeyError, match="has version 1 no more"):
        ScoreStore.open(tmp_path / "s", version=1, mode="r")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO])
def test_what_may_not_be_deleted_is_told_once_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    with three(tmp_path / "s") as store:
        with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
            patched.setattr(os, "unlink", failing(code))
            for _ in range(2):
                store.commit(keep=1)
        assert [v.version for v in store.versions()] == [2, 5]
        assert (tmp_path / "s/v1").exists()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert os.strerror(code) in said[0]
    assert "takes room and does no harm: delete it by hand" in said[0]


def test_one_file_that_cannot_be_deleted_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def all_but_one(name: str | Path, *, dir_fd: int | None = None) -> None:
        if name == "zarr.json":
            raise OSError(errno.EPERM, "Operation not permitted")
        unlink(name, dir_fd=dir_fd)

    with three(tmp_path / "s") as store:
        monkeypatch.setattr(os, "unlink", all_but_one)
        store.drop_versions(keep=1)
    assert {file.name for file in (tmp_path / "s/v1").rglob("*") if file.is_file()} == {"zarr.json"}


# -- a slow disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 30, 99, 100, 250])
def test_no_more_waits_for_a_slow_disk_than_is_allowed_or_one_larger_object(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def slowly(path: Path, parts: list[bytes]) -> None:
        time.sleep(0.002)
        written.append(nbytes(parts))

    monkeypatch.setattr(local, "write_whole", slowly)
    monkeypatch.setattr(local, "AHEAD", 100)
    place, waiting = LocalStorage(tmp_path), []
    for number in range(1, 41):
        place.put(f"v1/{number}", [bytes(size)])
        waiting.append(number * size - sum(written))
    place.flush()
    assert written == [size] * 40
    assert max(waiting[1:]) <= max(100, size)


def test_a_write_that_fails_is_told_before_the_flush_ends_and_the_next_one_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = LocalStorage(tmp_path)

    def put_all() -> None:
        for number in range(10):
            place.put(f"v1/{number}", [bytes(60)])
        place.flush()

    monkeypatch.setattr(local, "AHEAD", 100)
    with monkeypatch.context() as broken:
        broken.setattr(local, "write_whole", failing(errno.ENOSPC))
        with pytest.raises(OSError, match="No space left"):
            put_all()
    with contextlib.suppress(OSError):
        place.flush()  # what a failed commit has begun
    put_all()
    assert place.names("v1") == [*map(str, range(10))]


# -- what cannot be synced, mapped, or locked ---------------------------------------------------------------------------


def no_sync(kind: Callable[[int], bool], code: int) -> Callable[[int], None]:
    fsync = os.fsync

    def sync(descriptor: int) -> None:
        if kind(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    return sync


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_sync_folders_keeps_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "fsync", no_sync(stat.S_ISDIR, code))
    three(tmp_path / "s").close()
    assert ScoreStore.open(tmp_path / "s", mode="r")["loss"][0] == 30


@pytest.mark.parametrize(
    ("kind", "code"),
    [(stat.S_ISREG, errno.EIO), (stat.S_ISREG, errno.EINVAL), (stat.S_ISREG, errno.ENOSPC), (stat.S_ISDIR, errno.EIO)],
)
def test_an_error_of_syncing_a_file_or_of_a_broken_disk_fails_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[int], bool], code: int
) -> None:
    with filled(tmp_path / "s") as store:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", no_sync(kind, code))
            store.fold("loss", [0], [5])
            with pytest.raises(
                StoreError, match=f"commit of version 2 .* failed: {os.strerror(code)}. Version 1 is whole"
            ):
                store.commit()
        assert store.commit() == 2  # the remedy: nothing in memory was lost
    assert ScoreStore.open(tmp_path / "s", mode="r")["loss"][0] == 5


def test_where_maps_cannot_be_shared_they_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "s", keys=KEYS).close()
    map_, asked = mapped.libc.mmap, []

    def private_alone(start: None, size: int, access: int, flags: int, *more: int) -> int | None:
        asked.append(flags)
        return mapped.FAILED if flags & mmap.MAP_SHARED else map_(start, size, access, flags, *more)

    monkeypatch.setattr(mapped, "libc", SimpleNamespace(mmap=private_alone, munmap=mapped.libc.munmap))
    with ScoreStore.open(tmp_path / "s", mode="r") as store:
        assert (store["loss"][9], store.rows(["key 9"]).tolist()) == (9, [9])
    assert set(asked) == {mmap.MAP_PRIVATE}


def test_what_cannot_be_mapped_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "s", keys=KEYS).close()
    asked: list[object] = []
    monkeypatch.setattr(mapped, "libc", SimpleNamespace(mmap=lambda *about: asked.append(about) or mapped.FAILED))
    with ScoreStore.open(tmp_path / "s") as store:
        assert (store["loss"][9], store.rows(["key 9"]).tolist()) == (9, [9])
        store.commit()
    assert asked


def test_a_mapped_file_is_closed_and_cannot_be_written_by_an_array(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"what is there")
    opened = len(os.listdir("/dev/fd"))
    data = mapped.mapped(tmp_path / "file")[5:]
    assert (data.tobytes(), len(os.listdir("/dev/fd"))) == (b"is there", opened)
    with pytest.raises(ValueError, match="WRITEABLE"):
        data.flags.writeable = True


NO_LOCKS = """
import errno, fcntl
def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.lockf = fcntl.flock = refuse
"""
HOLDER = """
import sys, time
from adaptive_sampler import ScoreStore
store = ScoreStore.open(sys.argv[1])
print("open", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "lockf", failing(request.param))
    monkeypatch.setattr(fcntl, "flock", failing(request.param))


def test_a_store_is_kept_where_there_are_no_locks_and_that_is_said(
    tmp_path: Path, no_locks: None, caplog: pytest.LogCaptureFixture
) -> None:
    three(tmp_path / "s").close()
    with ScoreStore.open(tmp_path / "s") as store:
        assert store.commit() == 4  # no number is left out: nobody was dispossessed
    assert all("has no locks. A second writer is noticed by" in record.getMessage() for record in caplog.records)
    assert len(caplog.records) == 2


def test_without_locks_a_living_writer_is_known_by_its_process_and_a_dead_one_too(
    tmp_path: Path, no_locks: None
) -> None:
    filled(tmp_path / "s").close()
    with running(NO_LOCKS + HOLDER, tmp_path / "s") as holder:
        said = rf"by pid {holder.pid} .* was alive \d s ago\. Its file system has no locks, so this is judged by a heartbeat"
        with pytest.raises(StoreLocked, match=said):
            ScoreStore.open(tmp_path / "s")
        ScoreStore.open(tmp_path / "s", steal=True).close()  # the remedy
    ScoreStore.open(tmp_path / "s").close()


def test_without_locks_the_writer_that_was_robbed_is_told_and_leaves_the_thief_alone(
    tmp_path: Path, no_locks: None
) -> None:
    robbed = filled(tmp_path / "s")
    lock = robbed.session.files.lease
    robbed.session.files.lease = None
    assert lock is not None
    with running(NO_LOCKS + HOLDER.replace("argv[1]", "argv[1], steal=True"), tmp_path / "s") as thief:
        with pytest.raises(StoreError, match="another writer has committed meanwhile"):
            robbed.commit()
        lock.release()
        with pytest.raises(StoreLocked, match=f"by pid {thief.pid} "):
            ScoreStore.open(tmp_path / "s")


def test_without_locks_in_the_very_process_a_second_writer_is_refused(tmp_path: Path, no_locks: None) -> None:
    with filled(tmp_path / "s"), pytest.raises(StoreLocked, match="in this very process"):
        ScoreStore.open(tmp_path / "s")


# -- a place that cannot be written to ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.ENOSPC, "make room there, or name another place"), (errno.EIO, "name a place that can be written to")],
)
def test_a_store_whose_first_commit_fails_is_not_said_to_be_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("adaptive_sampler.storage.local.write_whole", failing(code))
        with pytest.raises(StoreError, match=f"No version is there yet: {remedy}, and call ScoreStore.create"):
            ScoreStore.create(tmp_path / "s", 3, [Loss()])
    with ScoreStore.create(tmp_path / "s", 3, [Loss()]) as store:  # the remedy, in the same place
        assert store.version == 0


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.ENOSPC, r"make room \(drop_versions\)"), (errno.EDQUOT, "make room"), (errno.EIO, "mend that")],
)
def test_room_is_asked_for_only_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    with filled(tmp_path / "s") as store:
        monkeypatch.setattr("adaptive_sampler.storage.local.write_whole", failing(code))
        store.fold("loss", [0], [5])
        with pytest.raises(StoreError, match=f"nothing in memory is lost: {remedy}"):
            store.commit()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "mkdir", failing(errno.EROFS))
    with pytest.raises(
        StoreError, match=r"cannot be made: Read-only file system\. Name a place to which this process may"
    ):
        ScoreStore.create(tmp_path / "new" / "s", 3, [Loss()])


# -- a real file system in user space -----------------------------------------------------------------------------------


@pytest.fixture(params=[[], ["-o", "direct_io"]], ids=["fuse", "fuse without shared maps"])
def fuse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if shutil.which("bindfs") is None or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs bindfs and /dev/fuse")
    behind, mounted = tmp_path / "behind", tmp_path / "mounted"
    behind.mkdir()
    mounted.mkdir()
    made = subprocess.run(["bindfs", *request.param, behind, mounted], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"bindfs cannot mount here: {made.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", "-l", mounted], check=True)


def test_a_store_is_kept_on_fuse(fuse: Path) -> None:
    with filled(fuse / "s", keys=KEYS) as store:
        reader = ScoreStore.open(fuse / "s", version=1, mode="r")
        for value in range(3):
            store.fold("loss", [0], [value])
            store.commit(keep=1)
        assert store.rows(["key 7"]).tolist() == [7]
        assert reader["loss"][3] == 3
        reader.close()
        store.commit(keep=1)
    assert np.array_equal(ScoreStore.open(fuse / "s", mode="r")["loss"], [2, *range(1, 100)])
