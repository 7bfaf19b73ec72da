"""What lies in several objects is read from several threads where the storage asks for that, and comes as if read one by one."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import StoreDamaged
from adaptive_sampler.scoring import EL2N, Forgetting
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.shards.indexing import columns
from adaptive_sampler.storage.in_memory import MemoryStorage
from adaptive_sampler.storage.local import LocalStorage
from adaptive_sampler.storage.writers import in_order
from tests.shards.tars import index_of

AT_ONCE = 3


class Gauge:
    """How many are inside at once, at most; those inside wait a little for others."""

    def __init__(self) -> None:
        self.most = self._inside = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._inside >= AT_ONCE, timeout=0.1)

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1


class Far(MemoryStorage):
    """A storage that is asked for several objects at a time."""

    at_once = AT_ONCE

    def __init__(self) -> None:
        super().__init__()
        self.gauge = Gauge()

    def get(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        with self.gauge:
            return super().get(name, start, stop)


def committed(storage: MemoryStorage) -> None:
    """A store of three scores' columns, keys, and a column of texts."""
    keys = [f"k{i}" for i in range(9)]
    with ScoreStore.create(None, 9, [EL2N(), Forgetting()], storage=storage, keys=keys, columns={"of": keys}) as store:
        store.update(np.arange(8), logits=np.eye(8, 3, dtype=np.float32), labels=np.arange(8) % 3)
        store.commit()


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("adaptive-sampler-read")}


def test_a_store_far_away_is_read_several_objects_at_a_time_and_never_more() -> None:
    far, near = Far(), MemoryStorage()
    for storage in (far, near):
        committed(storage)
    far.gauge.most = 0
    with ScoreStore.open(None, storage=far) as store, ScoreStore.open(None, storage=near) as other:
        for name in ("el2n", "forgetting"):
            np.testing.assert_array_equal(store[name], other[name])
            np.testing.assert_array_equal(store.count(name), other.count(name))
        assert store.columns["of"].tolist() == other.columns["of"].tolist()
        assert store.rows(["k3"]) == other.rows(["k3"])
    assert far.gauge.most == AT_ONCE
    assert threads() == set()


def test_an_index_far_away_is_read_several_chunks_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "CHUNK", 4)
    near = index_of(tmp_path, [20])
    gauge, get = Gauge(), LocalStorage.get

    def slowly(self: LocalStorage, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        with gauge:
            return get(self, name, start, stop)

    monkeypatch.setattr(LocalStorage, "at_once", AT_ONCE, raising=False)
    monkeypatch.setattr(LocalStorage, "get", slowly)
    assert ShardIndex.open(tmp_path / "index").keys == near.keys
    assert gauge.most == AT_ONCE


def test_a_storage_that_says_nothing_is_asked_for_one_object_after_another() -> None:
    storage = Far()
    storage.at_once = 1
    committed(storage)
    with ScoreStore.open(None, storage=storage) as store:
        assert np.isfinite(store["el2n"][:8]).all()
    assert storage.gauge.most == 1


def test_a_chunk_that_is_not_what_was_committed_is_told_as_from_one_thread() -> None:
    storage = Far()
    committed(storage)
    (name,) = (name for name in storage._objects if name.endswith("el2n/count/c/0") and name.startswith("v1/"))
    storage._objects[name] = storage._objects[name][:-1] + b"x"
    with ScoreStore.open(None, storage=storage) as store, pytest.raises(StoreDamaged, match="checksum differs"):
        store["el2n"]
    assert threads() == set()


@given(st.lists(st.integers()), st.integers(1, 5))
def test_results_come_in_the_order_of_the_items(items: list[int], most: int) -> None:
    if items:
        assert list(in_order(lambda item: 2 * item, items, most)) == [2 * item for item in items]


def test_the_first_error_in_that_order_is_raised_and_what_has_not_begun_never_does() -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 2:
            time.sleep(0.05)
            raise ValueError(item)
        return item

    found = in_order(work, range(100), 4)
    with pytest.raises(ValueError, match="2"):
        list(found)
    assert len(begun) <= 2 + 4 + 1
    assert threads() == set()


def test_threads_end_when_the_rest_is_not_wanted() -> None:
    found: Iterator[int] = in_order(lambda item: item, range(100), 4)
    with closing(found):  # type: ignore[type-var]  # it is a generator
        assert next(found) == 0
        assert threads()
    assert threads() == set()
