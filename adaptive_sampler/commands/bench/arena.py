"""Runs each contestant in a process of its own, and lets the contestants take turns.

Noise on the machine then affects all of them alike, and the memory of a process is that of one contestant.
"""

import contextlib
import importlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from adaptive_sampler.commands.bench.turns import every_turn

Setup = tuple[str, tuple[Any, ...]]  # "module:function" and its arguments
PATIENCE = 150.0  # seconds that one set-up or turn may take before its contestant is out
REHEARSED = 100_000  # rows; from here on a contestant first runs a hundredth, and its figures predict larger sizes
BUDGET = 15.0  # seconds for all timed turns of a contestant, which gets one turn in any case


@dataclass(frozen=True)
class Turns:
    """What a contestant needed. `memory` and `held` are None if the system does not report them."""

    each: tuple[float, ...]  # seconds of its turn in each round, from the first round on
    memory: int | None  # bytes at the peak of a turn, above what the process held after the set-up
    held: int | None  # bytes that the set-up added to the process

    @property
    def seconds(self) -> float:
        """The seconds of the median turn."""
        return statistics.median(self.each)

    def times(self, ours: "Turns") -> float:
        """How many times as long as ours the turns took: the median ratio over the rounds in which both ran.

        Ratios are taken within a round, because a machine that is slow for some seconds slows that round's turns alike.
        """
        return statistics.median(a / b for a, b in zip(self.each, ours.each, strict=False))


@dataclass(frozen=True)
class Out:
    """Why a contestant has no figures."""

    why: str


def compete(
    contestants: Mapping[str, Setup], rounds: int, told: Callable[[str], None] = lambda _: None
) -> dict[str, Turns | Out]:
    """Let the contestants take up to `rounds` timed turns in rotation, after one turn each that warms up.

    `told`: a function that is called with what runs now, as a text.
    """
    with tempfile.TemporaryDirectory(prefix="adaptive-sampler-bench-") as folder:
        players = {name: _Player(setup, folder) for name, setup in contestants.items()}
        try:
            for name, player in players.items():
                told(f"{name}: set up")
                player.ready()
                told(f"{name}: warm-up")
                player.turn()
            for turn in range(1, rounds + 1):
                for name, player in players.items():
                    if player.may_go_on():
                        told(f"{name}: turn {turn} of {rounds}")
                        player.turn()
        finally:
            for player in players.values():
                player.stop()
    return {name: player.result() for name, player in players.items()}


def compete_in_one(contestants: Mapping[str, Setup], turns: int) -> dict[str, Turns | Out]:
    """The same in one process: no memory is measured, and an error of one contestant is raised for all."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        seconds = pool.submit(_in_one, dict(contestants), turns).result()
    return {name: Turns(tuple(each), None, None) for name, each in seconds.items()}


def _in_one(contestants: Mapping[str, Setup], turns: int) -> dict[str, list[float]]:
    return every_turn({name: _set_up(where)(*arguments) for name, (where, arguments) in contestants.items()}, turns)


class _Player:
    """A contestant's process, seen from the parent process."""

    def __init__(self, setup: Setup, folder: str) -> None:
        context = _context()
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_play, args=(other, *setup, folder), daemon=True)
        self._process.start()
        other.close()
        self._out: str | None = None
        self._held: int | None = None
        self._turns: list[tuple[float, int | None]] = []

    def ready(self) -> None:
        self._held = self._answer()

    def turn(self) -> None:
        if self._out is None:
            self._pipe.send("go")
            answer = self._answer()
            if answer:
                self._turns.append(answer)

    def may_go_on(self) -> bool:
        """Whether the next turn fits into the budget if it takes as long as the last one."""
        if self._out is not None:
            return False
        return len(self._turns) == 1 or len(self._turns) * self._turns[-1][0] < BUDGET

    def result(self) -> Turns | Out:
        if self._out is not None:
            return Out(self._out)
        known = [memory for _, memory in self._turns if memory is not None]
        return Turns(tuple(seconds for seconds, _ in self._turns[1:]), max(known) if known else None, self._held)

    def stop(self) -> None:
        self._process.kill()
        self._process.join()

    def _answer(self) -> Any:
        try:
            if not self._pipe.poll(PATIENCE):
                raise TimeoutError
            answer = self._pipe.recv()
        except TimeoutError:
            answer = f"stopped after {PATIENCE:.0f} s"
        except (EOFError, OSError):
            answer = "its process ended: killed, perhaps for want of memory"
        if isinstance(answer, str):
            self._out = answer
            self._process.kill()
            return None
        return answer


def _context() -> Any:
    """The multiprocessing context that makes fresh processes.

    On Linux they are forks of a server that has imported torch and Numba and run nothing else, which saves a second for each.
    """
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    # A torch that is missing is ignored.
    context.set_forkserver_preload(["adaptive_sampler.sampler", "numba", "torch.utils.data"])
    return context


def _play(pipe: Connection, where: str, arguments: tuple[Any, ...], folder: str) -> None:
    """Runs in a contestant's process: set up, then a turn per message. An answer of type str says why it is out."""
    _be_silent()
    tempfile.tempdir = folder
    try:
        set_up = _set_up(where)
        if arguments[0] >= REHEARSED:
            set_up(REHEARSED // 100, *arguments[1:])()  # so that code that is imported late does not count as memory
        before = status("VmRSS")
        run = set_up(*arguments)
        held = status("VmRSS")
        pipe.send(_more(held, before))
        while True:
            pipe.recv()
            reset_peak()
            start = time.perf_counter()
            told = run()
            seconds = told if type(told) is float else time.perf_counter() - start
            pipe.send((seconds, _more(status("VmHWM"), held)))
    except EOFError:
        return
    except BaseException as error:  # SystemExit too: the contestant is out, and the parent is told why
        pipe.send(": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]]))


def _set_up(where: str) -> Callable[..., Any]:
    module, function = where.split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _be_silent() -> None:
    """Silence the output of contestants, which would break the progress display. Errors go through the pipe."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)


def _more(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else max(0, now - before)


def reset_peak() -> None:
    """Let the system record the peak of this process's memory anew, if it can (on Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def status(name: str) -> int | None:
    """An entry of /proc/self/status, such as VmRSS, in bytes; None if there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
