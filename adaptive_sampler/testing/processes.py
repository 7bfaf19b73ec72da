"""Runs a function in fresh processes, one or a process group of several, and brings back what each returned."""

import multiprocessing
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

from adaptive_sampler.errors import InvalidValue


def in_processes(ranks: int, timeout: float, act: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`act(rank, *arguments)` in each of `ranks` fresh processes -> what each returned within `timeout` seconds.

    Several processes are a gloo process group of torch.distributed. Raises `InvalidValue` if the arguments cannot be
    pickled, and RuntimeError, with its traceback, for what `act` raised on any rank.
    """
    try:
        pickle.dumps(arguments)
    except Exception as error:
        raise InvalidValue(
            f"{arguments[0]!r} cannot be pickled, and is called in processes of its own: {error}. Use a function at the top of a "
            "module, or a functools.partial of one."
        ) from error
    context, method = _context(), multiprocessing.get_start_method(allow_none=True)
    with tempfile.TemporaryDirectory() as meet:
        pipes = [context.Pipe(duplex=False) for _ in range(ranks)]
        started = [
            context.Process(target=_one, args=(method, rank, ranks, f"{meet}/group", pipes[rank][1], act, arguments))
            for rank in range(ranks)
        ]
        for process in started:
            process.start()
        for _, end in pipes:
            end.close()  # so that a process that ends without a word is noticed
        answers = [_answer(pipe, timeout) for pipe, _ in pipes]
        for process in started:
            process.join(1)  # it has answered, or is to be ended
            process.kill()
    failed = [f"rank {rank}: {said}" for rank, (well, said) in enumerate(answers) if not well]
    if failed:
        raise RuntimeError("\n".join(failed))
    return [said for _, said in answers]


def _context() -> Any:
    """Processes that share nothing with this one."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


def _answer(pipe: Any, timeout: float) -> tuple[bool, Any]:
    try:
        return pipe.recv() if pipe.poll(timeout) else (False, f"no answer within {timeout} s: pass timeout=")
    except EOFError:
        return False, "the process ended without an answer"


def _one(
    method: str | None, rank: int, ranks: int, meet: str, pipe: Any, act: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    multiprocessing.set_start_method(method, force=True)  # a loader's workers begin as they do in the caller's process
    try:
        with process_group(rank, ranks, meet) if ranks > 1 else nullcontext():
            answer = True, act(rank, *arguments)
    except Exception:
        answer = False, traceback.format_exc()
    pipe.send(answer)


@contextmanager
def process_group(rank: int, ranks: int, meet: str) -> Iterator[None]:
    """A gloo process group of torch.distributed, and the environment that goes with it. `meet`: a file that all ranks see."""
    import torch.distributed as dist

    numbers = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": 0}
    numbers["OMP_NUM_THREADS"] = 1
    os.environ |= {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in numbers.items()}
    patience = timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=ranks, timeout=patience)
    try:
        yield
    finally:
        dist.destroy_process_group()
