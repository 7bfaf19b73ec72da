"""The tables of shards as the columns of one index, and what may not be in them: rows that moved, keys that repeat."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels.keys import hash_keys
from adaptive_sampler.shards.errors import DuplicateKey
from adaptive_sampler.shards.indexing.scan import ShardTable


def check_rows_stay(old: ShardTable | None, new: ShardTable, last: bool) -> None:
    """Raise `InvalidValue` if a shard's rows would move; behind the `last` rows of an index there is room for more."""
    if old is None or new.keys == old.keys:
        return
    if last and new.keys.startswith(old.keys):
        return
    raise InvalidValue(
        f"{new.url} has changed since it was indexed: {len(old.key_lengths)} samples then, {len(new.key_lengths)} "
        "now, with other keys, so rows would move. Write changed data as new shards, or pass renumber=True and "
        "start a new store."
    )


def merged(tables: list[ShardTable]) -> tuple[dict[str, NDArray[Any]], list[tuple[str, ...]]]:
    """The columns of all `tables`, one after another, and the different tuples of part names."""
    layouts: dict[tuple[str, ...], int] = {}
    layout = []
    for table in tables:
        numbers = [layouts.setdefault(names, len(layouts)) for names in table.layouts]
        layout.append(np.array(numbers, np.uint32)[table.layout])
    widths = np.array([len(names) for names in layouts], np.int64)
    merged = _joined(layout, np.uint32)
    keys = b"".join(t.keys for t in tables)
    columns = {
        "shard_starts": np.cumsum([0, *(len(t.offsets) for t in tables)], dtype=np.int64),
        "offsets": _joined([t.offsets for t in tables], np.int64),
        "layout": merged,
        "member_ends": np.cumsum(widths[merged] if len(merged) else [], dtype=np.int64),
        "starts": _narrow(_joined([t.starts for t in tables], np.int64)),
        "sizes": _narrow(_joined([t.sizes for t in tables], np.int64)),
        "key_ends": np.cumsum(_joined([t.key_lengths for t in tables], np.int64)),
        "keys": np.frombuffer(keys, np.uint8),
    }
    return columns, list(layouts)


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)


def _narrow(values: NDArray[np.int64]) -> NDArray[Any]:
    """Use four bytes per member instead of eight if all values fit: members above 4 GiB are rare."""
    small = not len(values) or (values.min() >= 0 and values.max() < 1 << 32)
    return values.astype(np.uint32) if small else values


def repeated(columns: dict[str, NDArray[Any]], tables: list[ShardTable]) -> DuplicateKey | None:
    """The error that names two samples with the same key, and how many rows repeat one; None if all keys differ."""
    hashes = hash_keys(columns["keys"], columns["key_ends"])
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    repeats = [(int(order[i]), int(order[i + 1])) for i in same]
    blob, ends = columns["keys"], columns["key_ends"]

    def key(row: int) -> bytes:
        return blob[int(ends[row - 1]) if row else 0 : int(ends[row])].tobytes()

    repeats = [(a, b) for a, b in repeats if key(a) == key(b)]
    if not repeats:
        return None
    (a, b), bounds = repeats[0], columns["shard_starts"]
    where = [tables[int(np.searchsorted(bounds, row, "right")) - 1].url for row in (a, b)]
    return DuplicateKey(
        f"key {key(a).decode('utf-8', 'surrogateescape')!r} names row {a} in {where[0]} and row {b} in {where[1]}; "
        f"{len(repeats)} rows repeat a key. Write the shards with distinct keys; a handler that returns True keeps "
        "all samples, told apart by their rows only."
    )
