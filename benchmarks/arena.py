"""Each contestant in a process of its own, told in turn to run: times that noise hits alike, and memory that is its own."""

import importlib
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

Run = Callable[[], Any]


@dataclass(frozen=True)
class Turns:
    """What a contestant needed: the median seconds of a turn, and the largest extra memory of one, in bytes."""

    seconds: float
    memory: int


def compete(contestants: dict[str, tuple[str, tuple[Any, ...]]], rounds: int) -> dict[str, Turns]:
    """Name -> ("module:function", arguments); the function sets up and returns what a turn runs. One warm-up turn each."""
    context = multiprocessing.get_context("spawn")
    players = {name: _Player(context, *how) for name, how in contestants.items()}
    try:
        for player in players.values():
            player.turn()
        found: dict[str, list[tuple[float, int]]] = {name: [] for name in players}
        for _ in range(rounds):
            for name, player in players.items():
                found[name].append(player.turn())
    finally:
        for player in players.values():
            player.stop()
    return {
        name: Turns(statistics.median(s for s, _ in turns), max(m for _, m in turns)) for name, turns in found.items()
    }


class _Player:
    def __init__(self, context: Any, where: str, arguments: Sequence[Any]) -> None:
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_play, args=(other, where, tuple(arguments)), daemon=True)
        self._process.start()
        other.close()
        self._answer()

    def turn(self) -> tuple[float, int]:
        self._pipe.send("go")
        turn: tuple[float, int] = self._answer()
        return turn

    def stop(self) -> None:
        self._process.kill()
        self._process.join()

    def _answer(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _play(pipe: Connection, where: str, arguments: tuple[Any, ...]) -> None:
    module, function = where.split(":")
    try:
        run = getattr(importlib.import_module(module), function)(*arguments)
        pipe.send("ready")
        while True:
            pipe.recv()
            before = reset_peak()
            start = time.perf_counter()
            run()
            seconds = time.perf_counter() - start
            pipe.send((seconds, status("VmHWM") - before))
    except EOFError:
        return
    except Exception as error:
        pipe.send(RuntimeError(f"{where}{arguments}: {type(error).__name__}: {error}"))


def reset_peak() -> int:
    """Let the kernel count the peak anew -> the memory held now, in bytes."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return status("VmRSS")


def status(name: str) -> int:
    """A line of this process's memory account, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))
