"""What extended tar headers (GNU long names, PAX records) say of the members behind them."""

import re

EXTENDED = b"LKxXg"
_SPARSE = "GNU.sparse."
_OF_USE = (b"path", b"linkpath", b"size", _SPARSE.encode())  # the beginnings of the PAX keys that are looked at
_RECORD = re.compile(rb"(\d+) ([^=]+)=")


class Extended:
    """Collects extended headers until their member comes.

    pending: headers of the next member: the PAX keys of use, and GNU long names under the keys that PAX has for them.
    common: the records of global PAX headers, which describe all members that follow.
    """

    def __init__(self) -> None:
        self.pending: list[dict[str, str]] = []
        self._common: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self.pending or self._common)

    def add(self, kind: bytes, body: bytes) -> None:
        """Note an extended header of type `kind`. Raises ValueError for PAX records that cannot be read."""
        if kind == b"L":
            self.pending.append({"path": text(body)})
        elif kind == b"K":
            self.pending.append({"linkpath": text(body)})
        elif kind == b"g":
            self._common.update(_records(body))
        else:
            self.pending.append({**self._common, **_records(body)})

    def take(self) -> tuple[dict[str, str], bool]:
        """What is said of the member that comes now, and whether its own headers say its size.

        A global header's size is the length of the body, but not of the way to the next header: so tarfile has it.
        """
        said, own_size = dict(self._common), False
        for patch in reversed(self.pending):  # the first one wins
            said.update(patch)
            own_size = own_size or "size" in patch
        self.pending = []
        if _SPARSE + "name" in said:
            said["path"] = said[_SPARSE + "name"]  # the path is made up, for tools that know no sparse files
        return said, own_size


def is_sparse(said: dict[str, str]) -> bool:
    """Whether PAX records say that a member is a sparse file, in any of GNU tar's three versions."""
    return any(key.startswith(_SPARSE) for key in said)


def text(raw: bytes) -> str:
    """A field of a header, up to its first NUL."""
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _records(body: bytes) -> dict[str, str]:
    """The records of use. Raises ValueError for what is no record, as GNU tar and newer Pythons' tarfile refuse it."""
    records, at = {}, 0
    while at < len(body) and body[at]:  # some writers count the zeros that fill up the block
        match = _RECORD.match(body, at)
        end = at + int(match[1]) if match else 0
        if match is None or end <= match.end() or body[end - 1 : end] != b"\n":
            raise ValueError("a PAX record whose length or form is wrong")
        if match[2].startswith(_OF_USE):
            key = match[2].decode("utf-8", "surrogateescape")
            value = body[match.end() : end - 1].decode("utf-8", "surrogateescape")
            records[key] = value.rstrip("/") if key == "path" else value
        at = end
    return records
