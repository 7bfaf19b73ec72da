"""The pointer, the only part of a versioned storage that changes: it lists the committed versions and names the head."""

import json
import time
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

from adaptive_sampler.checks import is_time, is_whole
from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import MALFORMED, StoreDamaged
from adaptive_sampler.storage.generation import Seal, checked_seal

FORMAT = 1
MOST = 1 << 53  # of the numbers of versions


class _Version(NamedTuple):
    version: int
    time: float
    note: str
    pinned: bool


class Version(_Version):
    """(version, time, note, pinned) of one commit; `time` in seconds since 1970.

    `observed`: how many rows were observed, for the score for which most were.
    """

    observed: int


@dataclass(frozen=True)
class CommitEntry:
    """A committed version as the pointer lists it."""

    version: int
    time: float
    note: str
    pinned: bool
    observed: int
    manifest: Seal

    def public(self) -> Version:
        """The entry in the form that `ScoreStore.versions` returns."""
        version = Version(self.version, self.time, self.note, self.pinned)
        version.observed = self.observed
        return version


@dataclass(frozen=True)
class Pointer:
    """The identifier of what is kept, its committed versions, oldest first, and two of their numbers.

    `head`: the newest version. `highest`: the highest number that was ever given to a version; −1 for both: none yet.
    """

    uuid: str
    head: int = -1
    highest: int = -1
    entries: tuple[CommitEntry, ...] = field(default=())

    def entry(self, version: int) -> CommitEntry | None:
        """The entry of a committed version, or None."""
        return next((e for e in self.entries if e.version == version), None)

    def committed(self, version: int, manifest: Seal, *, note: str, pinned: bool, observed: int) -> "Pointer":
        """The pointer after a commit."""
        entry = CommitEntry(version, time.time(), note, pinned, observed, manifest)
        return replace(self, head=version, highest=version, entries=(*self.entries, entry))

    def without(self, versions: set[int]) -> "Pointer":
        """The pointer after some versions were dropped."""
        return replace(self, entries=tuple(e for e in self.entries if e.version not in versions))

    def encoded(self) -> bytes:
        """The bytes that the storage's pointer holds."""
        body = {
            "format": FORMAT,
            "uuid": self.uuid,
            "head": self.head,
            "highest": self.highest,
            "versions": [vars(e) for e in self.entries],
        }
        return json.dumps(body | {"checksum": _checksum(body)}, indent=1).encode()


def decoded(raw: bytes, where: str) -> Pointer:
    """The pointer that `encoded` wrote; `where`: the storage's name in messages.

    Raises `StoreDamaged` for anything else, and for the format of a newer version of this package.
    """
    try:
        body = json.loads(raw)
        version = body["format"]
        if not is_whole(version, 1):
            raise ValueError("format")
    except MALFORMED as error:
        raise StoreDamaged(_damaged(where)) from error
    if version > FORMAT:
        raise StoreDamaged(
            f"{where} has format {version}; this adaptive-sampler reads up to {FORMAT}. Upgrade: pip install -U adaptive-sampler."
        )
    try:
        if body.pop("checksum") != _checksum(body):
            raise ValueError("checksum")
        entries = tuple(_entry(**entry) for entry in body["versions"])
        numbers = [entry.version for entry in entries]
        ascending = all(one < next_ for one, next_ in pairwise(numbers))
        if not ascending or body["head"] != numbers[-1] or not is_whole(body["highest"], numbers[-1], most=MOST):
            raise ValueError("versions")
        if not isinstance(body["uuid"], str) or not isinstance(body["head"], int):
            raise ValueError("uuid, head")
    except MALFORMED as error:
        raise StoreDamaged(_damaged(where)) from error
    return Pointer(body["uuid"], body["head"], body["highest"], entries)


def _entry(version: Any, time: Any, note: Any, pinned: Any, observed: Any, manifest: Any) -> CommitEntry:
    """An entry as JSON has it. Raises `ValueError` or `TypeError` if a commit would not write it."""
    if not (is_time(time) and is_whole(version, most=MOST) and is_whole(observed)):
        raise ValueError("a number")
    if not (isinstance(note, str) and isinstance(pinned, bool)):
        raise ValueError("note, pinned")
    return CommitEntry(version, time, note, pinned, observed, checked_seal(manifest))


def _checksum(body: dict[str, Any]) -> int:
    return checksum([json.dumps(body, sort_keys=True).encode()])


def _damaged(where: str) -> str:
    return (
        f"{where}/CURRENT is not what a commit wrote. Restore it from a backup; each version's folder v… still holds its "
        "manifest and columns, readable by plain zarr."
    )
