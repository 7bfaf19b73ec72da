"""Whatever happened to the files of a store, its plans or an index: what is read is right, or refused by an error of ours.

`python -m benchmarks mutations` does ten thousand of these trials.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from adaptive_sampler.errors import StoreDamaged
from benchmarks.mutating.reading import Reading
from benchmarks.mutating.subjects import SUBJECTS, Subject
from benchmarks.mutating.trial import KINDS, Verdict
from benchmarks.mutating.worker import run

FAILURES = ("WRONG", "RAW", "HUNG")


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_is_read_after_a_mutation_is_right_or_refused(name: str, tmp_path: Path) -> None:
    found = trials(SUBJECTS[name], tmp_path, range(3 * len(KINDS)))
    failures = [str(verdict) for verdict in found if verdict.outcome in FAILURES]
    assert not failures, "\n".join(failures)
    assert {"right", "refused"} <= {verdict.outcome for verdict in found}


# -- a judge that sees no fault would find none: each fault, planted ----------------------------------------------------

SOUND = b'{"a": [1, 22, 333]}'


def make(home: Path) -> None:
    (home / "subject").mkdir()
    (home / "subject/CURRENT").write_bytes(SOUND)


def read_checked(path: Path, home: Path) -> Reading:
    return reading(path, path / "CURRENT", "refused")


def read_unchecked(path: Path, home: Path) -> Reading:
    return reading(path, path / "CURRENT", "believed")


def read_badly(path: Path, home: Path) -> Reading:
    return reading(path, path / "CURRENT", "raw")


def read_for_ever(path: Path, home: Path) -> Reading:
    return reading(path, path / "CURRENT", "for ever")


def read_to_the_death(path: Path, home: Path) -> Reading:
    return reading(path, path / "CURRENT", "deadly")


def reading(path: Path, file: Path, otherwise: str) -> Reading:
    """A reading of one file; `otherwise`: what happens if it is not as it was made."""
    found = Reading()

    def get() -> bytes:
        data = file.read_bytes() if file.is_file() else b""
        if data != SOUND:
            if otherwise == "refused":
                raise StoreDamaged("changed")
            if otherwise == "raw":
                raise ValueError("changed")
            if otherwise == "for ever":
                time.sleep(1000)
            if otherwise == "deadly":
                os.kill(os.getpid(), signal.SIGSEGV)
        return data

    found.item("content", get)
    return found


def do_nothing(path: Path, home: Path) -> None:
    """A step that keeps all as it is."""


def write_beside(path: Path, home: Path) -> None:
    (path.parent / "more").touch()


def trials(subject: Subject, folder: Path, numbers: range, limit: float = 60.0) -> list[Verdict]:
    home = folder / "home"
    home.mkdir()
    subject.make(home)
    return list(run(subject, home, folder / "space", 0, numbers, limit))


@pytest.mark.parametrize(
    ("read", "outcome", "why"),
    [
        (read_checked, "refused", "content: StoreDamaged: changed"),
        (read_unchecked, "WRONG", "content: "),
        (read_badly, "RAW", "content: ValueError: changed"),
    ],
)
def test_a_reader_is_judged_by_what_it_does_with_changed_bytes(read, outcome: str, why: str, tmp_path: Path) -> None:
    (verdict,) = trials(Subject("planted", make, read, {"nothing": do_nothing}), tmp_path, range(1))
    assert (verdict.outcome, verdict.mutation, verdict.of) == (outcome, "a bit flipped", "CURRENT")
    assert why in verdict.why


@pytest.mark.parametrize(
    ("read", "limit", "outcome", "why"),
    [(read_for_ever, 0.5, "HUNG", "no answer within 0.5 s"), (read_to_the_death, 60, "RAW", "exit code -11")],
)
def test_a_reader_that_hangs_or_dies_is_found_and_the_next_trial_runs(
    read, limit: float, outcome: str, why: str, tmp_path: Path
) -> None:
    found = trials(Subject("planted", make, read, {"nothing": do_nothing}), tmp_path, range(2), limit)
    assert [verdict.outcome for verdict in found] == [outcome, outcome]
    assert why in found[1].why
    assert found[1].of == "CURRENT"


def test_a_file_that_appears_beside_the_folder_is_found(tmp_path: Path) -> None:
    (verdict,) = trials(Subject("planted", make, read_checked, {"beside": write_beside}), tmp_path, range(1))
    assert (verdict.outcome, verdict.why) == ("WRONG", "something beside the folder was changed")


def test_trials_are_the_same_in_every_run(tmp_path: Path) -> None:
    subject, home = SUBJECTS["index"], tmp_path / "home"
    home.mkdir()
    subject.make(home)
    one, two = (list(run(subject, home, tmp_path / name, 0, range(4), 60)) for name in "ab")
    assert [(v.did, v.step) for v in one] == [(v.did, v.step) for v in two]
