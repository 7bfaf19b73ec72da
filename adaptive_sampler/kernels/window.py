"""The order in which a stream of samples leaves a shuffling buffer."""

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel
from adaptive_sampler.kernels.splitmix import number


@kernel
def window_order(n: int, window: int, key: np.uint64) -> NDArray[np.int64]:
    """(n,) the order in which a stream of n leaves a shuffling buffer of `window`: order[k] < k + window.

    `key` is the uint64 address of the random stream.
    """
    order = np.empty(n, np.int64)
    held = np.arange(min(window, n))
    for out in range(n):
        left = min(window, n - out)
        bits = number(key, out + 1)
        pick = np.int64(np.float64(bits >> np.uint64(11)) * (1.0 / 9007199254740992.0) * left)
        order[out] = held[pick]
        if out + window < n:
            held[pick] = out + window
        else:
            held[pick] = held[left - 1]
    return order
