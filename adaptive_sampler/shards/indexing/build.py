"""Builds an index: scans new and changed shards, keeps the tables of the others, and replaces the index atomically."""

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import braceexpand
import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.disk import sync, write_whole
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels.keys import hash_keys
from adaptive_sampler.progress import Show, shown
from adaptive_sampler.shards.errors import Handler, ShardError
from adaptive_sampler.shards.indexing.columns import FORMAT, POINTER, MappedColumns, write
from adaptive_sampler.shards.indexing.repeats import Keyed, repeated
from adaptive_sampler.shards.indexing.scan import ShardTable, scan
from adaptive_sampler.shards.sources.access import Access


def build(
    urls: str | Iterable[str],
    path: Path,
    workers: int | None,
    handler: Handler,
    progress: Show,
    renumber: bool,
    access: Access,
) -> None:
    """Write the index of `urls` to `path`; see ShardIndex.build."""
    known = {} if renumber else _known(path)
    order = _in_order(expand(urls), list(known), path)
    tables: list[ShardTable] = []
    damage: list[dict[str, str]] = []
    last = next(reversed(known), None)
    for url, result in _scanned(order, known, workers, progress, access):
        table, goes_on = _judged(result, handler, damage)
        if table is not None:
            _check_rows_stay(known.get(url), table, url == last)
            tables.append(table)
        if not goes_on:
            break
    columns, layouts = _merged(tables)
    kept = _check_keys(columns, layouts, tables, handler, damage)
    if kept < len(columns["offsets"]):
        tables = _first(tables, kept)
        columns, layouts = _merged(tables)
    attributes = {
        "format": FORMAT,
        "urls": [t.url for t in tables],
        "stamps": [t.stamp for t in tables],
        "layouts": layouts,
        "damage": damage,
    }
    _publish(path, columns, attributes)


def expand(urls: str | Iterable[str]) -> list[str]:
    """Expand WebDataset's shard notation (braces, and `::` between URLs) into a list; a list of URLs is taken as it is.

    Raises InvalidValue for an empty list, and for a URL that occurs twice.
    """
    text = urls.split("::") if isinstance(urls, str) else [str(url) for url in urls]
    expanded = [url for part in text for url in (braceexpand.braceexpand(part) if isinstance(urls, str) else [part])]
    if not expanded:
        raise InvalidValue("urls is empty: give at least one shard.")
    seen: set[str] = set()
    for url in expanded:
        if url in seen:
            raise InvalidValue(f"{url} is listed twice: a shard's samples have one row each. Remove one.")
        seen.add(url)
    return expanded


def _known(path: Path) -> dict[str, ShardTable]:
    """The tables of the present index at `path`, by URL; empty if there is no index."""
    if not (path / POINTER).is_file():
        return {}
    columns = MappedColumns(path / (path / POINTER).read_text().strip())
    about, bounds = columns.attributes, columns("shard_starts").tolist()
    layouts = [tuple(names) for names in about["layouts"]]
    tables = {}
    for shard, (url, stamp) in enumerate(zip(about["urls"], about["stamps"], strict=True)):
        low, high = bounds[shard], bounds[shard + 1]
        member_ends = _bounds(columns("member_ends", max(low - 1, 0), high), low)
        key_ends = _bounds(columns("key_ends", max(low - 1, 0), high), low)
        tables[url] = ShardTable(
            url,
            stamp,
            layouts,
            columns("layout", low, high),
            columns("offsets", low, high),
            columns("starts", int(member_ends[0]), int(member_ends[-1])),
            columns("sizes", int(member_ends[0]), int(member_ends[-1])),
            columns("keys", int(key_ends[0]), int(key_ends[-1])).tobytes(),
            np.diff(key_ends),
        )
    return tables


def _bounds(ends: NDArray[np.int64], low: int) -> NDArray[np.int64]:
    return ends if low else np.concatenate([np.zeros(1, np.int64), ends])


def _in_order(urls: list[str], known: list[str], path: Path) -> list[str]:
    gone = set(known) - set(urls)
    if gone:
        raise InvalidValue(
            f"{path} indexes {sorted(gone)[0]} and {len(gone) - 1} more shards that are not among the {len(urls)} given: "
            "without them the rows behind would move. List them too, or pass renumber=True and start a new store."
        )
    old = set(known)
    return known + [url for url in urls if url not in old]


