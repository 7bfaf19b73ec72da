"""What is measured of a server decides how far a gap may be, and how many requests are under way."""

import pytest

from adaptive_sampler.shards.sources import pace as pace_module
from adaptive_sampler.shards.sources.pace import WIDE, Pace


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1e5

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """In place of the time that passes."""
    clock = Clock()
    monkeypatch.setattr(pace_module, "time", clock)
    return clock


def noted(waited: float, lasted: float = 0.0, size: int = 1) -> Pace:
    pace = Pace()
    pace.note(waited, lasted, size)
    return pace


# -- gaps ---------------------------------------------------------------------------------------------------------------


def test_alone_a_gap_is_what_comes_in_the_time_of_an_answer() -> None:
    pace = noted(0.01, 0.02, 1_000_000)
    assert pace.lone_gap == pytest.approx(0.01 * 50e6, rel=0.01)


def test_among_many_a_gap_is_what_comes_while_a_request_is_worked_on() -> None:
    assert noted(0.01, 0.001, 1_000_000).gap == pytest.approx(1e9 * 100e-6, rel=0.01)


def test_the_latency_that_many_share_counts_where_it_is_more_than_the_work() -> None:
    assert noted(0.1, 0.001, 1_000_000).gap == pytest.approx(1e9 * 0.1 / WIDE, rel=0.01)


def test_gaps_have_bounds() -> None:
    fast, slow = noted(1e-7), noted(60.0)
    assert (fast.lone_gap, slow.lone_gap) == (16 << 10, 8 << 20)
    assert (noted(0.01, 1.0, 1_000_000).gap, noted(60.0, 1e-3, 1_000_000).gap) == (16 << 10, 8 << 20)


def test_a_small_body_shows_no_rate() -> None:
    assert noted(0.001, 1e-9, 2048).gap == Pace().gap == 50_000


# -- what slow answers say ----------------------------------------------------------------------------------------------


def test_an_answer_that_waited_for_others_hardly_counts(clock: Clock) -> None:
    pace = noted(0.001)
    pace.note(1.0, 0.0, 1)
    assert pace.latency == pytest.approx(0.001)


def test_a_body_that_came_among_others_hardly_counts(clock: Clock) -> None:
    pace = noted(0.001, 0.001, 1_000_000)
    pace.note(0.001, 0.1, 1_000_000)
    assert pace.rate == pytest.approx(1e9)


def test_a_body_that_came_with_its_headers_took_the_time_of_both(clock: Clock) -> None:
    pace = noted(0.001, 0.1, 1_000_000)
    pace.note(0.003, 1e-6, 1_000_000)
    assert pace.rate == pytest.approx(1_000_000 / 0.002001)


def test_what_was_quick_is_forgotten_when_all_is_slow_for_long(clock: Clock) -> None:
    pace = noted(0.001, 0.001, 1_000_000)
    for _ in range(600):
        clock.now += 0.1
        pace.note(0.02, 0.01, 1_000_000)
    assert pace.latency == pytest.approx(0.02)
    assert pace.rate == pytest.approx(1e8)


def test_after_a_long_pause_the_first_answer_is_believed(clock: Clock) -> None:
    pace = noted(0.001, 0.001, 1_000_000)
    clock.now += 1e6
    pace.note(0.02, 0.01, 1_000_000)
    assert (pace.latency, pace.rate) == (0.02, pytest.approx(1e8))


# -- how many requests --------------------------------------------------------------------------------------------------


def test_the_longer_answers_wait_the_more_requests_are_under_way() -> None:
    assert (noted(0.0003).width, noted(0.002).width, noted(0.02).width) == (8, 40, 400)


def test_a_thread_reads_several_ranges_of_a_near_server_before_it_hands_them_over() -> None:
    assert Pace().together == 1, "nothing is known of it yet"
    assert [noted(seconds).together for seconds in (0.0001, 0.0005, 0.02)] == [16, 4, 1]


def test_requests_that_wait_for_each_other_do_not_ask_for_more_and_more(clock: Clock) -> None:
    pace = noted(0.001)
    for _ in range(2000):
        clock.now += 0.0001
        pace.note(0.001 + pace.width * 100e-6, 0.0, 1)  # a server with 1 ms, and 0.1 ms of work for each
    assert pace.width <= 21
