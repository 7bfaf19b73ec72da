"""Runs trials in a process of their own, which is killed and begun again when a trial hangs or the process dies."""

import multiprocessing
import os
import resource
from collections.abc import Iterable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.mutating.subjects import Subject
from benchmarks.mutating.trial import Trials, Verdict

MEMORY = 8 << 30  # bytes that the process may map: beyond it a number from a file that asks for more raises MemoryError
LIMIT = 20.0  # seconds that a trial may take


def run(
    subject: Subject, home: Path, space: Path, seed: int, numbers: Iterable[int], limit: float = LIMIT
) -> Iterator[Verdict]:
    """The verdicts of these trials of a subject, whose folder is in `home`; copies are made in `space`.

    The kinds of mutations take turns by `number`. Raises `RuntimeError` if what nobody mutated is not read.
    """
    trials, child = Trials(subject, home, space, seed), None
    try:
        for number in numbers:
            if child is None or child.ended:
                child = _Child(trials)
            yield child.ask(number, limit)
    finally:
        if child is not None:
            child.end()


class _Child:
    """The process, which waits for numbers of trials. `ended`: whether it is gone."""

    def __init__(self, trials: Trials) -> None:
        self.trials, self.ended = trials, False
        context = multiprocessing.get_context("spawn")  # not a fork: the caller may have threads
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(trials, other), daemon=True)
        self.process.start()
        other.close()
        try:
            assert self.pipe.recv() == "ready"
        except EOFError as error:
            self.end()
            raise RuntimeError(f"{trials.subject.name}: what nobody mutated was not read; see above.") from error

    def ask(self, number: int, limit: float) -> Verdict:
        """The verdict of a trial. If it hangs or ends the process, the process is gone afterwards."""
        verdict = Verdict(number, self.trials.subject.name, "", False, "", "", "")
        try:
            self.pipe.send(number)
            for _ in range(2):  # what was mutated, then the verdict
                if not self.pipe.poll(limit):
                    self.end()
                    return replace(verdict, outcome="HUNG", why=f"no answer within {limit:g} s")
                verdict = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            why = f"the process died, exit code {self.process.exitcode}"
            self.end()
            return replace(verdict, outcome="RAW", why=why)
        return verdict

    def end(self) -> None:
        """End the process; does nothing if it is gone."""
        if self.ended:
            return
        self.ended = True
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()


def _serve(trials: Trials, pipe: Connection) -> None:
    """Answer numbers of trials by their verdicts, until the other end is closed."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    trials = Trials(trials.subject, trials.home, trials.space / str(os.getpid()), trials.seed)
    expected = trials.expected()  # this also compiles the kernels, before any trial is timed
    pipe.send("ready")
    while True:
        try:
            number = pipe.recv()
        except EOFError:
            return
        for verdict in trials.verdicts(number, expected):
            pipe.send(verdict)
