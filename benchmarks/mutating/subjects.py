"""What is mutated: a store, its plans, an index of shards; how each is made, read, and gone on with, by public names."""

import io
import json
import os
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import Forgetting, Loss
from adaptive_sampler.selection import Draw, InfoBatch, KeepAll, Prune, RandomPrune
from adaptive_sampler.shards import ShardIndex
from benchmarks.mutating.reading import Reading

N, VERSIONS = 50, 2
VISITS = 40  # that a plan draws: fewer than there are rows, so that it has an array of each kind
KEYS = [f"key {i}" for i in range(N)]


@dataclass(frozen=True)
class Subject:
    """A folder of ours.

    `make(home)` writes it to home/subject, and whatever else `read` and `steps` need beside it. `read(path, home)` reads
    all that a user can of the folder at `path`, a copy. `steps`: ways to go on from it, (path, home) -> None. `part`: the
    folder below it that is mutated, "" for all of it.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path, Path], Reading]
    steps: Mapping[str, Callable[[Path, Path], None]]
    part: str = ""


# -- a store and its plans ------------------------------------------------------------------------------------------------


@contextmanager
def _same_every_time() -> Iterator[None]:
    """Stop the clock, and let identifiers be 1, 2, 3 …: a trial meets the same bytes in every run."""
    numbers = count(1)  # which several threads may ask at once, as a generator may not be
    with (
        mock.patch("time.time", return_value=1_800_000_000.25),
        mock.patch("uuid.uuid4", side_effect=lambda: uuid.UUID(int=next(numbers) << 96)),
    ):
        yield


@_same_every_time()
def make_store(home: Path) -> None:
    """Two versions of two scores with keys and columns, the first pinned, and the plans of five policies."""
    with ScoreStore.create(
        home / "subject", N, _scores(), keys=KEYS, metadata={"of": "a trial"}, columns=_own(N)
    ) as store:
        rng, plans, states = np.random.default_rng(0), [], []
        for epoch in range(VERSIONS):
            store.epoch = epoch
            rows = np.arange(0, N, epoch + 1)
            store.update(rows, logits=rng.normal(size=(len(rows), 3)), labels=rng.integers(0, 3, len(rows)))
            store.commit(f"epoch {epoch}", pin=epoch == 0)
            for policy in _policies():
                sampler = AdaptiveSampler(store, policy, seed=epoch)
                walk = iter(sampler)
                for _ in range(3):
                    next(walk)
                plans.append(sampler.plan.id)
                states.append(sampler.state_dict())
    (home / "plans.json").write_text(json.dumps({"ids": plans, "states": states}))


def read_store(path: Path, home: Path) -> Reading:
    """The head and every version, by every public name."""
    found = Reading()
    for version in (None, *range(VERSIONS + 2)):
        label = "head" if version is None else f"version {version}"
        store = found.tried(label, lambda version=version: ScoreStore.open(path, version=version, mode="r"))
        if store is not None:
            with store:
                _read_version(found, label, store)
    return found


def read_plans(path: Path, home: Path) -> Reading:
    """Every saved plan, and the rest of the epoch of every state that names one."""
    found, known = Reading(), json.loads((home / "plans.json").read_text())
    folder = path / "plans"
    there = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    for version in range(1, VERSIONS + 1):
        label = f"version {version}"
        store = found.tried(label, lambda version=version: ScoreStore.open(path, version=version, mode="r"))
        if store is None:
            continue
        with store:
            for name in dict.fromkeys([*known["ids"], *there] if version == VERSIONS else ()):
                found.item(f"plan {name}", partial(_plan, store, name))
            for state, policy in zip(known["states"], _policies() * VERSIONS, strict=True):
                if state["commit"] == version:
                    found.item(f"the rest of plan {state['plan']}", partial(_rest, store, policy, state))
    return found


def commit_more(path: Path, home: Path) -> None:
    """Open the store to write, fold more, commit."""
    with ScoreStore.open(path) as store:
        _fold_and_commit(store)


def create_again(path: Path, home: Path) -> None:
    """Run the script that made the store once more, as `exist_ok` allows."""
    with ScoreStore.create(path, N, _scores(), keys=KEYS, exist_ok=True) as store:
        _fold_and_commit(store)


def grow_and_commit(path: Path, home: Path) -> None:
    """Append rows with keys, commit."""
    with ScoreStore.open(path) as store:
        store.grow(N + 7, keys=[f"new {i}" for i in range(7)])
        store.columns.update(_own(len(store)))
        _fold_and_commit(store)


def drop_old(path: Path, home: Path) -> None:
    """Open the store to write, drop all versions but the head and the pinned one."""
    with ScoreStore.open(path) as store:
        store.drop_versions(keep=1)


def walk_again(path: Path, home: Path) -> None:
    """Open the store to write, walk an epoch of every policy whose plan is saved already."""
    with ScoreStore.open(path) as store:
        for policy in _policies():
            list(AdaptiveSampler(store, policy, seed=VERSIONS - 1))


def walk_anew(path: Path, home: Path) -> None:
    """Open the store to write, walk an epoch whose plan, of three arrays, is not saved yet."""
    with ScoreStore.open(path) as store:
        list(AdaptiveSampler(store, Draw("loss", VISITS, unbiased=True), seed=VERSIONS))


def _own(n: int) -> dict[str, Any]:
    return {"source": [f"site {i % 3}" for i in range(n)], "tokens": range(n), "checked": [i < 9 for i in range(n)]}


def _scores() -> list[Any]:
    return [Loss(), Forgetting(never_learned="zero")]


def _policies() -> list[Any]:
    return [KeepAll(), Prune(0.5, "loss"), Draw("loss", VISITS, unbiased=True), InfoBatch(epochs=10), RandomPrune(0.5)]


def _fold_and_commit(store: ScoreStore) -> None:
    store.fold("loss", [0, 1, 2], [0.5, 0.25, 0.125], epoch=VERSIONS)
    store.commit("more")


def _read_version(found: Reading, label: str, store: ScoreStore) -> None:
    facts = ("version", "names", "scores", "about", "epoch", "made_from")
    for fact in facts:
        found.item(f"{label}: {fact}", lambda fact=fact: getattr(store, fact))
    found.item(f"{label}: n", lambda: len(store))
    found.item(f"{label}: versions", lambda: [_version(v) for v in store.versions()])
    for name in store.names:
        found.item(f"{label}: a part of {name}", lambda name=name: store.values(name, slice(3, 20)))
        found.item(f"{label}: {name}", lambda name=name: store[name])
        found.item(f"{label}: count of {name}", lambda name=name: store.count(name))
        found.item(f"{label}: last seen of {name}", lambda name=name: store.last_seen(name))
        found.item(f"{label}: observed of {name}", lambda name=name: store.observed(name))
    for name in _own(0):
        found.item(f"{label}: column {name}", lambda name=name: store.columns[name].tolist())
    found.item(f"{label}: keys", lambda: [store.key(row) for row in range(len(store))])
    found.item(f"{label}: rows", lambda: store.rows(KEYS[::-1]))
    found.tried(f"{label}: lengths", lambda: _check_lengths(store))


def _check_lengths(store: ScoreStore) -> None:
    """Raise `AssertionError` unless every column has a value for each row."""
    for name in store.names:
        for column in (store[name], store.count(name), store.last_seen(name)):
            assert column.shape == (len(store),), f"{name}: {column.shape} in a store of {len(store)} rows"


def _version(version: Any) -> list[Any]:
    """A version as `versions` tells it; the time only of those that were not committed in a trial."""
    told = [version.version, version.note, version.pinned, version.observed]
    return [*told, version.time] if version.version <= VERSIONS else told


def _plan(store: ScoreStore, name: str) -> list[Any]:
    plan = store.plan(name)
    about = [plan.id, plan.n, plan.policy, plan.seed, plan.epoch, plan.made_from, plan.num_rows, plan.num_samples]
    return [*about, plan.weighted, plan.rows, plan.repeats, plan.loss_weights, plan.indices()]


def _rest(store: ScoreStore, policy: Any, state: dict[str, Any]) -> list[int]:
    sampler = AdaptiveSampler(store, policy, seed=state["seed"])
    sampler.load_state_dict(state)
    return list(sampler)


# -- an index -----------------------------------------------------------------------------------------------------------------


@_same_every_time()
def make_index(home: Path) -> None:
    """The index of three shards, one of them cut off, which was built of two and grown; and a shard that is not in it."""
    (home / "shards").mkdir()
    for number, samples in enumerate((9, 14, 6, 5)):
        _write_shard(home / f"shards/{number}.tar", number, samples)
    cut = home / "shards/2.tar"
    cut.write_bytes(cut.read_bytes()[:7000])
    for shard in (home / "shards").iterdir():
        os.utime(shard, ns=(10**18, 10**18))
    for shards in (2, 3):
        _build(home / "subject", home, shards)


def read_index(path: Path, home: Path) -> Reading:
    """Everything that the index says of its shards and samples."""
    found = Reading()
    index = found.tried("open", lambda: ShardIndex.open(path))
    if index is None:
        return found
    for fact in ("urls", "stamps", "starts", "damage", "keys", "bytes_per_sample", "overhead"):
        found.item(fact, lambda fact=fact: getattr(index, fact))
    found.item("n", lambda: len(index))
    found.item("some keys", lambda: index.keys_of(5, 12))
    found.item("shards of rows", lambda: index.shard_of(np.arange(len(index))))
    for shard in range(len(index.urls)):
        found.item(f"extents of shard {shard}", lambda shard=shard: _extents(index, shard, 1))
        found.item(f"some extents of shard {shard}", lambda shard=shard: _extents(index, shard, 3))
    return found


def build_again(path: Path, home: Path) -> None:
    """Build the index again over the same shards."""
    _build(path, home, 3)


def build_more(path: Path, home: Path) -> None:
    """Build the index again over one shard more."""
    _build(path, home, 4)


def build_anew(path: Path, home: Path) -> None:
    """Build the index anew, as if none were there."""
    _build(path, home, 3, renumber=True)


def _build(path: Path, home: Path, shards: int, **options: Any) -> None:
    urls = [str(home / f"shards/{number}.tar") for number in range(shards)]
    ShardIndex.build(urls, path, workers=1, handler=lambda error: True, **options)


def _write_shard(path: Path, number: int, samples: int) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for sample in range(samples):
            parts = ("bin", "cls") if sample % 3 else ("bin", "cls", "json")
            for size, part in enumerate(parts, 1):
                info = tarfile.TarInfo(f"s{number}/{sample:03d}.{part}")
                info.size = 100 * size + sample
                archive.addfile(info, io.BytesIO(bytes(info.size)))


def _extents(index: ShardIndex, shard: int, step: int) -> list[Any]:
    rows = np.arange(int(index.starts[shard]), int(index.starts[shard + 1]), step)
    if not len(rows):
        return []
    found = index.extents(shard, rows)
    lengths = {len(found.offset), len(found.stop), len(found.first), len(found.names), len(found.keys)}
    assert lengths == {len(rows)}, f"extents of {len(rows)} rows have the lengths {lengths}"
    return list(found)


STEPS = {"commit": commit_more, "create again": create_again, "grow": grow_and_commit, "drop": drop_old}
STORE = Subject("store", make_store, read_store, STEPS)
WALKS = {"walk again": walk_again, "walk anew": walk_anew, "commit": commit_more, "drop": drop_old}
PLANS = Subject("plans", make_store, read_plans, WALKS, "plans")
BUILDS = {"build again": build_again, "build of more": build_more, "build anew": build_anew}
INDEX = Subject("index", make_index, read_index, BUILDS)
SUBJECTS = {subject.name: subject for subject in (STORE, PLANS, INDEX)}
