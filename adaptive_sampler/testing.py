"""Checks of what a new score, policy or storage must do, for your own tests; this package's tests call them too."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from adaptive_sampler.arrays import as_rows
from adaptive_sampler.errors import PointerMoved, StoreLocked
from adaptive_sampler.plan import Plan, from_files
from adaptive_sampler.scoring.base import BOOKKEEPING, Fold, Score, ScoreLike, describe, restore
from adaptive_sampler.scoring.folds import Mean
from adaptive_sampler.selection.base import Policy
from adaptive_sampler.selection.base import describe as describe_policy
from adaptive_sampler.storage.base import LEASE, POINTER, Lease, Storage
from adaptive_sampler.store import ScoreStore

__all__ = ["check_policy", "check_score", "check_storage"]

Batch = tuple[Any, Mapping[str, Any]]  # rows (batch,), observation arrays by name


def check_score(score: ScoreLike, *batches: Batch) -> None:
    """Check a score and its fold on some batches of your own: (rows, {"logits": …, "labels": …}).

    Give at least two batches. Some rows should come twice in one batch, and some in several batches. Raises
    AssertionError, which names the rule that is broken.
    """
    rows = [as_rows(rows, 1 << 31) for rows, _ in batches]
    n = 2 + max(int(r.max(initial=0)) for r in rows)  # the last row is never observed
    _check_form(score)
    values = [_measured(score, observation, len(r)) for r, (_, observation) in zip(rows, batches, strict=True)]
    _check_batches(score, rows, values, n)
    _check_kept(score, rows, values, n)


def _check_form(score: ScoreLike) -> None:
    assert isinstance(score, ScoreLike), f"{score!r} lacks one of name, fold, inputs, measure"
    assert isinstance(score.fold, Fold), f"{score.fold!r} lacks one of columns, fold, read, begin_run"
    assert score.name.isidentifier(), f"name {score.name!r} is no identifier"
    assert score.inputs, "inputs are empty: no observation would feed the score"
    assert all(score.inputs), "an alternative of inputs is empty: every observation would feed the score"
    assert not set(score.fold.columns) & set(BOOKKEEPING), "the fold's columns may not be named count or last_seen"
    described = json.loads(json.dumps(describe(score)))
    assert described["kind"] == "custom" or restore(described) == score, "describe and restore give another score"


def _measured(score: ScoreLike, observation: Mapping[str, Any], batch: int) -> Any:
    """The measured values, after checks that a second call gives the same ones and that no input has changed."""
    with ScoreStore.create(None, 1, [score]) as store:
        before = {name: np.array(value) for name, value in observation.items() if isinstance(value, np.ndarray)}
        first, second = (store.session.measure(**observation)[score.name] for _ in range(2))
        assert tuple(first.shape) == (batch,), f"measure gives {tuple(first.shape)}, not ({batch},): one value a row"
        assert _same(first, second), "measure is not pure: a second call gives other values"
        for name, value in before.items():
            assert _same(value, observation[name]), f"measure changed its input {name!r}"
    return first


def _check_batches(score: ScoreLike, rows: Sequence[np.ndarray], values: Sequence[Any], n: int) -> None:
    whole, single = (ScoreStore.create(None, n, [score]) for _ in range(2))
    with whole, single:
        assert np.isnan(whole[score.name]).all(), "a row never observed must read as NaN"
        for epoch, (r, v) in enumerate(zip(rows, values, strict=True)):
            before = whole[score.name].copy()
            whole.fold(score.name, r, v, epoch=epoch)
            others = ~np.isin(np.arange(n), r)
            assert _same(before[others], whole[score.name][others]), "a fold changed rows that it was not given"
            for i in range(len(r)):
                single.fold(score.name, r[i : i + 1], v[i : i + 1], epoch=epoch)
        scores = whole[score.name]
        assert scores.dtype == np.float32, f"read gives {scores.dtype}, not float32"
        assert scores.shape == (n,), f"read gives {scores.shape}, not ({n},)"
        assert _same(scores, single[score.name]), "a batch must fold as its samples do one by one, duplicates in order"
        count = np.bincount(np.concatenate(rows), minlength=n)
        assert _same(whole.count(score.name), count.astype(np.uint32)), "count must be the number of observations"
        seen = [max([e for e, r in enumerate(rows) if row in r], default=-1) for row in range(n)]
        assert whole.last_seen(score.name).tolist() == seen, "last_seen must be the epoch of the last observation"
        assert _same(np.isnan(scores), count == 0), "a score must be NaN exactly where never observed"
        assert _same(whole.values(score.name, slice(1, n - 1)), scores[1 : n - 1]), "reading a slice differs"


def _check_kept(score: ScoreLike, rows: Sequence[np.ndarray], values: Sequence[Any], n: int) -> None:
    """Check that neither a commit between updates nor the beginning of a new run changes a score."""
    with ScoreStore.create(None, n, [score]) as store:
        half = len(rows) // 2
        for r, v in zip(rows[:half], values[:half], strict=True):
            store.fold(score.name, r, v)
        store.commit()
        again = ScoreStore.open(store.path, mode="r", scores=[score])
        assert _same(again[score.name], store[score.name]), "a score read back from disk differs"
        before = store[score.name].copy()
        store.begin_run("another run")
        assert _same(before, store[score.name]), "begin_run must leave every score as it is"
        for r, v in zip(rows[half:], values[half:], strict=True):
            store.fold(score.name, r, v)
        store.commit()
        again = ScoreStore.open(store.path, mode="r", scores=[score])
        assert _same(again[score.name], store[score.name]), "a score read back from disk differs after a new run"


def check_policy(
    policy: Policy, store: ScoreStore, *, epochs: Sequence[int] = (0, 3), seeds: Sequence[int] = (0, 7)
) -> None:
    """Check a policy on the scores of `store`: is it pure, are its plans valid and restorable? Raises AssertionError."""
    assert isinstance(policy, Policy), f"{policy!r} has no plan method"
    described = describe_policy(policy)
    assert json.loads(json.dumps(described)) == described, "a policy's fields must be JSON data, or arrays"
    before = [(name, store[name].tobytes(), store.count(name).tobytes()) for name in store.names]
    generator = np.random.get_state()  # noqa: NPY002 - read only, to check that it is left alone
    for epoch in epochs:
        for seed in seeds:
            plan = policy.plan(store, epoch=epoch, seed=seed)
            again = policy.plan(store, epoch=epoch, seed=seed)
            assert plan.id == again.id, "the same scores, epoch and seed must give the same plan"
            _check_plan(plan, len(store))
            assert (plan.epoch, plan.seed) == (epoch, seed), "a plan names the epoch and seed it was made for"
            assert plan.made_from == store.made_from, "a plan names the scores that it was made from"
            assert plan.policy == described, "a plan names its policy; make it with selection.make"
    after = [(name, store[name].tobytes(), store.count(name).tobytes()) for name in store.names]
    assert after == before, "planning changed the scores"
    assert describe_policy(policy) == described, "planning changed the policy"
    ours = np.random.get_state()  # noqa: NPY002 - as above
    assert all(_same(a, b) for a, b in zip(generator, ours, strict=True)), "planning used NumPy's global generator"


def _check_plan(plan: Plan, n: int) -> None:
    rows = plan.rows
    assert plan.n == n, f"a plan of {plan.n} rows for a store of {n}"
    assert plan.num_samples >= 1, "an epoch without samples is none"
    assert ((rows >= 0) & (rows < n)).all(), "a bit beyond the last row is set"
    assert (np.diff(rows) > 0).all(), "rows are not ascending"
    assert len(plan.indices()) == plan.num_samples == int(plan.repeats.sum()), "repeats and length disagree"
    assert (plan.repeats[rows] >= 1).all(), "a row that is kept is visited at least once"
    weights = plan.loss_weights_of(rows)
    assert np.isfinite(weights).all(), "loss weights must be finite"
    assert (weights >= 0).all(), "loss weights must not be negative"
    files = {name: np.frombuffer(data, np.uint8) for name, data in plan.files().items()}
    assert from_files(files, "memory").id == plan.id, "a plan read back from its files differs"


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
    _check_store(make())


def _check_objects(storage: Storage) -> None:
    array = np.arange(5, dtype="<i4")
    storage.put("v1/a/c/0", [b"head", array, b"", array[:0]])
    storage.put("v1/empty", [])
    storage.flush()
    wanted = np.frombuffer(b"head" + array.tobytes(), np.uint8)
    got = storage.get("v1/a/c/0")
    assert got.dtype == np.uint8, f"get gives {got.dtype}, not uint8"
    assert _same(got, wanted), "get does not give the parts that were put, end to end"
    assert storage.get("v1/empty").size == 0, "an object without bytes is an object"
    storage.share("v1/a/c/0", "v2/a/c/0")
    storage.flush()
    storage.delete("v1")
    assert _same(storage.get("v2/a/c/0"), wanted), "a shared object must outlive its source"
    for missing in ("v1/a/c/0", "v1", "never"):
        _refuses(lambda name=missing: storage.get(name), "get of an object that is not there")  # type: ignore[misc]  # mypy: default in a lambda
    _refuses(lambda: storage.share("never", "v3/a"), "share of an object that is not there")
    storage.delete("never")  # deleting what is not there does nothing


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
        assert _same(storage.get("v1/a", start, stop), wanted), f"get({start}, {stop}) does not give these bytes"
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
            assert _same(again["seen"], np.array(wanted, np.float32)), (
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


def _same(a: Any, b: Any) -> bool:
    """Whether two arrays have the same dtype, the same shape and the same bits, so that NaN equals NaN."""
    a, b = np.asarray(a), np.asarray(b)
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
