"""Shards are opened and ranges read ahead, across shards, in order, and never more at a time than was said."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import pytest

from adaptive_sampler.shards.reading.flight import Due, Flight


@dataclass
class Tower:
    """Counts what is under way; reads and openings take `seconds`."""

    seconds: float = 0.001
    parallel: int = 4
    under_way: int = 0
    most: int = 0
    opened: list[int] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def takes(self, what: Any) -> Any:
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        time.sleep(self.seconds)
        with self.lock:
            self.under_way -= 1
        if isinstance(what, Exception):
            raise what
        return what


@dataclass
class Job:
    """A shard of `reads` ranges of `size` bytes; one that is not remote has no threads."""

    tower: Tower
    number: int
    reads: int = 3
    size: int = 10
    remote: bool = True
    broken: bool = False

    def first(self) -> Callable[[], Any] | None:
        return self._open if self.remote else None

    def _open(self) -> Any:
        self.tower.opened.append(self.number)
        return self.tower.takes(OSError("gone") if self.broken else self.tower)

    def rest(self, opened: Any) -> Iterator[Due[Any]]:
        if isinstance(opened, Exception) or opened is None:
            yield Due(lambda _: iter([(self.number, str(opened))]))
            return
        for nth in range(self.reads):
            yield Due(lambda read: iter([read.outcome()]), partial(self.tower.takes, (self.number, nth)), self.size)


def flight(jobs: list[Job], threads: int = 64, most: int = 10**6) -> Iterator[Any]:
    return iter(Flight(iter(jobs), threads, most))


def test_everything_comes_in_order() -> None:
    tower = Tower()
    assert list(flight([Job(tower, n) for n in range(20)])) == [(n, k) for n in range(20) for k in range(3)]


def test_what_is_not_remote_and_what_does_not_open_keep_their_turn() -> None:
    tower = Tower()
    jobs = [Job(tower, 0, 1), Job(tower, 1, remote=False), Job(tower, 2, broken=True), Job(tower, 3, 1)]
    assert list(flight(jobs)) == [(0, 0), (1, "None"), (2, "gone"), (3, 0)]


def test_an_error_comes_in_its_turn_too() -> None:
    tower, error = Tower(), OSError("cut")
    job = Job(tower, 0, 2)
    job.rest = lambda opened: iter(  # type: ignore[method-assign]
        [Due(lambda read: iter([read.outcome()]), partial(tower.takes, what), 1) for what in ("a", error, "b")]
    )
    assert list(flight([job])) == ["a", error, "b"]


def test_no_more_is_under_way_than_the_source_asks_for_and_the_openings() -> None:
    tower = Tower(parallel=3)
    list(flight([Job(tower, 0, 60)]))
    assert 2 <= tower.most <= 4


def test_while_one_range_is_late_threads_go_on_with_those_behind_it() -> None:
    tower, others = Tower(parallel=3), threading.Semaphore(0)
    job = Job(tower, 0)

    def late() -> bool:
        return all(others.acquire(timeout=10) for _ in range(6))

    job.rest = lambda opened: iter(  # type: ignore[method-assign]
        [Due(lambda read: iter([read.outcome()]), work, 1) for work in (late, *[others.release] * 7)]
    )
    assert next(flight([job])) is True


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_bound_what_is_under_way(threads: int) -> None:
    tower = Tower(parallel=50)
    assert len(list(flight([Job(tower, n, 10) for n in range(4)], threads))) == 40
    assert tower.most <= threads


def test_bytes_bound_what_is_under_way() -> None:
    tower = Tower(parallel=50, seconds=0.002)
    list(flight([Job(tower, 0, 60, size=10)], most=25))
    assert tower.most <= 3


def test_a_range_larger_than_the_bound_is_read_alone() -> None:
    tower = Tower(parallel=50)
    assert len(list(flight([Job(tower, 0, 5, size=100)], most=10))) == 5
    assert tower.most == 1


def test_the_next_shards_are_opened_and_read_while_one_is_taken() -> None:
    tower = Tower(parallel=8)
    coming = flight([Job(tower, n, 1) for n in range(100)])
    next(coming)
    time.sleep(0.05)
    assert 4 <= len(tower.opened) <= 30, "ahead, but not all of an epoch"
    coming.close()  # type: ignore[attr-defined]


def test_threads_end_with_the_iteration_though_it_is_left_early() -> None:
    before = threading.active_count()
    coming = flight([Job(Tower(), n) for n in range(50)])
    assert len(list(islice(coming, 2))) == 2
    coming.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
