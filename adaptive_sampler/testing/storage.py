"""What a storage must do: objects, ranges, names, a pointer, a lease, and a whole store kept in it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from adaptive_sampler.errors import PointerMoved, StoreLocked
from adaptive_sampler.scoring.base import Score
from adaptive_sampler.scoring.folds import Mean
from adaptive_sampler.storage.base import LEASE, POINTER, Lease, Storage
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.testing.identical import identical


def check_storage(make: Callable[[], Storage], again: Callable[[Storage], Storage] | None = None) -> None:
    """Check a storage. `make()` returns a new, empty one each time. Raises AssertionError, which names the rule.

    `again(storage)` returns another handle on the same place, such as another process would have. None: several writers,
    each in a thread of its own, use the same object.
    """
    same = again or (lambda storage: storage)
    _check_objects(make())
    _check_ranges(make())
    _check_names(make())
    _check_pointer(make(), same)
    _check_race(make(), same)
    _check_lease(make(), same)
    _check_holds(make(), same)
    _check_store(make())


def _check_objects(storage: Storage) -> None:
    array = np.arange(5, dtype="<i4")
    storage.put("v1/a/c/0", [b"head", array, b"", array[:0]])
    storage.put("v1/empty", [])
    storage.flush()
    wanted = np.frombuffer(b"head" + array.tobytes(), np.uint8)
    got = storage.get("v1/a/c/0")
    assert got.dtype == np.uint8, f"get gives {got.dtype}, not uint8"
    assert identical(got, wanted), "get does not give the parts that were put, end to end"
    assert storage.get("v1/empty").size == 0, "an object without bytes is an object"
    storage.share("v1/a/c/0", "v2/a/c/0")
    storage.flush()
    storage.delete("v1")
    assert identical(storage.get("v2/a/c/0"), wanted), "a shared object must outlive its source"
    for missing in ("v1/a/c/0", "v1", "never"):
        _refuses(lambda name=missing: storage.get(name), "get of an object that is not there")  # type: ignore[misc]  # mypy: default in a lambda
    _refuses(lambda: _shared(storage, "never", "v3/a"), "share of an object that is not there, or the flush after it,")
    storage.delete("never")  # deleting what is not there does nothing


def _shared(storage: Storage, source: str, target: str) -> None:
    storage.share(source, target)
    storage.flush()


def _check_names(storage: Storage) -> None:
    assert storage.names() == [], "an empty place has no names"
    for name in ("v10/a/c/0", "v10/a/c/1", "v10/b/c/0", "v1/a/c/0", "manifests/v1"):
        storage.put(name, [b"x"])
    storage.flush()
    assert storage.names() == ["manifests", "v1", "v10"], "names are the first components, sorted, without repeats"
    assert storage.names("v10/a/c") == ["0", "1"], "names below a prefix are its components alone"
    assert storage.names("v2") == [], "a prefix with nothing below it has no names"
    storage.delete("v10/a")
    assert storage.names("v10") == ["b"], "delete takes a folder of objects, and nothing beside it"
    storage.delete("v10/b/c/0")
    storage.delete("v1")
    assert "v1" not in storage.names(), "delete leaves a name behind"


def _check_ranges(storage: Storage) -> None:
    storage.put("v1/a", [bytes(range(100))])
    storage.flush()
    for start, stop in ((0, 100), (0, None), (10, 20), (90, None), (95, 200), (100, None), (200, 300), (5, 5)):
        wanted = np.frombuffer(bytes(range(100))[start:stop], np.uint8)
        assert identical(storage.get("v1/a", start, stop), wanted), f"get({start}, {stop}) does not give these bytes"
    _refuses(lambda: storage.get("v1/b", 0, 1), "get of a range of an object that is not there")


def _check_pointer(storage: Storage, same: Callable[[Storage], Storage]) -> None:
    assert storage.pointer() is None, "a new place points to nothing"
    storage.swing(b"first", expected=None)
    assert same(storage).pointer() == b"first", "the pointer is not what it was swung to"
    storage.swing(b"second, and longer", expected=b"first")
    storage.swing(b"3rd", expected=b"second, and longer")
    assert storage.pointer() == b"3rd", "a shorter value must replace a longer one whole"
    for stale in (None, b"first", b"3r", b"3rd "):
        try:
            same(storage).swing(b"lost", expected=stale)
        except PointerMoved:
            pass
        else:
            raise AssertionError(f"swing of a pointer that does not hold expected={stale!r} must raise PointerMoved")
    assert storage.pointer() == b"3rd", "a swing that is refused changes the pointer"
    assert POINTER in storage.names(), f"names must list the pointer as {POINTER}"
    storage.delete(POINTER)
    assert storage.pointer() is None, "a pointer that was deleted points to nothing"


def _check_race(storage: Storage, same: Callable[[Storage], Storage], writers: int = 4, each: int = 8) -> None:
    """Let several writers count up in the pointer: a writer whose `expected` is outdated must be refused."""

    def count_up() -> None:
        mine = same(storage)
        for _ in range(each):
            while True:
                seen = mine.pointer()
                try:
                    mine.swing(str(int(seen or 0) + 1).encode(), expected=seen)
                    break
                except PointerMoved:
                    continue

    with ThreadPoolExecutor(writers) as pool:
        for done in [pool.submit(count_up) for _ in range(writers)]:
            done.result()
    counted = int(storage.pointer() or 0)
    assert counted == writers * each, (
        f"{writers * each} swings that succeeded left a count of {counted}: some were lost"
    )


def _check_lease(storage: Storage, same: Callable[[Storage], Storage]) -> None:
    lease = storage.lease()
    assert not lease.taken_over, "a lease that nobody held is taken over from nobody"
    assert _held(lease), "a lease that was just taken is not held"
    assert LEASE in storage.names(), f"names must list a lease that is held as {LEASE}"
    try:
        same(storage).lease()
    except StoreLocked:
        pass
    else:
        raise AssertionError("a second lease must raise StoreLocked while the first is held")
    assert _held(lease), "an attempt to take the lease took it from its holder"
    lease.release()
    assert not _held(lease), "a lease that was released is still held"
    lease.release()  # a second release does nothing
    same(storage).lease().release()


def _check_holds(storage: Storage, same: Callable[[Storage], Storage]) -> None:
    storage.put("v1/a", [b"held"])
    storage.put("v10/a", [b"x"])
    storage.flush()
    holds = [same(storage).hold("v1"), storage.hold("v1")]
    for hold in holds:
        assert storage.held("v1"), "a prefix that was just held is not held"
        storage.delete("v1")
        assert bytes(same(storage).get("v1/a")) == b"held", "delete took what somebody holds"
        hold.release()
        hold.release()  # a second release does nothing
    assert not storage.held("v1"), "what everybody has released is still held"
    storage.delete("v10")
    storage.delete("v1")
    assert storage.names() == [], "delete leaves what nobody holds any more"
    _refuses(lambda: storage.hold("v1"), "hold of what is not there")


def _held(lease: Lease) -> bool:
    return lease.mine


def _check_store(storage: Storage) -> None:
    """Check a whole store: created, updated, committed, read back, and created again in the same place."""
    with ScoreStore.create(None, 3, [Score("seen", _echo, Mean())], storage=storage) as store:
        store.fold("seen", [0, 2], [1.0, 3.0])
        store.commit("first")
        store.fold("seen", [1], [2.0])
        second = store.commit("second")
    for version, wanted in ((1, [1, np.nan, 3]), (second, [1, 2, 3])):
        with ScoreStore.open(storage=storage, version=version, mode="r") as again:
            assert identical(again["seen"], np.array(wanted, np.float32)), (
                f"version {version} reads back as {again['seen']}"
            )
    with ScoreStore.create(None, 2, [Score("seen", _echo, Mean())], storage=storage, overwrite=True) as store:
        assert [v.version for v in store.versions()] == [], "a store that was made anew has versions of the old one"


def _echo(seen: Any) -> Any:
    return seen


def _refuses(call: Callable[[], Any], what: str) -> None:
    try:
        call()
    except FileNotFoundError:
        return
    raise AssertionError(f"{what} must raise FileNotFoundError")
