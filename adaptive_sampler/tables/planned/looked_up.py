"""The keys of a plan in files that are mapped into memory, so that many processes look them up in one copy."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue, StoreDamaged, StoreError
from adaptive_sampler.memory.keys import HashIndex, KeyMap
from adaptive_sampler.tables.planned.reading import PartitionedPlan, PlanPart, parts

COLUMNS = {"text": "u1", "ends": "<i8", "rows": "<i8", "repeats": "<u4", "weights": "<f4"}


class LookUp:
    """The keys of a plan, with repeats and loss weights. It is pickled as the name of the folder that its files are in."""

    def __init__(self, folder: Path, plan_id: str) -> None:
        self._folder, self._plan_id = folder, plan_id
        self._open()

    @classmethod
    def of(cls, plan: PartitionedPlan) -> "LookUp":
        """The keys of a plan. The files are deleted with the object, if the process that made them lets it go."""
        folder = Path(tempfile.mkdtemp(prefix="adaptive-sampler-"))
        try:
            _write(folder, plan)
            made = cls(folder, plan.id)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(made, _remove, folder, os.getpid())
        return made

    def __getstate__(self) -> tuple[Path, str]:
        return self._folder, self._plan_id

    def __setstate__(self, state: tuple[Path, str]) -> None:
        self._folder, self._plan_id = state
        if not self._folder.is_dir():
            raise StoreError(
                f"the keys of plan {self._plan_id} lay in {self._folder}, which is gone, or on another machine. Make them there: "
                "PlannedKeys(folder) in the process that asks."
            )
        self._open()

    def _open(self) -> None:
        self._repeats, self._weights = self._column("repeats"), self._column("weights")
        self._rows, self._keys = self._column("rows"), None
        if self._rows is None:
            # "c": arrays that could be written to, as those that a store builds: kernels are not compiled for them again.
            files = [np.load(self._folder / f"{name}.npy", mmap_mode="c") for name in HashIndex._fields]
            self._keys = KeyMap(self._column("text"), self._column("ends"), HashIndex(*map(np.asarray, files)))

    def _column(self, name: str) -> Any:
        """A plain array over the mapped file, because np.memmap itself is slower to index; None if there is none."""
        file = self._folder / name
        return np.asarray(np.memmap(file, COLUMNS[name], mode="r")) if file.exists() else None

    def __len__(self) -> int:
        return len(self._repeats)

    def find(self, keys: Any) -> np.ndarray:
        """The place of each key, (keys,) int64, −1 for one that the plan does not have.

        `keys`: a list of str, a `KeyMap`, or (keys,) int64 row numbers. Raises `InvalidValue` for keys of another kind than
        the plan's, and for one that is no text.
        """
        if len(keys) == 0:
            return np.empty(0, np.int64)
        if isinstance(keys, np.ndarray) != (self._keys is None):
            plans, asked = ("row numbers", "text") if self._keys is None else ("text", "integers")
            raise InvalidValue(
                f"the keys that are asked for are {asked}, and plan {self._plan_id} has {plans}: none would be found. Ask by the "
                "column that the table was planned by."
            )
        if self._keys is not None:
            return self._keys.find(keys) if isinstance(keys, KeyMap) else self._keys.places(keys)
        places = np.minimum(np.searchsorted(self._rows, keys), len(self) - 1)
        return np.where(self._rows[places] == keys, places, -1)

    def repeats_of(self, places: np.ndarray) -> np.ndarray:
        """How often what is at these places is visited, (places,) int64; 0 at −1."""
        return np.where(places < 0, 0, self._repeats[places]).astype(np.int64)

    def weights_of(self, places: np.ndarray) -> np.ndarray:
        """The loss weight of what is at these places, (places,) float32; 0 at −1."""
        return np.where(places < 0, np.float32(0), self._weights[places])


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked worker inherits this finalizer, but the files are not its own
        shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path, plan: PartitionedPlan) -> None:
    """Write the files: first as the parts come, then what makes them searchable. Raises `StoreDamaged` for a key twice."""
    total = 0
    with ExitStack() as stack:
        files: dict[str, Any] = {}
        for part in parts(plan):
            for name, values in _columns(part, files):
                if name not in files:
                    files[name] = stack.enter_context(open(folder / name, "wb"))
                files[name].write(np.ascontiguousarray(values, COLUMNS[name]).data)
            total += len(part.repeats)
    if not total:
        raise InvalidValue(f"plan {plan.id} visits nothing. Plan a table of which it keeps something.")
    (_sort_rows if (folder / "rows").exists() else _sort_keys)(folder, plan.id)


def _columns(part: PlanPart, files: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(part.keys, KeyMap):
        text, ends = part.keys.arrays().values()
        yield "ends", ends + (files["text"].tell() if "text" in files else 0)
        yield "text", text
    else:
        yield "rows", part.keys
    yield "repeats", part.repeats
    yield "weights", part.weights


def _sort_keys(folder: Path, plan_id: str) -> None:
    text, ends = (np.asarray(np.memmap(folder / name, COLUMNS[name], mode="r")) for name in KeyMap.ARRAYS)
    keys = KeyMap(text, ends)
    if twice := keys.twice():
        raise _comes_twice(f"key {keys.key(twice[0])!r}", plan_id)
    for name, array in keys.index._asdict().items():
        np.save(folder / f"{name}.npy", array)


def _sort_rows(folder: Path, plan_id: str) -> None:
    rows = np.fromfile(folder / "rows", COLUMNS["rows"])
    order = np.argsort(rows, kind="stable")
    twice = np.flatnonzero(np.diff(rows[order]) == 0)
    if len(twice):
        raise _comes_twice(f"row {rows[order][twice[0]]}", plan_id)
    for name in ("rows", "repeats", "weights"):
        values = np.fromfile(folder / name, COLUMNS[name])
        values[order].tofile(folder / name)


def _comes_twice(what: str, plan_id: str) -> StoreDamaged:
    return StoreDamaged(
        f"{what} comes twice in plan {plan_id}: a line is visited as often as its repeats say. Write it again."
    )
