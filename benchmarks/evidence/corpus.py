"""Text that every Python has: the docstrings of its standard library (PSF licence).

A document is a docstring of 50 to 254 ASCII bytes, and each comes once. Which text it is depends on the version of
Python alone: `Texts.name` tells the version, and a checksum.
"""

import ast
import hashlib
import platform
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SHORTEST, LONGEST = 50, 254  # bytes; with a mark at either end the longest fills one row of a batch
TEST = 400  # documents that no seed trains on
# Distributions of Python leave these out, or add to them.
LEFT_OUT = ("distutils", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tests", "tkinter", "turtledemo")


@dataclass(frozen=True)
class Texts:
    """The documents to train on and those of the test, and the `name` of the text that they come from."""

    train: list[bytes]
    test: list[bytes]
    name: str

    def held_out(self, number: int, seed: int) -> tuple[list[bytes], list[bytes]]:
        """Split the training documents -> (the rest, `number` of them for validation). Each seed has another split."""
        order = np.random.default_rng([seed, 0]).permutation(len(self.train))
        return [self.train[row] for row in order[number:]], [self.train[row] for row in order[:number]]


def load(quick: bool = False) -> Texts:
    """The text of this Python; `quick`: the shortest documents of one package of its library."""
    library = Path(sysconfig.get_path("stdlib"))
    found = dict.fromkeys(sorted(documents(library / "asyncio"), key=len)[:56] if quick else documents(library))
    order = np.random.default_rng(0).permutation(len(found))
    every = [list(found)[row] for row in order]
    test = min(TEST, len(every) // 8)
    name = f"Python {platform.python_version()}, {len(every)} docstrings, {hashlib.sha256(b''.join(every)).hexdigest()[:8]}"
    return Texts(every[test:], every[:test], name)


def documents(folder: Path) -> Iterator[bytes]:
    """The docstrings in the source files under `folder`, in the order of the files' names."""
    for file in sorted(folder.rglob("*.py")):
        if set(file.relative_to(folder).parts) & set(LEFT_OUT):
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node) or ""
                if text.isascii() and "\0" not in text and SHORTEST <= len(text) <= LONGEST:
                    yield text.encode()
