"""`commit(wait=False)`: a version is written while the training goes on, and holds what there was when it was asked for."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.commits.pending import PendingCommit
from adaptive_sampler.errors import InvalidValue, StoreError
from adaptive_sampler.scoring import EL2N, Forgetting, Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.storage.in_memory import MemoryStorage

N = 50


class Gate(MemoryStorage):
    """A storage whose objects are written once `open` is set; each of the next `failures` puts fails."""

    def __init__(self) -> None:
        super().__init__("gate")
        self.open, self.failures = threading.Event(), 0
        self.open.set()

    def put(self, name: str, parts: Sequence[np.ndarray | bytes]) -> None:
        assert self.open.wait(60)
        if self.failures:
            self.failures -= 1
            raise OSError(5, "the cable is out")
        super().put(name, parts)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def store(gate: Gate) -> ScoreStore:
    made = ScoreStore.create(None, N, [Loss()], storage=gate)
    made.fold("loss", np.arange(N), np.arange(N))
    return made


def read(gate: Gate, version: int | None = None) -> np.ndarray:
    with ScoreStore.open(storage=gate, mode="r", version=version) as found:
        return found["loss"].copy()


def test_the_number_of_the_version_comes_when_it_is_written(store: ScoreStore, gate: Gate) -> None:
    pending = store.commit("behind", wait=False)
    assert isinstance(pending, PendingCommit)
    assert pending.result() == 1
    assert pending.result() == 1
    assert [(version.version, version.note) for version in store.versions()] == [(1, "behind")]
    np.testing.assert_array_equal(read(gate), np.arange(N))


def test_training_goes_on_while_it_is_written(store: ScoreStore, gate: Gate) -> None:
    gate.open.clear()
    pending = store.commit(wait=False)
    store.fold("loss", [0], [99])
    assert not pending.done()
    assert store.version == 0
    gate.open.set()
    assert pending.result() == store.version == 1


def test_what_is_observed_meanwhile_belongs_to_the_next_commit(store: ScoreStore, gate: Gate) -> None:
    gate.open.clear()
    pending = store.commit(wait=False)
    store.fold("loss", [0], [99])
    gate.open.set()
    pending.result()
    assert read(gate, 1)[0] == 0
    assert store.made_from == (1, 1)
    assert store.commit() == 2
    assert read(gate, 2)[0] == 99


def test_a_result_that_is_not_there_in_time_is_asked_for_again(store: ScoreStore, gate: Gate) -> None:
    gate.open.clear()
    pending = store.commit(wait=False)
    with pytest.raises(TimeoutError, match=r"not written after 0\.01 s"):
        pending.result(timeout=0.01)
    gate.open.set()
    assert pending.result(timeout=60) == 1


def test_a_commit_that_fails_says_so_and_the_next_one_writes_everything(store: ScoreStore, gate: Gate) -> None:
    gate.failures = 1
    pending = store.commit(wait=False)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"the cable is out.*nothing in memory is lost"):
            pending.result()
    store.fold("loss", [0], [99])
    assert store.commit() > 0
    np.testing.assert_array_equal(read(gate), [99, *range(1, N)])


def test_the_error_comes_with_the_next_commit_if_nobody_asked_for_it(store: ScoreStore, gate: Gate) -> None:
    gate.failures = 1
    store.commit(wait=False)
    with pytest.raises(StoreError, match="the cable is out"):
        store.commit()
    store.commit()
    np.testing.assert_array_equal(read(gate), np.arange(N))


def test_closing_waits_and_raises_the_error_and_the_store_is_closed(store: ScoreStore, gate: Gate) -> None:
    gate.failures = 1
    store.commit(wait=False)
    with pytest.raises(StoreError, match="the cable is out"):
        store.close()
    ScoreStore.open(storage=gate).close()  # the lease was given back


def test_closing_waits_until_it_is_written(store: ScoreStore, gate: Gate) -> None:
    gate.open.clear()
    store.commit(wait=False)
    threading.Timer(0.1, gate.open.set).start()
    store.close()
    np.testing.assert_array_equal(read(gate), np.arange(N))


def test_a_state_names_the_commit_that_was_being_written(store: ScoreStore, gate: Gate) -> None:
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"))
    list(sampler)
    store.commit(wait=False)
    state = sampler.state_dict()
    assert state["commit"] == 1
    store.close()
    resumed = AdaptiveSampler(ScoreStore.open(storage=gate), Prune(0.5, "loss"))
    resumed.load_state_dict(state)
    assert resumed.epoch == 1


def test_old_versions_are_dropped_once_it_is_written(store: ScoreStore) -> None:
    for value in range(3):
        store.fold("loss", [0], [value])
        last = store.commit(keep=1, wait=False)
    assert last.result() == 3
    assert [version.version for version in store.versions()] == [3]


def test_a_wrong_keep_is_told_before_anything_is_written(store: ScoreStore) -> None:
    with pytest.raises(InvalidValue, match="keep=0"):
        store.commit(keep=0, wait=False)
    assert store.versions() == []


def same_store(one: ScoreStore, other: ScoreStore) -> None:
    """Both hold the same, to the bit."""
    assert (one.names, len(one), one.epoch) == (other.names, len(other), other.epoch)
    assert one.session.digest() == other.session.digest()
    assert [*one.columns] == [*other.columns]


def changes(store: ScoreStore) -> None:
    """What may happen to a store while it is written."""
    store.fold("loss", np.arange(10), np.full(10, 5.0))
    store.add(Forgetting())
    store.fold("forgetting", np.arange(5), np.ones(5))
    store.begin_run("second")
    store.grow(N + 30)
    store.fold("el2n", np.arange(N, N + 30), np.full(30, 0.5))
    store.columns["source"] = np.arange(N + 30)


def test_whatever_happens_meanwhile_is_in_the_next_version_and_not_in_this_one(gate: Gate, tmp_path: Path) -> None:
    stores = [
        ScoreStore.create(None, N, [Loss(), EL2N()], storage=gate),
        ScoreStore.create(tmp_path / "s", N, [Loss(), EL2N()]),
    ]
    for store in stores:
        for name in store.names:
            store.fold(name, np.arange(N), np.linspace(0, 1, N))
    behind, plain = stores
    gate.open.clear()
    pending = behind.commit(wait=False)
    changes(behind)
    gate.open.set()
    pending.result()
    behind.commit()
    plain.commit()
    changes(plain)
    plain.commit()
    for version in (1, 2):
        with ScoreStore.open(storage=gate, mode="r", version=version) as one:
            same_store(one, ScoreStore.open(plain.path, mode="r", version=version))


def test_a_commit_that_fails_after_the_store_has_grown_loses_nothing(gate: Gate) -> None:
    store = ScoreStore.create(None, N, [Loss(), EL2N()], storage=gate)
    store.fold("loss", np.arange(N), np.arange(N))
    store.fold("el2n", np.arange(N), np.arange(N))
    gate.open.clear()
    gate.failures = 1
    pending = store.commit(wait=False)
    store.fold("loss", [1], [3])  # splits the book of both scores
    store.grow(N + 30)
    gate.open.set()
    with pytest.raises(StoreError):
        pending.result()
    store.commit()
    with ScoreStore.open(storage=gate, mode="r") as found:
        same_store(found, store)


def test_a_forked_child_does_not_wait_for_its_parents_commit(store: ScoreStore, gate: Gate) -> None:
    gate.open.clear()
    pending = store.commit(wait=False)
    child = os.fork()
    if not child:
        store.session.settle()
        store.session.plans.save()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.open.set()
    assert pending.result() == 1


def test_a_store_that_nobody_holds_is_written_all_the_same(gate: Gate) -> None:
    store = ScoreStore.create(None, N, [Loss()], storage=gate)
    store.fold("loss", np.arange(N), np.arange(N))
    gate.open.clear()
    pending, gone = store.commit(wait=False), weakref.ref(store.session)
    del store
    gate.open.set()
    pending.result()
    del pending
    gc.collect()
    assert gone() is None
    np.testing.assert_array_equal(read(gate), np.arange(N))


SCRIPT = """
import sys
import numpy as np
from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Loss
store = ScoreStore.create(sys.argv[1], 200_000, [Loss()])
store.fold("loss", np.arange(200_000), np.arange(200_000))
store.commit(wait=False)
"""


def test_a_process_ends_when_it_is_written(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "s"], check=True, capture_output=True, text=True)
    assert ended.stderr == ""
    with ScoreStore.open(tmp_path / "s") as store:  # and its lock was given back
        assert store.version == 1
        np.testing.assert_array_equal(store["loss"], np.arange(200_000))


def test_a_process_that_is_killed_meanwhile_leaves_the_last_version_whole(tmp_path: Path) -> None:
    killed = SCRIPT + "store.commit(wait=False)\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    subprocess.run([sys.executable, "-c", killed, tmp_path / "s"], check=False, capture_output=True)
    with ScoreStore.open(tmp_path / "s") as store:
        assert store.version >= 1  # the second commit waited for the first
        np.testing.assert_array_equal(store["loss"], np.arange(200_000))
