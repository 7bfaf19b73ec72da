"""Threads that work ahead, and that nobody waits for once the rest is no longer wanted."""

import threading
import time

import pytest

from adaptive_sampler.shards.sources.base import Retry
from adaptive_sampler.shards.sources.crew import Crew


def test_results_and_errors_come_from_threads() -> None:
    with Crew(2) as crew:
        tasks = [crew.give(lambda n=n: 6 // n) for n in (3, 0, 2)]
        assert tasks[0].outcome() == 2
        assert isinstance(tasks[1].outcome(), ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            tasks[1].result()
        assert tasks[2].result() == 3


def test_an_error_that_work_returns_is_a_result() -> None:
    error = ValueError("found")
    with Crew(1) as crew:
        assert crew.give(lambda: error).result() is error


def test_what_stops_a_process_stops_whoever_takes_it_too() -> None:
    def panic() -> None:
        raise SystemExit

    with Crew(1) as crew, pytest.raises(SystemExit):
        crew.give(panic).outcome()


@pytest.mark.parametrize("given", [0, 1])
def test_where_the_system_gives_no_more_threads_all_is_done_by_those_that_there_are(
    given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, left = threading.Thread.start, [None] * given

    def scarce(thread: threading.Thread) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    with Crew(8) as crew:
        tasks = [crew.give(lambda n=n: 6 // n) for n in (3, 0, 2)]
        assert (tasks[0].result(), tasks[2].result()) == (2, 3)
        assert isinstance(tasks[1].outcome(), ZeroDivisionError)


def test_no_more_threads_begin_than_are_needed() -> None:
    before = threading.active_count()
    with Crew(8) as crew:
        for n in range(20):
            assert crew.give(lambda n=n: n).result() == n
            time.sleep(0.001)
        assert threading.active_count() - before < 8
    assert threading.active_count() == before


def test_who_leaves_drops_what_has_not_begun_and_tries_nothing_again() -> None:
    tries, began = list[int](), threading.Event()

    def failing() -> None:
        began.set()
        tries.append(1)
        raise OSError("cut")

    with Crew(1) as crew:
        crew.give(lambda: Retry(10, 30.0).call(failing, lambda error: 0.0))
        dropped = crew.give(lambda: tries.append(2))
        began.wait()
    assert tries == [1]
    assert not dropped.done()
