"""The tables of shards as the columns of one index, and what may not be in them: rows that moved, keys that repeat."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels.keys import hash_keys
from adaptive_sampler.shards.indexing.repeats import Keyed, repeated_key
from adaptive_sampler.shards.indexing.scan import Flaw, ShardTable


def check_rows_stay(old: ShardTable | None, new: ShardTable, last: bool) -> None:
    """Raise `InvalidValue` if a shard's rows would move; behind the `last` rows of an index there is room for more."""
    if old is None:
        return
    rows, now = len(old.key_lengths), len(new.key_lengths)
    # Lengths count, too: the keys lie end to end, where "a/1" begins "a/10", and "1", "23" look like "12", "3".
    same = new.keys.startswith(old.keys) and np.array_equal(new.key_lengths[:rows], old.key_lengths)
    if same and (last or now == rows):
        return
    raise InvalidValue(
        f"{new.url} has changed since it was indexed: {rows} samples then, {now} now, with other keys, "
        "so rows would move. Write changed data as new shards, or pass renumber=True and start a new store."
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


def first_rows(tables: list[ShardTable], rows: int) -> list[ShardTable]:
    """The tables of the first `rows` rows alone."""
    kept = []
    for table in tables:
        if rows > 0:
            kept.append(table.first(rows))
        rows -= len(table.offsets)
    return kept


def repeated(columns: dict[str, NDArray[Any]], layouts: list[tuple[str, ...]], tables: list[ShardTable]) -> Flaw | None:
    """The flaw that names two samples with the same key, and how many rows repeat one; None if all keys differ."""
    hashes = hash_keys(columns["keys"], columns["key_ends"])
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    repeats = [(int(order[i]), int(order[i + 1])) for i in same]
    blob, ends = columns["keys"], columns["key_ends"]

    def key(row: int) -> bytes:
        return blob[int(ends[row - 1]) if row else 0 : int(ends[row])].tobytes()

    repeats = sorted(((a, b) for a, b in repeats if key(a) == key(b)), key=lambda pair: pair[1])
    if not repeats:
        return None
    bounds = columns["shard_starts"]
    first, second = [
        Keyed(row, tables[int(np.searchsorted(bounds, row, "right")) - 1].url, layouts[columns["layout"][row]])
        for row in repeats[0]
    ]
    name = key(repeats[0][0]).decode("utf-8", "surrogateescape")
    return Flaw(repeats[0][1], repeated_key(name, first, second, len(repeats)))
