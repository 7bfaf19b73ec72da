"""Lists of what a plan of a table visits."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.tables.listing import LISTS, Listed, check_list, write_list
from adaptive_sampler.tables.planned.reading import PartitionedPlan, parts, plan_of


def export_plan(source: Any, path: str | os.PathLike[str], *, uids: bool = False) -> None:
    """Write a list of what a plan of a table visits, in its order: a sample that is visited k times stands there k times.

    `source`: what `plan_table` returned, or the folder that its `write` made. `path`: a ".txt" file has a key, or row
    number, in each line; ".npy", of a table that was planned by row numbers, has those, (visits,) int64. `uids`: ".npy" has what
    DataComp's resharder reads, keys of 32 hexadecimal digits as sorted numbers, (visits,) of dtype "u8,u8"; they are sorted in
    memory, about 40 bytes a visit.

    The file appears whole or not at all. Raises `InvalidValue` for another ending and for keys that the form cannot hold,
    `StoreDamaged` for a plan that is not as it was written, and OSError for a place that cannot be written to.
    """
    path = Path(path)
    if path.suffix not in LISTS:
        raise InvalidValue(f"{path.name}: a list of visits is a .txt or .npy file. Name the file so.")
    check_list(path, uids)
    plan = plan_of(source)
    write_list(path, _visits(plan, path.suffix == ".npy" and not uids), plan.num_samples, uids)


def _visits(plan: PartitionedPlan, numbers: bool) -> Iterator[Listed]:
    for part in parts(plan):
        if not len(part.repeats):
            continue
        if isinstance(part.keys, np.ndarray):
            yield Listed(part.keys, part.repeats)
        elif numbers:
            raise InvalidValue(
                f"key {part.keys.key(0)!r}: a .npy file has row numbers, and the table was planned by keys. Write them to a .txt "
                "file; keys that are uids: uids=True."
            )
        else:
            yield Listed(part.keys.texts(), part.repeats)
