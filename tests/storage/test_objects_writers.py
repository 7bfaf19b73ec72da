"""Writers and readers of an object store that die or race: nothing is lost, and nothing mixed."""

import contextlib
import json
import multiprocessing
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import PointerMoved, StoreError, StoreLocked
from adaptive_sampler.remote.objects import Objects
from adaptive_sampler.scoring import EL2N, Forgetting, Loss, Margin
from adaptive_sampler.scoring.folds import Last
from adaptive_sampler.storage import object_lease, object_links
from adaptive_sampler.storage.objects import ObjectStorage
from tests.storage.helpers import filled, running, three
from tests.storage.proxy import Proxy

pytest.importorskip("obstore", reason="obstore is not installed (the extra cloud brings it)")
KILLS = int(os.environ.get("KILLS", "8"))  # KILLS=200 takes minutes
HOLDING = """
import sys, time
from adaptive_sampler import ScoreStore
store = ScoreStore.open(sys.argv[1], mode=sys.argv[2])
print("open", flush=True)
time.sleep(600)
"""


def committing(place: str, environment: dict[str, str], said: Connection) -> None:
    """Commit version after version, in which all el2n and margins are the version's number, and say each."""
    os.environ.update(environment)
    object_links.SMALL = -1  # so that what is shared is copied behind the commit, or not at all
    store = ScoreStore.open(place)
    said.send(0)
    while True:
        value = store.version + 1
        for name in ("el2n", "margin"):
            store.fold(name, np.arange(len(store)), np.full(len(store), value), epoch=value)
        said.send(store.commit())


def killed_while_committing(place: str, environment: dict[str, str], delay: float) -> int:
    """Kill a committing writer after `delay` seconds -> the last version that it acknowledged."""
    forking = multiprocessing.get_context("forkserver")  # from a process without threads, which has imported everything
    forking.set_forkserver_preload(["tests.storage.test_objects_writers"])
    hears, said = forking.Pipe(duplex=False)
    writer = forking.Process(target=committing, args=(place, environment, said))
    writer.start()
    said.close()
    last = hears.recv()
    time.sleep(delay)
    writer.kill()
    writer.join()
    with contextlib.suppress(EOFError):
        while True:
            last = hears.recv()
    return int(last)


def test_a_writer_killed_amid_commits_loses_and_mixes_nothing(place: str, server: dict[str, str]) -> None:
    with ScoreStore.create(place, 50, [EL2N(fold=Last()), Margin(), Loss()]) as store:
        store.fold("loss", np.arange(50), np.arange(50))
        for name in ("el2n", "margin"):
            store.fold(name, np.arange(50), np.full(50, 1), epoch=1)
        store.commit()
    delays = random.Random(0)
    for _ in range(KILLS):
        acknowledged = killed_while_committing(place, server, delays.uniform(0, 0.2))
        with ScoreStore.open(place) as store:
            assert store.version >= acknowledged
            written = store["el2n"][0]
            for name in ("el2n", "margin"):
                assert (store.last_seen(name) == written).all()
            assert (store["el2n"] == written).all()
            assert store["loss"].tolist() == list(range(50))
            store.drop_versions(keep=1)


# -- one writer ----------------------------------------------------------------------------------------------------------


def test_of_two_who_open_at_once_one_writes(place: str) -> None:
    filled(place).close()
    start = threading.Barrier(4)

    def opened() -> ScoreStore | None:
        start.wait()
        try:
            return ScoreStore.open(place)
        except StoreLocked:
            return None

    with ThreadPoolExecutor(4) as pool:
        found = [done.result() for done in [pool.submit(opened) for _ in range(4)]]
    (writer,) = [store for store in found if store is not None]
    writer.close()


def test_a_writer_in_another_process_is_named_and_may_be_killed_and_followed_at_once(place: str) -> None:
    filled(place).close()
    with running(HOLDING, place, "r+") as process:
        with pytest.raises(
            StoreLocked, match=rf"open for writing by pid {process.pid} on host .*, which was alive \d s ago"
        ):
            ScoreStore.open(place)
        with ScoreStore.open(place, mode="r") as reader:
            assert reader["loss"][3] == 3
    with ScoreStore.open(place) as store:
        assert store.commit() > 1