def _scanned(
    urls: list[str], known: dict[str, ShardTable], workers: int | None, progress: Show, access: Access
) -> Iterator[tuple[str, ShardTable | Exception]]:
    def one(url: str) -> ShardTable | Exception:
        try:
            old = known.get(url)
            if old is not None:
                source = access.open(url)
                source.close()
                if source.stamp == old.stamp:
                    return old
            return scan(url, access)
        except (ShardError, OSError) as error:
            return error

    # Threads are enough, because a header pass waits for the disk or the network, not for Python.
    with (
        ThreadPoolExecutor(workers or min(32, 4 * (os.cpu_count() or 1))) as pool,
        shown(progress, "indexing shards") as tell,
    ):
        for done, (url, result) in enumerate(zip(urls, pool.map(one, urls), strict=True), 1):
            tell(done, len(urls))
            yield url, result


def _judged(
    result: ShardTable | Exception, handler: Handler, damage: list[dict[str, str]]
) -> tuple[ShardTable | None, bool]:
    """The table that goes into the index, None for a shard that could not be scanned; and whether later shards follow.

    Every error goes to `handler`. If it returns False, the samples before the damage are kept.
    """
    if isinstance(result, Exception):
        return None, _decided(result, handler, damage)
    for before, error in result.flaws:
        if not _decided(error, handler, damage):
            return result.first(before), False
    return result, True


def _decided(error: Exception, handler: Handler, damage: list[dict[str, str]]) -> bool:
    """What `handler` returns for `error`, which is listed in `damage` if it does not raise."""
    goes_on = handler(error)
    damage.append({"error": type(error).__name__, "message": str(error)})
    return goes_on


def _check_rows_stay(old: ShardTable | None, new: ShardTable, last: bool) -> None:
    if old is None or new.keys == old.keys:
        return
    if last and new.keys.startswith(old.keys):
        return
    raise InvalidValue(
        f"{new.url} has changed since it was indexed: {len(old.key_lengths)} samples then, {len(new.key_lengths)} "
        "now, with other keys, so rows would move. Write changed data as new shards, or pass renumber=True and "
        "start a new store."
    )


def _merged(tables: list[ShardTable]) -> tuple[dict[str, NDArray[Any]], list[tuple[str, ...]]]:
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
    return values.astype(np.uint32) if not len(values) or values.max() < 1 << 32 else values


def _check_keys(
    columns: dict[str, NDArray[Any]],
    layouts: list[tuple[str, ...]],
    tables: list[ShardTable],
    handler: Handler,
    damage: list[dict[str, str]],
) -> int:
    """How many rows go into the index: those before the first that repeats a key if `handler` stops there, else all."""
    hashes = hash_keys(columns["keys"], columns["key_ends"])
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    repeats = [(int(order[i]), int(order[i + 1])) for i in same]
    blob, ends = columns["keys"], columns["key_ends"]

    def key(row: int) -> bytes:
        return blob[int(ends[row - 1]) if row else 0 : int(ends[row])].tobytes()

    repeats = sorted(((a, b) for a, b in repeats if key(a) == key(b)), key=lambda pair: pair[1])
    if not repeats:
        return len(ends)
    bounds = columns["shard_starts"]
    first, second = [
        Keyed(row, tables[int(np.searchsorted(bounds, row, "right")) - 1].url, layouts[columns["layout"][row]])
        for row in repeats[0]
    ]
    error = repeated(key(repeats[0][0]).decode("utf-8", "surrogateescape"), first, second, len(repeats))
    return len(ends) if _decided(error, handler, damage) else repeats[0][1]


def _first(tables: list[ShardTable], rows: int) -> list[ShardTable]:
    """The tables of the first `rows` rows alone."""
    kept = []
    for table in tables:
        if rows > 0:
            kept.append(table.first(rows))
        rows -= len(table.offsets)
    return kept


def _publish(path: Path, columns: dict[str, NDArray[Any]], attributes: dict[str, Any]) -> None:
    """Write a new generation beside the present one, then name it in the pointer file: readers see one or the other."""
    path.mkdir(parents=True, exist_ok=True)
    numbers = sorted(int(p.name[1:]) for p in path.glob("g*") if p.name[1:].isdecimal())
    fresh = path / f".{uuid.uuid4().hex}.partial"
    target = path / f"g{numbers[-1] + 1 if numbers else 0}"
    try:
        write(fresh, columns, attributes)
        for file in fresh.rglob("*"):
            if file.is_file():
                sync(file)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    write_whole(path / POINTER, [target.name.encode()])
    sync(path)
    # The previous generation stays: a reader may have opened it and not yet mapped all of it.
    for number in numbers[:-1]:
        shutil.rmtree(path / f"g{number}", ignore_errors=True)
