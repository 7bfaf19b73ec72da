"""Write the rows that a plan keeps, with their keys and scores, to a file that other tools read."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from adaptive_sampler.disk import whole_file
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan

_AT_ONCE = 1 << 16  # rows that are turned into text at a time


class Exported(Protocol):
    """What `export` reads of a store: its scores by name, (n,) each, and the keys of its rows if it has keys."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def has_keys(self) -> bool: ...
    def __len__(self) -> int: ...
    def __getitem__(self, name: str) -> np.ndarray: ...
    def key(self, row: int) -> str: ...


def export(store: Exported, path: str | os.PathLike[str], plan: Plan | None) -> None:
    """Write the rows of `plan` (None: all rows), ascending, which is the order of the dataset.

    ".csv": one line per row, with the columns row, key (if the store has keys), repeats, loss_weight and one for each
    score, which is empty if the row was never observed. ".npy": the rows alone, int64. Raises `InvalidValue` for a path
    with another ending.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".npy"):
        raise InvalidValue(f"{path.name}: export writes .csv or .npy. Name the file so.")
    rows = np.arange(len(store)) if plan is None else plan.rows
    with whole_file(path) as file:
        if path.suffix == ".npy":
            np.save(file, rows)
            return
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        csv.writer(text).writerows(_lines(store, plan, rows))
        text.flush()
        text.detach()  # or `text` would close the file, which `whole_file` has yet to sync


def _lines(store: Exported, plan: Plan | None, rows: np.ndarray) -> Iterator[list[Any]]:
    """The lines of the CSV file, the header first."""
    scores = {name: store[name] for name in store.names}
    yield ["row", *(["key"] if store.has_keys else []), "repeats", "loss_weight", *scores]
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        columns: list[list[Any]] = [part.tolist()]
        if store.has_keys:
            columns.append([store.key(row) for row in part])
        columns.append([1] * len(part) if plan is None else plan.repeats_of(part).tolist())
        columns.append([1.0] * len(part) if plan is None else plan.loss_weights_of(part).tolist())
        columns += [[repr(float(v)) if v == v else "" for v in values[part]] for values in scores.values()]
        yield from map(list, zip(*columns, strict=True))
