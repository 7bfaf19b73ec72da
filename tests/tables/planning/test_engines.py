"""Who runs a pass: every share is looked at, what is found is merged, and an error comes out as it is."""

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from adaptive_sampler.errors import InvalidValue

pytest.importorskip("pyarrow", reason="tables are read with PyArrow")

from adaptive_sampler.tables.planning.by_name import engine_of
from adaptive_sampler.tables.planning.engines import TableShare, ThreadsEngine

SHARES = [TableShare(number, ()) for number in range(20)]


def first_times(share, factor):
    return [share.first * factor]


def odd_fails(share):
    if share.first % 2:
        raise InvalidValue(f"share {share.first}")
    return []


def joined(a, b):
    return a + b


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_every_share_is_looked_at_once_and_what_is_found_is_merged(threads):
    found = ThreadsEngine(threads).run(first_times, SHARES, (3,), joined)
    assert sorted(found) == [3 * number for number in range(20)]


def test_of_several_errors_the_first_shares_comes_out_as_it_is():
    with pytest.raises(InvalidValue, match=r"^share 1$"):
        ThreadsEngine(5).run(odd_fails, SHARES, (), joined)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_pass_before_its_last_share():
    looked_at = []

    def task(share):
        looked_at.append(share.first)
        if share.first == 4:  # the main thread waits by then
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)  # so that it reaches the main thread meanwhile
        return [share.first]

    with pytest.raises(KeyboardInterrupt):
        ThreadsEngine(2).run(task, SHARES, (), joined)
    assert len(looked_at) < len(SHARES)


def test_an_engine_that_is_none_is_named():
    with pytest.raises(InvalidValue, match="engine='spark': one of 'arrow'"):
        engine_of("spark")


def test_without_ray_the_extra_that_has_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "adaptive_sampler.tables.planning.ray", raising=False)
    with pytest.raises(ImportError, match=r'engine="ray" needs Ray: pip install "adaptive-sampler\[ray\]"'):
        engine_of("ray")


def test_a_dataset_of_ray_is_sent_to_rays_engine():
    with pytest.raises(InvalidValue, match='plan with engine="ray"'):
        ThreadsEngine().pieces(SimpleNamespace(to_arrow_refs=list))


def test_threads_receive_nothing_from_elsewhere():
    engine = ThreadsEngine()
    for _ in range(2):
        engine.run(first_times, SHARES, (3,), joined)
    assert engine.received == [0, 0]
