"""A copy of a folder that is there to be spoiled: its files by what they are for, and a way to choose among them."""

import json
import os
import re
import shutil
from collections.abc import Sequence
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
# The parts of a name by which two versions of a file, or two plans, differ.
VERSIONED = re.compile(r"\b[vg]\d+/|\bmanifests/\d+|\bplans/\w+")


class NothingToMutate(Exception):
    """The folder has no file, folder or value that this mutation can change."""


def what(name: str) -> str:
    """What the file of this name, relative to the folder, is for."""
    return next((label for label, pattern in WHAT if re.match(pattern, name)), "other")


def copied(source: Path, target: Path) -> None:
    """Copy a folder. Files that are links to the same data in `source` are so in `target`, as versions share objects."""
    seen: dict[int, Path] = {}
    target.mkdir()
    for folder, names, files in os.walk(source):
        there = target / os.path.relpath(folder, source)
        for name in names:
            if os.path.islink(os.path.join(folder, name)):
                files.append(name)
            else:
                (there / name).mkdir()
        for name in files:
            _copy_file(Path(folder, name), there / name, seen)


def _copy_file(old: Path, new: Path, seen: dict[int, Path]) -> None:
    status = old.lstat()
    if status.st_nlink > 1 and status.st_ino in seen:
        os.link(seen[status.st_ino], new)
        return
    shutil.copy2(old, new, follow_symlinks=False)
    seen[status.st_ino] = new


class Folder:
    """A folder to mutate. `part`: the folder below it to which the mutations keep, "" for all of it."""

    def __init__(self, path: Path, part: str, rng: np.random.Generator) -> None:
        self.path, self.part, self.rng = path, part, rng

    def one(self, some: Sequence[T]) -> T:
        """One of `some`. Raises `NothingToMutate` if there are none."""
        if not some:
            raise NothingToMutate
        return some[int(self.rng.integers(len(some)))]

    def files(self) -> list[str]:
        """The names of the files, sorted, with / between their parts."""
        return [name for name in self._below() if (self.path / name).is_file() and not (self.path / name).is_symlink()]

    def folders(self) -> list[str]:
        """The names of the folders below the part that is mutated, sorted."""
        return [name for name in self._below() if (self.path / name).is_dir() and not (self.path / name).is_symlink()]

    def file(self, *, filled: bool = False, of: Sequence[str] = ()) -> str:
        """The name of a file. What it is for is chosen first: else most mutations would hit one of the many columns.

        `filled`: none that is empty. `of`: only files for one of these purposes, by default for any.
        """
        names = [name for name in self.files() if not filled or (self.path / name).stat().st_size]
        kinds = sorted({what(name) for name in names} & set(of or map(what, names)))
        kind = self.one(kinds)
        return self.one([name for name in names if what(name) == kind])

    def json_file(self, *, of: Sequence[str] = ()) -> tuple[str, Any]:
        """The name of a file that holds a JSON object or list, and what it holds."""
        found = {}
        for name in self.files():
            try:
                value = json.loads((self.path / name).read_bytes())
            except ValueError:
                continue
            if isinstance(value, dict | list) and value and what(name) in (of or [what(name)]):
                found[name] = value
        kind = self.one(sorted({what(name) for name in found}))
        name = self.one([name for name in found if what(name) == kind])
        return name, found[name]

    def kin(self, name: str) -> list[str]:
        """The files that have the same place as `name` in another version, or in another plan, and hold something else."""
        place, data = VERSIONED.sub("*", name), self.read(name)
        return [n for n in self.files() if n != name and VERSIONED.sub("*", n) == place and self.read(n) != data]

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self.path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Change a file in place, as a failing disk does: whoever shares its data sees the change too."""
        (self.path / name).write_bytes(data)

    def _below(self) -> list[str]:
        top = self.path / self.part
        return sorted(path.relative_to(self.path).as_posix() for path in top.rglob("*"))
