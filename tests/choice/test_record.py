"""The file of trainings: a choice that is stopped goes on, and a file that is another one is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler.choice import Choice, choose
from adaptive_sampler.errors import InvalidValue, ResumeError, StoreDamaged, StoreLocked
from adaptive_sampler.selection import Prune, RandomPrune
from tests.choice.simulated import CANDIDATES, training


class Counted:
    """A training that counts its calls, and stops at the one after `most`."""

    def __init__(self, most: int = 10**6) -> None:
        self.calls, self.most, self.train = 0, most, training(0, gain=5)

    def __call__(self, candidate: int, seed: int, share: float) -> float:
        if self.calls == self.most:
            raise KeyboardInterrupt
        self.calls += 1
        return self.train(candidate, seed, share)


def content(found: Choice) -> tuple[Any, ...]:
    return found.name, found.differences, found.figures, found.out


ALL = 52  # trainings: 7 candidates and 4 on two seeds, 3 arms on ten


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trainings.jsonl"


@pytest.mark.parametrize("stopped", [0, 1, 13, 14, 22, 51])
def test_a_choice_that_was_stopped_goes_on_as_if_it_had_not_been(path: Path, stopped: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        choose(CANDIDATES, Counted(stopped), path=path)
    rest = Counted()
    assert content(choose(CANDIDATES, rest, path=path)) == content(choose(CANDIDATES, Counted()))
    assert rest.calls == ALL - stopped


def test_a_finished_choice_is_read_from_its_file_without_training(path: Path) -> None:
    first = choose(CANDIDATES, Counted(), path=path)
    assert content(choose(CANDIDATES, Counted(0), path=str(path))) == content(first)


def test_a_killed_process_has_kept_every_training_that_it_finished(path: Path) -> None:
    command = [sys.executable, "-m", "tests.choice.killed", str(path), "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout
        assert process.stdout.readline() == b"waits\n"
        with pytest.raises(StoreLocked, match="another process writes its trainings"):
            choose(CANDIDATES, Counted(), path=path)
        process.kill()
    rest = Counted()
    choose(CANDIDATES, rest, path=path)
    assert rest.calls == ALL - 20


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_line_that_a_kill_cut_off_is_trained_again(path: Path, cut: int) -> None:
    whole = choose(CANDIDATES, Counted(), path=path)
    path.write_bytes(path.read_bytes()[:-cut])
    rest = Counted()
    assert content(choose(CANDIDATES, rest, path=path)) == content(whole)
    assert rest.calls == 1
    assert all(map(json.loads, path.read_text().splitlines()))


@pytest.mark.parametrize("left", [0, 1, 30])
def test_a_first_line_that_a_kill_cut_off_is_written_anew(path: Path, left: int) -> None:
    choose(CANDIDATES, Counted(), path=path)
    path.write_bytes(path.read_bytes()[:left])
    assert choose(CANDIDATES, Counted(), path=path).name == "candidate 3"


def test_a_failed_training_stays_failed_until_its_line_is_taken_out(path: Path) -> None:
    def failing(candidate: int, seed: int, share: float) -> float:
        if candidate == 5:
            raise OSError("disk full")
        return Counted()(candidate, seed, share)

    first = choose(CANDIDATES, failing, path=path)
    assert choose(CANDIDATES, Counted(0), path=path).out == first.out == {"candidate 5": first.out["candidate 5"]}
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"error"' not in line))
    assert not choose(CANDIDATES, Counted(), path=path).out


def test_a_failed_baseline_is_trained_again(path: Path) -> None:
    with pytest.raises(InvalidValue, match="the baseline"):
        choose({"random": 0, "a": 3}, lambda c, seed, share: float("nan"), path=path)
    assert choose({"random": 0, "a": 3}, Counted(), path=path).name == "a"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seeds": 9}, "seeds: 10 there, 9 here"),
        ({"better": "lower"}, "better: higher there, lower here"),
        ({"finalists": 1}, "rounds: "),
        ({"baseline": "candidate 1"}, "baseline: random there, candidate 1 here"),
    ],
)
def test_another_arrangement_in_the_same_file_is_refused_by_name(path: Path, changed: Any, words: str) -> None:
    choose(CANDIDATES, Counted(), path=path)
    before = path.read_bytes()
    with pytest.raises(ResumeError, match=words):
        choose(CANDIDATES, Counted(), path=path, **changed)
    assert path.read_bytes() == before


def test_another_policy_of_the_same_name_is_refused(path: Path) -> None:
    def train(policy: Any, seed: int, share: float) -> float:
        return seed * policy.keep

    choose({"random": RandomPrune(0.5), "hard": Prune(0.5, "el2n")}, train, path=path)
    with pytest.raises(ResumeError, match=r"candidate hard: .*el2n.* there, .*margin.* here"):
        choose({"random": RandomPrune(0.5), "hard": Prune(0.5, "margin")}, train, path=path)


class Undescribed:
    """A policy whose arguments nobody can read."""

    __slots__ = ("keep",)

    def plan(self, store: Any, *, epoch: int, seed: int) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (object(), "which a plan cannot name"),
        (Undescribed(), "Undescribed has slots, so that its arguments are unknown"),
        (float("inf"), "Out of range float"),
    ],
)
def test_a_candidate_that_a_file_cannot_name_is_refused(path: Path, candidate: Any, why: str) -> None:
    with pytest.raises(InvalidValue, match=f"candidate 'a' cannot be named in a file of trainings: .*{why}"):
        choose({"random": 0, "a": candidate}, Counted(), path=path)


def test_numbers_of_numpy_are_the_same_arrangement(path: Path) -> None:
    found = choose(CANDIDATES, Counted(), seeds=10, finalists=2, path=path)
    again = choose(CANDIDATES, Counted(0), seeds=np.int64(10), finalists=np.int64(2), path=path)
    assert content(again) == content(found)


def test_an_empty_path_is_a_path_and_not_no_file() -> None:
    with pytest.raises(IsADirectoryError):
        choose(CANDIDATES, Counted(0), path="")


@pytest.mark.parametrize("text", ["a diary", "{}\n", '{"format": 1}\n', '[1]\n{"a": 1}\n', "\x00" * 99])
def test_a_file_that_is_something_else_is_refused_and_left_alone(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(StoreDamaged, match=r"trainings\.jsonl, line 1, is no line that choose writes"):
        choose(CANDIDATES, Counted(), path=path)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"candidate": "a", "seed": 0}',
        '{"candidate": "a", "seed": 0, "share": 1.0, "figure": NaN}',
        '{"candidate": "a", "seed": "x", "share": 1.0, "figure": 1.0}',
    ],
)
def test_a_damaged_line_is_named(path: Path, line: str) -> None:
    choose(CANDIDATES, Counted(), path=path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], line, *lines[3:], ""]))
    with pytest.raises(StoreDamaged, match="line 4, is no line"):
        choose(CANDIDATES, Counted(), path=path)
