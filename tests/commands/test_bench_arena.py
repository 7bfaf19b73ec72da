"""The arena gives each contestant a process of its own, and the benchmark says why it leaves one out."""

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rich")

from adaptive_sampler.commands.bench import arena
from adaptive_sampler.commands.bench.arena import Out, Turns, compete, compete_in_one
from adaptive_sampler.commands.bench.base import Case, Contestant
from adaptive_sampler.commands.bench.contest import Contests
from tests.commands.contestants import ABSENT, HERE

# -- the arena --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> dict[str, Turns | Out]:
    """One contest of many kinds of contestants."""
    return compete(
        {
            "short": (f"{HERE}:naps", (1, 0.001)),
            "long": (f"{HERE}:naps", (1, 0.02)),
            "large": (f"{HERE}:holds", (1, 64)),
            "keeps": (f"{HERE}:Keeps", (1,)),
            "fails": (f"{HERE}:fails", (1,)),
            "fails later": (f"{HERE}:fails_later", (1,)),
            "dies": (f"{HERE}:dies", (1,)),
        },
        rounds=3,
    )


def test_a_contestant_has_its_own_seconds(found: dict[str, Any]) -> None:
    assert found["long"].seconds > found["short"].seconds >= 0.001
    assert len(found["long"].each) == len(found["short"].each) == 3


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of a turn")
def test_a_contestant_has_its_own_memory(found: dict[str, Any]) -> None:
    assert 60 << 20 < found["large"].memory < 80 << 20
    assert found["short"].memory < 8 << 20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of a turn")
def test_what_a_turn_leaves_behind_counts_as_its_memory(found: dict[str, Any]) -> None:
    assert 60 << 20 < found["keeps"].memory < 80 << 20


def test_one_that_raises_is_out_with_the_first_line_of_its_error(found: dict[str, Any]) -> None:
    assert found["fails"] == Out("ValueError: cannot exceed 1")
    assert found["fails later"] == Out("ValueError: cannot exceed 1")


def test_one_that_dies_is_out_and_the_others_go_on(found: dict[str, Any]) -> None:
    assert found["dies"] == Out("its process ended: killed, perhaps for want of memory")


def test_one_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "PATIENCE", 4.0)
    assert compete({"stuck": (f"{HERE}:naps", (1, 1e6))}, 1) == {"stuck": Out("stopped after 4 s")}


def test_a_slow_contestant_gets_fewer_turns_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "BUDGET", 0.0)
    turns = compete({"slow": (f"{HERE}:naps", (1, 0.01))}, 5)["slow"]
    assert isinstance(turns, Turns)
    assert len(turns.each) == 1


def test_a_ratio_is_the_median_over_the_rounds_that_both_took() -> None:
    ours, theirs = Turns((1.0, 2.0, 1.0, 9.0), 0, 0), Turns((4.0, 6.0, 8.0), 0, 0)  # 4, 3 and 8 times
    assert theirs.times(ours) == 4.0
    assert Turns((4.0,), 0, 0).times(ours) == 4.0


def test_a_turn_may_say_itself_how_long_it_took() -> None:
    turns: Any = compete({"says": (f"{HERE}:says", (1, 5.0))}, 2)["says"]
    assert turns.each == (5.0, 5.0)


def test_in_one_process_each_has_its_own_seconds_and_nobody_memory() -> None:
    found: Any = compete_in_one({"short": (f"{HERE}:naps", (1, 0.001)), "long": (f"{HERE}:naps", (1, 0.02))}, 3)
    assert found["long"].seconds > found["short"].seconds >= 0.001
    assert [(turns.memory, len(turns.each)) for turns in found.values()] == [(None, 3)] * 2


# -- who is left out --------------------------------------------------------------------------------------------------


def contests(*sizes: int, contestant: Contestant, rounds: int = 1) -> list[dict[str, Any]]:
    """The rows of `contestant` at these sizes, against an easy one."""
    ours = Contestant("ours", "numpy:argsort", (0,))
    case, held = Case("sort", (ours, contestant)), Contests(rounds, lambda _: None)
    return [row for n in sizes for row in held.hold(case, n, {}) if row["contestant"] != "ours"]


def test_a_package_that_is_missing_is_named_with_what_installs_it() -> None:
    [row] = contests(1000, contestant=Contestant("theirs", "nobody:runs", (), ABSENT))
    assert (row["s"], row["note"]) == ("", "not installed (pip install no-such-package)")


def test_where_ours_lacks_a_package_nobody_runs() -> None:
    ours = Contestant("ours", "nobody:runs", (), ABSENT)
    rows = Contests(1, lambda _: None).hold(Case("case", (ours, Contestant("other", "numpy:argsort", (0,)))), 1000, {})
    assert [row["s"] for row in rows] == ["", ""]
    assert rows[1]["note"] == "not run: ours needs what is not installed"


def test_a_size_that_would_take_minutes_is_skipped_by_what_a_smaller_one_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive_sampler.commands.bench.contest.TOO_LONG", 1e-9)
    small, large = contests(100_000, 200_000, contestant=Contestant("theirs", "numpy:argsort", (0,)))
    assert small["note"] == ""
    assert re.fullmatch(r"skipped: 0 s a turn, by its \S+ s at n = 100,000", large["note"])


@pytest.mark.parametrize(("grows", "note"), [(True, "skipped: 100 s a turn, by its 10 s at n = 100,000"), (False, "")])
def test_work_that_does_not_grow_is_not_skipped_for_its_size(grows: bool, note: str) -> None:
    theirs = Contestant("theirs", "numpy:argsort", (0,))
    case = Case("sort", (Contestant("ours", "numpy:argsort", (0,)), theirs), grows=grows)
    held = Contests(1, lambda _: None, {(case.name, theirs.name): (100_000, Turns((10.0,), 0, 0))})
    assert held._left_out(case, theirs, 1_000_000) == note


def test_a_size_that_would_need_too_much_memory_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive_sampler.commands.bench.contest.MOST_BYTES", -1)
    _, large = contests(100_000, 200_000, contestant=Contestant("theirs", "numpy:argsort", (0,)))
    assert large["note"] == "skipped: 0 GiB, by what it held at n = 100,000"


def test_a_size_too_small_to_tell_rules_no_larger_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive_sampler.commands.bench.contest.TOO_LONG", 1e-9)
    _, large = contests(1000, 10_000, contestant=Contestant("theirs", "numpy:argsort", (0,)))
    assert large["s"] > 0


def test_the_ratio_says_how_many_times_as_long_as_ours() -> None:
    ours = Contestant("ours", "numpy:argsort", (0,))
    rows = Contests(1, lambda _: None).hold(Case("sort", (ours, Contestant("other", "numpy:argsort", (0,)))), 1000, {})
    assert rows[0]["ratio"] == 1
    assert rows[1]["ratio"] == rows[1]["s"] / rows[0]["s"]  # of one round


def test_where_a_ratio_is_claimed_there_are_three_times_as_many_rounds() -> None:
    ours, other = (Contestant(name, "numpy:argsort", (0,), least=0.1) for name in ("ours", "other"))
    for least_from, rounds in ((1000, 6), (1001, 2)):
        held = Contests(2, lambda _: None).hold(Case("sort", (ours, other), least_from=least_from), 1000, {})
        assert {row["rounds"] for row in held} == {rounds}
