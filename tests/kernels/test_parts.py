"""A pass over many rows is shared out to threads, and finds what one would."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.kernels import parts
from adaptive_sampler.kernels.identity import RowIdentity
from adaptive_sampler.kernels.parts import at_once, part_bounds
from adaptive_sampler.kernels.strata import Strata


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 64 rows or more, on a machine of three cores."""
    monkeypatch.setattr(parts, "_LEAST", 64)
    monkeypatch.setattr(parts, "_cores", lambda: 3)


@given(n=st.integers(0, 10**9), cores=st.integers(1, 200))
def test_the_parts_are_whole_words_that_follow_one_another_to_the_last_row(n, cores):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_cores", lambda: cores)
        bounds = part_bounds(n)
    assert bounds == sorted(bounds)
    assert (bounds[0], bounds[-1]) == (0, n)
    assert all(begin % 64 == 0 for begin in bounds[:-1])


def test_few_rows_are_one_part():
    assert part_bounds(2**20) == [0, 2**20]


@pytest.mark.usefixtures("small_parts")
def test_there_are_no_more_parts_than_cores():
    assert len(part_bounds(10_000)) == 4


def test_what_the_parts_find_comes_in_their_order():
    assert at_once([0, 64, 128, 150], lambda part, start, stop: (part, start, stop)) == [
        (0, 0, 64),
        (1, 64, 128),
        (2, 128, 150),
    ]


def test_each_part_has_a_thread_of_its_own():
    together = threading.Barrier(3, timeout=60)  # passed by three threads that wait for one another
    assert sorted(at_once([0, 64, 128, 192], lambda *_: together.wait())) == [0, 1, 2]


def test_what_a_part_raises_is_raised():
    def work(part, start, stop):
        if part == 1:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        at_once([0, 64, 128], work)


def test_where_no_further_thread_begins_the_caller_does_all_parts(monkeypatch):
    begin, begun = ThreadPoolExecutor.submit, []

    def submit(pool, work, *part):
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(part)
        return begin(pool, work, *part)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    assert at_once([0, 64, 128, 150], lambda part, start, stop: part) == [0, 1, 2]


def test_a_pass_may_come_when_the_interpreter_ends():
    code = """
        import atexit
        from adaptive_sampler.kernels.parts import at_once
        atexit.register(lambda: print(at_once([0, 64, 128], lambda *part: part)))
    """
    ended = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("[(0, 0, 64), (1, 64, 128)]\n", "")


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("hide", [False, True])
@pytest.mark.parametrize("bounds", [[0, 1000], [0, 10, 64, 300, 1000], [0, 640, 1000]])
def test_strata_counted_in_parts_are_those_counted_at_once(bounds, hide, monkeypatch):
    rng = np.random.default_rng(7)
    scores = rng.normal(size=1000).astype(np.float32)
    scores[rng.random(1000) < 0.05] = rng.choice([np.nan, np.inf, -np.inf])
    hidden = np.packbits(rng.random(1000) < 0.2) if hide else None

    def taken():
        found = Strata(scores, np.array(bounds), 5, salt=3, identity=RowIdentity(1000), hidden=hidden)
        return found.counts.tolist(), found.some(found.counts // 3).tolist()

    several = taken()
    monkeypatch.setattr(parts, "_cores", lambda: 1)
    assert several == taken()
