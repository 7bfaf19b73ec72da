"""What `llvm` asks the processor for, spelled out: slower, for a Numba or an LLVM that can no longer be asked so."""

from typing import Any

import numpy as np

from adaptive_sampler.kernels.jit import kernel

_ONE = np.uint64(1)


@kernel
def popcount(word: Any) -> Any:
    found = np.int64(0)
    while word:
        word &= word - _ONE
        found += 1
    return found


@kernel
def lowest(word: Any) -> Any:
    place = np.int64(0)
    while not (word >> np.uint64(place)) & _ONE:
        place += 1
    return place


@kernel
def lowbias32(word: Any, out: Any) -> None:
    for i in range(64):
        x = np.uint32(np.uint32(i) * np.uint32(0x9E3779B9) + np.uint32(word))
        x = np.uint32(np.uint32(x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))
        x = np.uint32(x ^ np.uint32(word >> np.uint64(32)))
        x = np.uint32(np.uint32(x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
        out[i] = np.uint32(x ^ (x >> np.uint32(16)))


@kernel
def float32_of(bits: Any) -> Any:
    return np.full(1, bits, np.uint32).view(np.float32)[0]


@kernel
def float64_of(bits: Any) -> Any:
    return np.full(1, bits, np.uint64).view(np.float64)[0]


@kernel
def bits_of_float32(value: Any) -> Any:
    return np.full(1, value, np.float32).view(np.uint32)[0]


@kernel
def bits_of_float64(value: Any) -> Any:
    return np.full(1, value, np.float64).view(np.uint64)[0]


@kernel
def multiply_add(a: Any, b: Any, c: Any) -> Any:
    return a * b + c


@kernel
def larger(a: Any, b: Any) -> Any:
    return a if a > b else b


@kernel
def highest(a: Any, b: Any) -> Any:
    return a if a > b or a != a else b


@kernel
def add(total: Any, a: Any) -> Any:
    return total + a


@kernel
def add_product(total: Any, a: Any, b: Any) -> Any:
    return total + a * b


@kernel
def wide() -> None:
    pass


@kernel
def lent(array: Any) -> Any:
    return array


@kernel
def transpose(rows: Any, i: Any, j: Any, columns: Any) -> Any:
    for k in range(8):
        for n in range(8):
            columns[j + n, i + k] = rows[i + k, j + n]


@kernel
def below(block: Any, bound: Any) -> Any:
    word = np.uint64(0)
    for i in range(64):
        word |= np.uint64(block[i] < bound) << np.uint64(i)
    return word


@kernel
def above(block: Any, bound: Any) -> Any:
    word = np.uint64(0)
    for i in range(64):
        word |= np.uint64(block[i] > bound) << np.uint64(i)
    return word


@kernel
def equal(block: Any, bound: Any) -> Any:
    word = np.uint64(0)
    for i in range(64):
        word |= np.uint64(block[i] == bound) << np.uint64(i)
    return word


@kernel
def at_least(block: Any, bound: Any) -> Any:
    word = np.uint64(0)
    for i in range(64):
        word |= np.uint64(block[i] >= bound) << np.uint64(i)
    return word


@kernel
def at_most(block: Any, bound: Any) -> Any:
    word = np.uint64(0)
    for i in range(64):
        word |= np.uint64(block[i] <= bound) << np.uint64(i)
    return word