def of_another_host(place: str) -> None:
    """Make the lock say that a process on another host holds it."""
    lock = Objects(place)
    holder = {"pid": 1, "host": "elsewhere", "machine": "elsewhere", "id": "x"}
    found = lock.read("LOCK")
    assert found is not None
    assert lock.swap("LOCK", json.dumps(holder).encode(), found.token) is not None


def test_a_holder_on_another_host_is_alive_until_it_was_silent_for_a_minute_by_the_servers_clock(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(place).close()
    of_another_host(place)
    monkeypatch.setattr(time, "time", lambda: 9e9)  # of this process: it does not matter
    with pytest.raises(StoreLocked, match=r"by pid 1 on host elsewhere, which was alive \d s ago"):
        ScoreStore.open(place)
    monkeypatch.setattr(object_lease, "DEAD", 0.0)
    with ScoreStore.open(place) as store:
        assert store.version == 1
        assert store.commit() == 3  # the number that the dead one may have been about to use is left out


def test_a_lock_is_stolen_where_that_is_asked_for_and_its_holder_is_told(place: str) -> None:
    first = ScoreStore.create(place, 3, [Loss(), Forgetting()])
    second = ScoreStore.open(place, steal=True)
    second.fold("loss", [0], [1.0])
    second.commit("of the second")
    first.fold("loss", [1], [2.0])
    with pytest.raises(PointerMoved, match=r"another writer has committed meanwhile.*Nothing was changed"):
        first.commit("of the first")
    first.close()  # it gives no lock back that is another's
    with pytest.raises(StoreLocked):
        ScoreStore.open(place)
    second.close()
    with ScoreStore.open(place) as again:
        assert [version.note for version in again.versions()] == ["of the second"]
        assert again["loss"][0] == 1


def test_a_holder_shows_that_it_lives_and_notices_that_its_lock_was_taken(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_lease, "BEAT", 0.05)
    lease = ObjectStorage(place).lease()
    before = Objects(place).changed("LOCK")
    deadline = time.monotonic() + 30
    while Objects(place).changed("LOCK") == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert Objects(place).changed("LOCK") != before
    assert lease.mine
    other = ObjectStorage(place).lease(steal=True)
    while lease.mine and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (lease.mine, other.mine) == (False, True)
    lease.release()
    assert other.mine
    other.release()


def test_a_lock_that_says_nothing_sensible_is_waited_for(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(place).close()
    Objects(place).put("LOCK", [b"{"])
    with pytest.raises(StoreLocked, match="by pid unknown"):
        ScoreStore.open(place)
    ScoreStore.open(place, steal=True).close()


# -- readers -------------------------------------------------------------------------------------------------------------


def test_a_reader_keeps_its_version_until_it_is_closed(place: str) -> None:
    store = three(place)
    reader = ScoreStore.open(place, version=1, mode="r")
    store.drop_versions(keep=1)
    assert reader["loss"][0] == 0
    reader.close()
    store.commit(keep=1)
    assert "v1" not in ObjectStorage(place).names()
    store.close()


def test_what_a_killed_reader_held_lapses(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with three(place) as store:
        with running(HOLDING, place, "r"):
            store.drop_versions(keep=1)
        store.fold("loss", [0], [1.0])
        store.commit(keep=1)
        assert "v3" in ObjectStorage(place).names()  # for all that is known it is read
        monkeypatch.setattr(object_lease, "DEAD", 0.0)
        store.commit(keep=1)
        assert ObjectStorage(place).names() == ["CURRENT", "LOCK", "manifests", "v2", f"v{store.version}"]
        assert Objects(place).names("HOLDS") == ["clock"]


def test_a_store_that_is_read_is_not_replaced(place: str) -> None:
    filled(place).close()
    with ScoreStore.open(place, mode="r"), pytest.raises(StoreError, match="while it is open to read"):
        ScoreStore.create(place, 3, [Loss()], overwrite=True)
    ScoreStore.create(place, 3, [Loss()], overwrite=True).close()


def test_a_reader_that_may_not_write_reads_and_says_that_it_holds_nothing(
    place: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    filled(place).close()
    proxy.rule = lambda method, path: None if method in ("GET", "HEAD") else 403
    with ScoreStore.open(place, mode="r", options=proxy.options) as reader:
        assert reader["loss"][3] == 3
    assert "nothing shows that this version is being read" in caplog.text
