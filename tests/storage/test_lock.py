"""One writer at a time, whatever became of the last one; readers are never in the way, and never see half a commit."""

import json
import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import StoreError, StoreLocked
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.storage.lock import WriterLock
from benchmarks.helpers.writer import WRITER, kill, start
from tests.storage.helpers import filled, running

FORK = multiprocessing.get_context("fork")

HOLDER = """
import sys, time
from adaptive_sampler import ScoreStore
store = ScoreStore.open(sys.argv[1])
print("open", flush=True)
time.sleep(60)
"""

FORKER = """
import os, sys, time
from adaptive_sampler import ScoreStore
store = ScoreStore.open(sys.argv[1])
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print("open", flush=True)
print(child, flush=True)
time.sleep(60)
"""


def test_a_second_writer_is_refused_with_the_holders_pid_and_host(tmp_path: Path) -> None:
    filled(tmp_path / "s").close()
    with (
        running(HOLDER, tmp_path / "s") as holder,
        pytest.raises(StoreLocked, match=rf"by pid {holder.pid} on host {os.uname().nodename}.*mode='r'"),
    ):
        ScoreStore.open(tmp_path / "s")


def test_a_second_writer_in_the_same_process_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    with pytest.raises(StoreLocked, match="in this very process"):
        ScoreStore.open(tmp_path / "s")
    store.close()
    ScoreStore.open(tmp_path / "s").close()


def test_a_store_nobody_holds_any_more_frees_its_lock(tmp_path: Path) -> None:
    filled(tmp_path / "s")  # never closed, never kept
    ScoreStore.open(tmp_path / "s").close()


def test_a_killed_holders_lock_is_free(tmp_path: Path) -> None:
    filled(tmp_path / "s").close()
    kill(start(HOLDER, tmp_path / "s"))
    ScoreStore.open(tmp_path / "s").close()


def test_a_killed_holders_lock_is_free_although_its_forked_worker_lives(tmp_path: Path) -> None:
    filled(tmp_path / "s").close()
    holder = start(FORKER, tmp_path / "s")
    assert holder.stdout is not None
    worker = int(holder.stdout.readline())
    try:
        os.kill(holder.pid, 9)
        holder.wait()
        os.kill(worker, 0)  # alive
        ScoreStore.open(tmp_path / "s").close()
    finally:
        os.kill(worker, 9)
        holder.stdout.close()


@pytest.mark.parametrize(("silent", "steal", "refused"), [(5, False, True), (5, True, False), (120, False, False)])
def test_a_holder_on_another_host_is_judged_by_its_heartbeat(
    tmp_path: Path, silent: float, steal: bool, refused: bool
) -> None:
    filled(tmp_path / "s").close()
    lock = tmp_path / "s/LOCK"
    lock.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    os.utime(lock, (time.time() - silent,) * 2)
    if refused:
        with pytest.raises(StoreLocked, match=r"by pid 1 on host elsewhere, which was alive 5 s ago.*steal=True"):
            ScoreStore.open(tmp_path / "s", steal=steal)
    else:
        ScoreStore.open(tmp_path / "s", steal=steal).close()


def test_readers_open_while_a_writer_holds_the_lock(tmp_path: Path) -> None:
    with filled(tmp_path / "s"):
        assert ScoreStore.open(tmp_path / "s", mode="r")["loss"][3] == 3


def test_a_reader_in_a_loop_never_sees_half_a_commit(tmp_path: Path) -> None:
    ScoreStore.create(tmp_path / "s", 200_000, [EL2N(), Loss()]).close()
    versions = set()
    with running(WRITER, tmp_path / "s"):
        end = time.monotonic() + 60  # far beyond what a busy machine needs for four commits
        while len(versions) < 4 and time.monotonic() < end:
            reader = ScoreStore.open(tmp_path / "s", mode="r")
            versions.add(reader.version)
            assert len(np.unique(reader["loss"])) == 1
            assert len(np.unique(reader["el2n"])) == 1
            assert (reader.last_seen("loss") == (reader.version or -1)).all()
    assert len(versions) == 4


def test_a_forked_child_may_not_write(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            store.fold("loss", [0], [1])
        except StoreError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert f"process {child} writes to a store that process {os.getpid()} opened" in os.read(reading, 1000).decode()
    os.close(reading)
    os.close(writing)


def lock_in_a_child(path: Path, pipe: Any) -> None:
    pipe.recv()  # when the parent has released its own
    mine = WriterLock(path)
    pipe.send(mine.mine)
    pipe.recv()


def test_a_forked_child_may_write_once_its_parent_does_not(tmp_path: Path) -> None:
    parents = WriterLock(tmp_path / "LOCK")
    pipe, childs = FORK.Pipe()
    child = FORK.Process(target=lock_in_a_child, args=(tmp_path / "LOCK", childs))
    child.start()
    try:
        parents.release()
        pipe.send("released")
        assert pipe.poll(30)
        assert pipe.recv()
        with pytest.raises(StoreLocked, match=f"by pid {child.pid}"):
            WriterLock(tmp_path / "LOCK")
    finally:
        child.kill()
        child.join()


def test_of_threads_that_lock_at_once_one_has_the_lock(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def lock(_: int) -> list[WriterLock]:
        barrier.wait()
        try:
            return [WriterLock(tmp_path / "LOCK")]
        except StoreLocked:
            return []

    with ThreadPoolExecutor(8) as pool:
        for _ in range(100):
            (holder,) = [lock for locks in pool.map(lock, range(8)) for lock in locks]
            holder.release()


@pytest.mark.parametrize("write", [lambda s: s.commit(), lambda s: s.fold("loss", [0], [1]), lambda s: s.grow(200)])
def test_a_reader_may_not_write(tmp_path: Path, write) -> None:
    filled(tmp_path / "s").close()
    with pytest.raises(StoreError, match=r"is open to read \(mode='r'\)"):
        write(ScoreStore.open(tmp_path / "s", mode="r"))


def test_a_closed_store_may_not_be_written(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="was closed"):
        store.commit()


def test_a_temporary_store_is_gone_with_its_holder() -> None:
    store = filled(None)
    path = store.path
    assert path.is_dir()
    store.close()
    assert not path.exists()
