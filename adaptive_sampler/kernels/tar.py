"""The fast way over the plain members of a tar archive."""

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.kernels.jit import kernel


@kernel
def skim(
    data: NDArray[np.uint8], position: int, headers: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[int, int]:
    """Run over plain members of the tar archive `data` from `position`; (members found, position behind the last).

    `headers` and `sizes` receive the byte of each member's header and its body's bytes, at most their length.
    Plain is a sound header of a file, without a ustar prefix, perhaps behind PAX records that change neither its
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
        prefix = data[at + 345] != 0 and data[at + 262] == 0  # old GNU headers have a space there, and times at 345
        if stored != total or size < 0 or prefix or data[at + 135] not in (0, 32):
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
