"""The figures that trainings gave: kept in a file as they come, so that a run that was stopped goes on."""

import errno
import fcntl
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from adaptive_sampler.disk import sync
from adaptive_sampler.errors import MALFORMED, ResumeError, StoreDamaged, StoreLocked

Key = tuple[str, int, float]  # a candidate's name, the seed, the share of a training
FORMAT = 1


class Trainings:
    """What each training gave: a finite figure, or why there is none. A file has a line for each, on the disk once it is told.

    The first line is the arrangement, which must be the same when the file is opened again. A line that a kill has cut off is
    taken away. Raises `ResumeError` for another arrangement, `StoreDamaged` for a file that is no such record, and
    `StoreLocked` while another process writes to it.
    """

    def __init__(self, path: Path | None, arrangement: Mapping[str, Any]) -> None:
        self._found: dict[Key, float | str] = {}
        self._path, self._file = path, None if path is None else _opened(path)
        try:
            if self._file is not None:
                self._read(self._file, {"format": FORMAT, "choose": dict(arrangement)})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, which frees it for others."""
        if self._file is not None:
            self._file.close()

    def get(self, key: Key) -> float | str | None:
        """The figure of a training, why it has none, or None if it was not run."""
        return self._found.get(key)

    def add(self, key: Key, found: float | str) -> None:
        """Keep what a training gave."""
        self._found[key] = found
        what = {"error": found} if isinstance(found, str) else {"figure": found}
        self._append({"candidate": key[0], "seed": key[1], "share": key[2], **what})

    def figures(self) -> dict[Key, float]:
        """Every figure there is."""
        return {key: found for key, found in self._found.items() if not isinstance(found, str)}

    def _append(self, line: Mapping[str, Any]) -> None:
        if self._file is not None:
            rest = memoryview(_line(line))  # written in one go, so that a kill leaves a line or the beginning of one
            while rest:  # a full disk takes a part of it without a word, and of the rest says that it is full
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())

    def _read(self, file: BinaryIO, head: dict[str, Any]) -> None:
        text = file.read()
        first, *lines = text.split(b"\n")
        if not lines:
            if not _line(head).startswith(first):
                raise self._damaged(1)
            file.truncate(0)
            self._append(head)
            assert self._path is not None
            sync(self._path.absolute().parent)
            return
        self._check_head(first, head)
        for number, line in enumerate(lines[:-1], 2):
            try:
                self._take(json.loads(line))
            except MALFORMED as error:
                raise self._damaged(number) from error
        file.truncate(len(text) - len(lines[-1]))

    def _check_head(self, first: bytes, head: dict[str, Any]) -> None:
        try:
            there = json.loads(first)
            if there["format"] != FORMAT or not isinstance(there["choose"], dict):
                raise ValueError("format")
        except MALFORMED as error:
            raise self._damaged(1) from error
        here = json.loads(_line(head))["choose"]
        differing = [name for name in {**there["choose"], **here} if there["choose"].get(name) != here.get(name)]
        if differing:
            both = [f"{name}: {there['choose'].get(name)} there, {here.get(name)} here" for name in differing]
            raise ResumeError(
                f"{self._path} holds the trainings of another arrangement ({'; '.join(both)}). Pass what was passed then, or "
                "another file."
            )

    def _take(self, line: dict[str, Any]) -> None:
        key = str(line["candidate"]), int(line["seed"]), float(line["share"])
        found = str(line["error"]) if "error" in line else float(line["figure"])
        if isinstance(found, float) and not math.isfinite(found):
            raise ValueError("figure")
        self._found[key] = found

    def _damaged(self, number: int) -> StoreDamaged:
        return StoreDamaged(
            f"{self._path}, line {number}, is no line that choose writes. Take the line out, or name another file."
        )


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False).encode() + b"\n"


def _opened(path: Path) -> BinaryIO:
    """The file, open to read from its beginning and to append, and locked where its file system has locks."""
    file = open(path, "a+b", buffering=0)  # noqa: SIM115 - whoever asked for it closes it
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.close()
            raise StoreLocked(
                f"another process writes its trainings to {path}. Wait for it, or name another file."
            ) from error
    file.seek(0)
    return file
