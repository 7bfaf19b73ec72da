"""Mutations of JSON files: digits, values, members, as text editors and other programs change them."""

import json
import re
from collections.abc import Sequence
from typing import Any

from benchmarks.mutating.folder import Folder, NothingToMutate

DEEP = "[" * 100_000 + "]" * 100_000  # deeper than Python's parser goes
PLACE = "a value that is written as text"
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 10**6, 2**31, 2**63, -(2**63) - 1, 10**18, 10**30, 0.5, -0.0, 1e300),
    *(float("nan"), float("inf"), "", "0", "x", "../../precious.txt", "/etc/hostname", "\ud800", "\0", "z" * 5000),
    *([], [[]], [0], ["x"], [None, None], {}, {"x": 1}, {"": None}, PLACE),
)


def change_a_digit(folder: Folder) -> tuple[str, str]:
    name, _ = folder.json_file()
    data = folder.read(name).decode()
    at = folder.one([found.start() for found in re.finditer(r"\d", data)])
    digit = folder.one([d for d in "0123456789" if d != data[at]])
    folder.write(name, f"{data[:at]}{digit}{data[at + 1 :]}".encode())
    return name, f"{data[max(at - 20, 0) : at + 1]!r}: its last digit made {digit}"


def change_a_value(folder: Folder) -> tuple[str, str]:
    return changed(folder)


def change_a_member(folder: Folder) -> tuple[str, str]:
    """Remove, rename, add or repeat a member of an object or list."""
    name, content = folder.json_file()
    at = folder.one([path for path in paths(content) if path])
    inner, key = inside(content, at)
    how = (
        folder.one(("removed", "renamed", "repeated")) if isinstance(inner, dict) else folder.one(("removed", "again"))
    )
    if how == "again":
        inner.insert(key, inner[key])
    else:
        value = inner.pop(key)
        if how == "renamed":
            inner[f"{key}x"] = value
        elif how == "repeated":
            inner |= {f"{key}x": value, key: value}
    folder.write(name, json.dumps(content).encode())
    return name, f"{shown(at)}: {how}"


def repeat_a_key(folder: Folder) -> tuple[str, str]:
    """A key that stands twice in an object, before or after itself, with another value."""
    name, content = folder.json_file()
    at = folder.one([path for path in paths(content) if path and isinstance(path[-1], str)])
    inner, key = inside(content, at)
    value = folder.one([v for v in VALUES if v != inner[key]])
    twin = f"{key} a second time"
    if folder.rng.integers(2):
        inner[twin] = value
    else:
        old = dict(inner)
        inner.clear()
        inner |= {twin: value} | old
    folder.write(name, written(content).replace(json.dumps(twin), json.dumps(key)).encode())
    return name, f"{shown(at)}: twice, also as {brief(value)}"


def changed(folder: Folder, of: Sequence[str] = (), only: str = "") -> tuple[str, str]:
    """Give a value in a JSON file another one, of whatever type.

    `of`: what the file is for, by default anything. `only`: the member of the file's object in which the value is.
    """
    name, content = folder.json_file(of=of)
    at = _somewhere(folder, content, only)
    inner, key = inside(content, at)
    old = inner[key]
    near = [old + 1, old - 1, -old, old * 2] if isinstance(old, int) and not isinstance(old, bool) else []
    value = folder.one([v for v in (*(near * 4), *VALUES) if repr(v) != repr(old)])
    inner[key] = value
    folder.write(name, written(content).encode())
    return name, f"{shown(at)}: {brief(old)} made {brief(value)}"


def paths(content: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in `content`, itself included, as keys and positions."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [at, *(path for key, value in items for path in paths(value, (*at, key)))]


def inside(content: Any, at: tuple[Any, ...]) -> tuple[Any, Any]:
    """The object or list in which the value at `at` is, and the value's key or position there."""
    for key in at[:-1]:
        content = content[key]
    return content, at[-1]


def written(content: Any) -> str:
    """`content` as JSON text, with `DEEP` for `PLACE`."""
    return json.dumps(content).replace(json.dumps(PLACE), DEEP)


def shown(at: tuple[Any, ...]) -> str:
    """The way to a value, in words."""
    return "/".join(map(str, at))


def brief(value: Any) -> str:
    """A value in at most forty characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _somewhere(folder: Folder, content: Any, only: str) -> tuple[Any, ...]:
    """The way to a value: at each step down one is chosen, or this one taken, so that short lists count as much as long."""
    at: tuple[Any, ...] = ()
    if only:
        if not isinstance(content, dict) or only not in content:
            raise NothingToMutate
        at, content = (only,), content[only]
    while isinstance(content, dict | list) and content and (not at or folder.rng.integers(4)):
        key = folder.one(list(content) if isinstance(content, dict) else range(len(content)))
        at, content = (*at, key), content[key]
    return at
