"""A copy of a folder that is there to be spoiled: its files by what they are for, and a way to choose among them."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

# The first that fits a file's name, relative to the folder of a store or an index, says what the file is for.
WHAT = (
    ("CURRENT", r"CURRENT"),
    ("LOCK", r"LOCK"),
    ("manifests", r"manifests/"),
    ("plan.json", r"plans/\w+/plan\.json"),
    ("arrays of plans", r"plans/"),
    ("zarr.json", r"(.*/)?zarr\.json"),
    ("keys", r"\w+/key(s|_ends)/"),
    ("columns", r"\w+/.*/c/"),
)
JSON = ("CURRENT", "LOCK", "manifests", "plan.json", "zarr.json")
# The parts of a name by which two versions of a file, or two plans, differ.
VERSIONED = re.compile(r"\b[vg]\d+/|\bmanifests/\d+|\bplans/\w+")


class NothingToMutate(Exception):
    """The folder has no file, folder or value that this mutation can change."""


def what(name: str) -> str:
    """What the file of this name, relative to the folder, is for."""
    return next((label for label, pattern in WHAT if re.match(pattern, name)), "other")


def copied(source: str, target: str, seen: dict[int, str] | None = None) -> None:
    """Copy a folder. Files that are links to the same data in `source` are so in `target`, as versions share objects."""
    seen = {} if seen is None else seen
    os.mkdir(target)
    for entry in os.scandir(source):
        new = f"{target}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), new)
        elif entry.is_dir():
            copied(entry.path, new, seen)
        elif entry.inode() in seen:
            os.link(seen[entry.inode()], new)
        else:
            seen[entry.inode()] = new
            with open(entry.path, "rb") as old, open(new, "wb") as file:
                file.write(old.read())


def _names(top: str, prefix: str) -> Iterator[tuple[str, int | None]]:
    """(name, size) of each file below `top`, and (name, None) of each folder; of links nothing."""
    for entry in sorted(os.scandir(top), key=lambda entry: entry.name):
        if entry.is_symlink():
            continue
        if entry.is_dir():
            yield f"{prefix}{entry.name}", None
            yield from _names(entry.path, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry.stat().st_size


class Folder:
    """A folder to mutate. `part`: the folder below it to which the mutations keep, "" for all of it."""

    def __init__(self, path: Path, part: str, rng: np.random.Generator) -> None:
        self.path, self.rng = path, rng
        top = path / part
        self._sizes = dict(_names(str(top), f"{part}/" if part else "")) if top.is_dir() else {}

    def one(self, some: Sequence[T]) -> T:
        """One of `some`. Raises `NothingToMutate` if there are none."""
        if not some:
            raise NothingToMutate
        return some[int(self.rng.integers(len(some)))]

    def files(self) -> list[str]:
        """The names of the files that were there at first, with / between their parts."""
        return [name for name, size in self._sizes.items() if size is not None]

    def folders(self) -> list[str]:
        """The names of the folders that were there at first."""
        return [name for name, size in self._sizes.items() if size is None]

    def file(self, *, filled: bool = False, of: Sequence[str] = ()) -> str:
        """The name of a file. What it is for is chosen first: else most mutations would hit one of the many columns.

        `filled`: none that is empty. `of`: only files for one of these purposes, by default for any.
        """
        names = [name for name, size in self._sizes.items() if (size if filled else size is not None)]
        kinds = sorted(kind for kind in {what(name) for name in names} if not of or kind in of)
        kind = self.one(kinds)
        return self.one([name for name in names if what(name) == kind])

    def json_file(self, *, of: Sequence[str] = ()) -> tuple[str, Any]:
        """The name of a file that holds a JSON object or list, and what it holds."""
        name = self.file(filled=True, of=of or JSON)
        try:
            value = json.loads(self.read(name))
        except ValueError as error:
            raise NothingToMutate from error
        if not isinstance(value, dict | list) or not value:
            raise NothingToMutate
        return name, value

    def kin(self, name: str) -> list[str]:
        """The files that have the same place as `name` in another version, or in another plan, and hold something else."""
        place, data = VERSIONED.sub("*", name), self.read(name)
        others = [other for other in self.files() if other != name and VERSIONED.sub("*", other) == place]
        return [other for other in others if self.read(other) != data]

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self.path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Change a file in place, as a failing disk does: whoever shares its data sees the change too."""
        (self.path / name).write_bytes(data)
