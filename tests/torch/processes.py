"""Real processes with a gloo process group among them, for tests."""

import contextlib
import multiprocessing
import tempfile
from collections.abc import Callable
from typing import Any

import torch

from adaptive_sampler.testing.processes import process_group

LIMIT = 120  # seconds for an answer, and for the end after it

_context = multiprocessing.get_context("forkserver")


class Failed(Exception):
    """What a rank raised: its type's name and its words."""


def run(ranks: int, act: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`act(rank, *arguments)` in each of `ranks` processes -> what each returned; an exception as `Failed`.

    A rank that ends without an answer is None.
    """
    method = multiprocessing.get_start_method(allow_none=True)
    with tempfile.TemporaryDirectory() as folder:
        pipes = [_context.Pipe(duplex=False) for _ in range(ranks)]
        started = [
            _context.Process(target=_rank, args=(method, act, rank, ranks, f"{folder}/meet", pipes[rank][1], arguments))
            for rank in range(ranks)
        ]
        for process in started:
            process.start()
        for _, end in pipes:
            end.close()  # so that a process that ends without an answer is noticed
        results = [_answer(pipe) for pipe, _ in pipes]  # before the wait: a long answer is only sent while it is read
        for process in started:
            process.join(LIMIT)
            if process.is_alive():
                process.kill()
    return results


def _answer(pipe: Any) -> Any:
    with contextlib.suppress(EOFError):
        if pipe.poll(LIMIT):
            return pipe.recv()
    return None


def _rank(
    method: str | None,
    act: Callable[..., Any],
    rank: int,
    ranks: int,
    meet: str,
    answer: Any,
    arguments: tuple[Any, ...],
) -> None:
    # A loader's workers begin as they do for a user. For the end of those that the server had begun torch waited 5 s each.
    multiprocessing.set_start_method(method, force=True)
    torch.set_num_threads(1)
    with process_group(rank, ranks, meet):
        try:
            answer.send(act(rank, *arguments))
        except Exception as error:
            answer.send(Failed(f"{type(error).__name__}: {error}"))


def succeeded(results: list[Any]) -> list[Any]:
    """The results, if every rank has one."""
    for rank, result in enumerate(results):
        assert not isinstance(result, Failed), f"rank {rank}: {result}"
        assert result is not None, f"rank {rank} ended without an answer"
    return results


def all_failed(results: list[Any], words: str) -> None:
    """Every rank raised, and said `words`."""
    for rank, result in enumerate(results):
        assert isinstance(result, Failed), f"rank {rank} returned {result}"
        assert words in str(result), f"rank {rank}: {result}"
