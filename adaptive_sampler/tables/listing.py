"""Lists of what a plan visits, for tools that take nothing but a list: keys, row numbers, DataComp's uids."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from adaptive_sampler.disk import whole_file
from adaptive_sampler.errors import InvalidValue

LISTS = (".txt", ".npy")
UID = np.dtype("u8,u8")  # as DataComp's resharder reads them: the upper and the lower 64 bits of a number
DIGITS = 32  # of such a number in hexadecimal
AT_ONCE = 1 << 20  # lines of a sorted list that are put together at a time
_NO_DIGIT = 255
_VALUES = np.full(256, _NO_DIGIT, np.uint8)  # character -> the value of the hexadecimal digit
_VALUES[list(b"0123456789abcdef")] = np.arange(16)
_VALUES[list(b"ABCDEF")] = np.arange(10, 16)


class Listed(NamedTuple):
    """Some lines of a plan: the keys (a list of str) or row numbers, (lines,) int64, and how often each is visited."""

    names: Any
    times: np.ndarray


def check_list(path: Path, uids: bool) -> None:
    """Raise `InvalidValue` for `uids` with another ending than .npy."""
    if uids and path.suffix != ".npy":
        raise InvalidValue(f"{path.name}: uids=True writes what DataComp reads, a .npy file. Name the file so.")


def write_list(path: str | os.PathLike[str], visits: Iterable[Listed], total: int, uids: bool) -> None:
    """Write what is visited, each as often as it is visited, to a .txt or .npy file; it appears whole or not at all.

    `total`: the number of visits. `uids`: sorted uids instead of row numbers. Raises `InvalidValue` for keys that the form
    cannot hold.
    """
    path = Path(path)
    with whole_file(path) as file:
        if path.suffix == ".txt":
            _write_keys(file, visits)
        elif uids:
            _write_uids(file, visits, total)
        else:
            _write_rows(file, visits, total)


def _write_keys(file: BinaryIO, visits: Iterable[Listed]) -> None:
    for names, times in visits:
        texts = names if isinstance(names, list) else [str(row) for row in names.tolist()]
        broken = next((text for text in texts if "\n" in text or "\r" in text), None)
        if broken is not None:
            raise InvalidValue(
                f"key {broken!r} holds a line break, and a .txt file has a line for each visit. Write a table: "
                "store.export('kept.parquet', plan=plan), or of a plan of a table plan.write(folder)."
            )
        lines = [line for text, count in zip(texts, times.tolist(), strict=True) for line in [text] * count]
        file.write("".join(f"{line}\n" for line in lines).encode())


def _write_rows(file: BinaryIO, visits: Iterable[Listed], total: int) -> None:
    _write_header(file, np.dtype(np.int64), total)
    for names, times in visits:
        file.write(np.repeat(names, times).astype(np.int64, copy=False).data)


def _write_uids(file: BinaryIO, visits: Iterable[Listed], total: int) -> None:
    """Sorts in memory, about 40 bytes a visit: the resharder searches a sorted list, and counts how often a uid is there."""
    upper, lower, done = np.empty(total, np.uint64), np.empty(total, np.uint64), 0
    for names, times in visits:
        found = np.repeat(uids_of(names), times)
        stop = done + len(found)
        upper[done:stop], lower[done:stop], done = found["f0"], found["f1"], stop
    order = np.lexsort((lower, upper))
    _write_header(file, UID, total)
    for start in range(0, total, AT_ONCE):
        some = order[start : start + AT_ONCE]
        file.write(np.stack([upper[some], lower[some]], axis=1).data)


def _write_header(file: BinaryIO, dtype: Any, total: int) -> None:
    npy.write_array_header_1_0(file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (total,)})


def uids_of(keys: Any) -> np.ndarray:
    """The numbers that keys of 32 hexadecimal digits write, (keys,) of dtype "u8,u8". Raises `InvalidValue` for other keys."""
    if not isinstance(keys, list):
        raise InvalidValue(
            "uids are made of text keys, and these are row numbers. Leave uids out: .npy then has the rows."
        )
    text = np.frombuffer("".join(keys).encode(), np.uint8)
    digits = _VALUES[text]
    if any(len(key) != DIGITS for key in keys) or (digits == _NO_DIGIT).any():
        wrong = next(key for key in keys if len(key) != DIGITS or (_VALUES[list(key.encode())] == _NO_DIGIT).any())
        raise InvalidValue(
            f"key {wrong!r} is no uid: those are numbers of 128 bits in {DIGITS} hexadecimal digits. Fill them up by "
            f"key.zfill({DIGITS}), or write the keys to a .txt file."
        )
    octets = (digits[::2] << 4 | digits[1::2]).view(">u8").astype(np.uint64)
    return octets.view(UID)
