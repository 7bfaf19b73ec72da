"""A version as any Zarr v3 client sees it: one group per score, one uncompressed array per column, and descriptions."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from adaptive_sampler.memory.columns import all_columns
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.memory.table import Table
from adaptive_sampler.memory.user_column import UserColumn
from adaptive_sampler.memory.user_columns import KEYS
from adaptive_sampler.scoring.base import Column, describe

EXPLAIN = {
    "value": "the score; NaN where the row was never observed",
    "count": "how often the row was observed",
    "last_seen": "the epoch of the last observation; -1 where there was none",
    "mean": "running mean of the values",
    "m2": "sum of squared deviations from the mean; the score is sqrt(m2 / count)",
    "events": "correct → wrong transitions in this training run",
    "presentations": "observations in this training run",
    "state": "bit 0: correct at the last presentation; bit 1: ever correct in this run",
    "total": "the score summed over the training runs before this one",
    "values": "a column of the user's own",
    "codes": "a column of the user's own: the number of each row's text among those in text and ends",
    "text": "UTF-8 bytes, of the rows' keys or of a column's different texts, each followed by a NUL",
    "ends": "where the NUL after each of them stands in text",
    "runs": "training runs before this one that observed the row",
}


class Array(NamedTuple):
    """An array of `n` elements in chunks of `chunk`: its dtype and fill value, and what it holds, in words."""

    n: int
    chunk: int
    column: Column
    holds: str


def beside(table: Table, keys: KeyMap | None, columns: Mapping[str, UserColumn]) -> dict[str, Array]:
    """The arrays beside the scores, by path: of the keys, and of the columns of the user's own."""
    found = {} if keys is None else {f"{KEYS}/{name}": _whole(name, array) for name, array in keys.arrays().items()}
    for name, column in columns.items():
        first, *others = column.arrays
        found[f"{name}/{first}"] = Array(table.n, table.chunk, Column(column.dtype.name, 0), EXPLAIN[first])
        found |= {f"{name}/{other}": _whole(other, column.categories.arrays()[other]) for other in others}
    return found


def _whole(name: str, array: np.ndarray) -> Array:
    """An array in one chunk."""
    return Array(len(array), max(len(array), 1), Column(array.dtype.name, 0), EXPLAIN[name])


def metadata(
    table: Table, beside: Mapping[str, Array], columns: Mapping[str, str], about: Mapping[str, Any]
) -> dict[str, bytes]:
    """The zarr.json of every group and array of a version of a store, name -> bytes. `columns`: the kinds of the user's own.

    These objects describe the columns and nothing else, so they rarely change.
    """
    arrays = {
        f"{at}{score.name}/{name}": Array(table.n, table.chunk, column, EXPLAIN.get(name, ""))
        for at, part in table.parts()
        for score in part.scores
        for name, column in all_columns(score.fold).items()
    }
    groups: dict[str, Mapping[str, Any]] = {
        at + score.name: {"score": describe(score)} for at, part in table.parts() for score in part.scores
    }
    groups |= {name: {"column": kind} for name, kind in columns.items()}
    return zarr_objects(about, groups, arrays | dict(beside))


def zarr_objects(
    about: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]], arrays: Mapping[str, Array]
) -> dict[str, bytes]:
    """The zarr.json of a group with attributes `about`, of `groups` in it, by name, and of `arrays`, by path."""
    import zarr  # takes 0.35 s, which only a commit with new zarr.json objects has to spend

    objects: dict[str, Any] = {}
    root = zarr.open_group(zarr.storage.MemoryStore(objects), mode="w", attributes=dict(about))
    for name, attributes in groups.items():
        root.create_group(name, attributes=dict(attributes))
    for path, array in arrays.items():
        root.create_array(
            path,
            shape=(array.n,),
            chunks=(array.chunk,),
            dtype=array.column.dtype,
            fill_value=array.column.fill,
            compressors=None,
            attributes={"description": array.holds},
        )
    return {name: value.to_bytes() for name, value in objects.items()}
