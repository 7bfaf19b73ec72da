"""SplitMix64, the random numbers of all kernels: the i-th number of a sequence, for any i by itself.

Orders, draws and ties are made of these numbers, so they are part of the format: no change here may change one of them.
"""

from typing import Any

import numpy as np

from adaptive_sampler.kernels.jit import kernel

_ALL = (1 << 64) - 1


def _number(start: Any, i: Any) -> Any:
    """Of two uint64 where compiled, where LLVM leaves out the masks; of two ints in Python, whose products never wrap."""
    x = (start + i * 0x9E3779B97F4A7C15) & _ALL
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _ALL
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _ALL
    return x ^ (x >> 31)


_compiled = kernel(_number)


@kernel
def number(start: Any, i: Any) -> Any:
    """The i-th number, a uint64, of the sequence that starts at `start`, a uint64."""
    return _compiled(np.uint64(start), np.uint64(i))


def python_number(start: int, i: int) -> np.uint64:
    """`number` where no kernel runs."""
    return np.uint64(_number(int(start), i))


def stream(key: int, use: int) -> np.uint64:
    """Where the sequence for one use (0, 1, …) of a 64-bit key starts."""
    return python_number(key, use + 1)
