"""A process that is killed amid a commit, a drop or a sweep, before each of the calls that change the disk."""

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.storage import local

CALLS = ("replace", "link", "mkdir", "unlink", "rmdir", "fsync", "truncate")  # of os: each changes what is on the disk


def commit(store: ScoreStore) -> None:
    store.fold("loss", np.arange(5), np.full(5, 3.0))
    store.columns["of"] = ["3"] * 5
    store.commit()


def drop(store: ScoreStore) -> None:
    store.drop_versions(keep=1)


def commit_and_drop(store: ScoreStore) -> None:
    store.fold("loss", np.arange(5), np.full(5, 3.0))
    store.commit(keep=1)


def drop_on_a_full_disk(store: ScoreStore) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    local.write_whole = refuse
    store.drop_versions(keep=1)


def killed_before(call: int, path: Path, work: Callable[[ScoreStore], None]) -> bool:
    """Whether a child that does the `work` came to that many calls, and so was killed."""
    child = os.fork()
    if child == 0:
        seen = 0

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def run(*arguments: Any, **named: Any) -> Any:
                nonlocal seen
                if seen == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1
                return function(*arguments, **named)

            return run

        try:
            store = ScoreStore.open(path)
            for name in CALLS:
                setattr(os, name, counted(getattr(os, name)))
            work(store)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Versions 1 and 2, in which scores and columns are 1 and 2, each with a plan that was made from it, and leftovers."""
    with ScoreStore.create(tmp_path / "sound", 5, [Loss()]) as store:
        for value in (1, 2):
            store.columns["of"] = [str(value)] * 5
            store.fold("loss", np.arange(5), np.full(5, value))
            store.commit()
            list(AdaptiveSampler(store, Prune(0.5, "loss")))
    for leftover in ("v3/loss/value/c/0", "manifests/3.json", "CURRENT.1a2b3c4d.partial"):
        (tmp_path / "sound" / leftover).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sound" / leftover).write_bytes(b"left")
    return tmp_path / "sound"


@pytest.mark.parametrize("work", [commit, drop, commit_and_drop, drop_on_a_full_disk])
def test_killed_before_any_call_it_leaves_whole_versions_and_nothing_that_is_in_the_way(
    sound: Path, tmp_path: Path, work: Callable[[ScoreStore], None]
) -> None:
    calls = 0
    while killed_before(calls, shutil.copytree(sound, tmp_path / f"s{calls}"), work):
        with ScoreStore.open(tmp_path / f"s{calls}") as store:
            numbers = [v.version for v in store.versions()]
            assert numbers in ([1, 2], [2], [1, 2, 3], [3])
            assert (store["loss"] == numbers[-1]).all()
            for number in numbers:
                with ScoreStore.open(store.path, version=number, mode="r") as version:
                    assert (version["loss"] == number).all()
                    assert (
                        version.columns["of"] == ("3" if number == 3 and work is commit else str(min(number, 2)))
                    ).all()
            store.commit(keep=1)
        left = {entry.name for entry in store.path.iterdir()}
        assert left <= {"CURRENT", "LOCK", "RESERVE", "manifests", "plans", f"v{store.version}"}
        calls += 1
    assert calls >= 10
