"""Shards' own Numba kernels: the order of a window shuffle, and hashes that find repeated keys."""

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel


@kernel
def window_order(n: int, window: int, key: np.uint64) -> NDArray[np.int64]:
    """(n,) the order in which a stream of n leaves a shuffling buffer of `window`: order[k] < k + window.

    `key` is the uint64 address of the random stream.
    """
    order = np.empty(n, np.int64)
    held = np.arange(min(window, n))
    state = np.uint64(key)
    for out in range(n):
        left = min(window, n - out)
        state += np.uint64(0x9E3779B97F4A7C15)  # splitmix64
        bits = state
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits = bits ^ (bits >> np.uint64(31))
        pick = np.int64(np.float64(bits >> np.uint64(11)) * (1.0 / 9007199254740992.0) * left)
        order[out] = held[pick]
        if out + window < n:
            held[pick] = out + window
        else:
            held[pick] = held[left - 1]
    return order


@kernel
def hash_keys(keys: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """(n,) FNV-1a hashes of the n keys that lie one behind the other in `keys` and end before `ends`."""
    hashes = np.empty(len(ends), np.uint64)
    start = 0
    for i in range(len(ends)):
        value = np.uint64(0xCBF29CE484222325)
        for at in range(start, ends[i]):
            value = (value ^ np.uint64(keys[at])) * np.uint64(0x100000001B3)
        hashes[i] = value
        start = ends[i]
    return hashes


@kernel
def skim(
    data: NDArray[np.uint8], position: int, headers: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[int, int]:
    """Run over plain members of the tar archive `data` from `position`; (members found, position behind the last).

    `headers` and `sizes` receive the byte of each member's header and its body's bytes, at most their length.
    Plain is a sound ustar header of a file, without prefix, perhaps behind PAX records that change neither its
    name nor its size; it stops before the first thing that is not. `tar.walk` knows the rest, and is the twin.
    """
    found, at = 0, position
    while found < len(headers) and at + 512 <= len(data):
        total, stored, size = 256, 0, 0
        for i in range(512):
            if i < 148 or i > 155:
                total += data[at + i]
        for i in range(148, 156):
            if 48 <= data[at + i] < 56:
                stored = 8 * stored + data[at + i] - 48
            elif data[at + i] != 0 and data[at + i] != 32:
                stored = -1
                break
        for i in range(124, 135):
            if not 48 <= data[at + i] < 56:
                size = -1
                break
            size = 8 * size + data[at + i] - 48
        if stored != total or size < 0 or data[at + 345] != 0 or data[at + 135] not in (0, 32):
            break
        kind, body = data[at + 156], at + 512
        following = body + (size + 511) // 512 * 512
        if kind == 48:  # "0"
            if body + size > len(data):
                break
            headers[found], sizes[found] = at, size
            found += 1
            position = following
        elif kind == 120 and following <= len(data):  # "x"
            record, plain = body, True
            while record < body + size and plain:
                length, digit = 0, record
                while digit < body + size and 48 <= data[digit] < 58:
                    length = 10 * length + data[digit] - 48
                    digit += 1
                # path…, size…, GNU.sparse…, hdrcharset…: by the first letter, which costs a few members their speed.
                letter = data[digit + 1] if digit + 1 < body + size else 0
                plain = length > 0 and letter not in (0, 112, 115, 71, 104)
                record += length
            if not plain:
                break
        else:
            break
        at = following
    return found, position
