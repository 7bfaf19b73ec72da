"""One pass over many rows by several threads at once: kernels hold no lock of Python's while they run."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

_MOST = 4  # parts: then memory's rate is the limit, and cores are left to others
_LEAST = 2**20  # rows of a part, in a millisecond or less: a thread takes a tenth of that to begin
_UNIT = 64  # rows, whose bits are one word

Found = TypeVar("Found")


def part_bounds(n: int) -> list[int]:
    """Where the parts of n rows begin, multiples of 64, and n: of as many parts as there are cores, if they have enough rows."""
    number = max(min(_MOST, _cores(), n // _LEAST), 1)
    each = -(-n // (number * _UNIT)) * _UNIT
    return [*(part * each for part in range(number)), n]


def at_once(bounds: list[int], work: Callable[[int, int, int], Found]) -> list[Found]:
    """What `work(part, start, stop)` returns for each part, in their order; each runs in a thread of its own if there are several.

    `work` may be called for a part twice, where no further thread begins; what it writes must then be the same. Raises what a part
    raises, when all have ended.
    """
    parts = [(part, start, stop) for part, (start, stop) in enumerate(pairwise(bounds))]
    if len(parts) == 1:
        return [work(*parts[0])]
    with ThreadPoolExecutor(len(parts) - 1) as others:
        try:
            begun = [others.submit(work, *part) for part in parts[1:]]
        except RuntimeError:  # no thread begins any more: the interpreter ends, or the process may have no more of them
            return [work(*part) for part in parts]
        return [work(*parts[0]), *(each.result() for each in begun)]


def _cores() -> int:
    """Of those that this process may use, where the system says."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1
