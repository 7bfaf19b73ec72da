"""What one epoch's plan keeps, in the shape a reader needs; as files, from which a worker maps its share only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan


@dataclass(frozen=True)
class Kept:
    """The visits of one epoch, by ascending row.

    rows: (kept,); ends: (kept,) visits up to and with each row, None where each is visited once;
    weights: (kept,) float32, None where all are 1; bounds: (shards + 1,) visits before each shard.
    """

    plan_id: str
    rows: NDArray[Any]
    ends: NDArray[np.int64] | None
    weights: NDArray[np.float32] | None
    bounds: NDArray[np.int64]

    @classmethod
    def of(cls, plan: Plan, starts: NDArray[np.int64]) -> "Kept":
        """Take `plan` apart along the shards, which begin at rows `starts` (shards + 1,).

        Raises InvalidValue unless the plan has as many rows as the shards.
        """
        if plan.n != starts[-1]:
            raise InvalidValue(
                f"the plan is for {plan.n} rows and the shards have {starts[-1]}. After shards were added, grow the "
                f"store: store.grow({starts[-1]}, keys=index.keys_of({plan.n}, {starts[-1]})); otherwise open the "
                "index that the store was made with."
            )
        rows = plan.rows
        bounds = np.searchsorted(rows, starts)
        ends = None if plan.counts is None else np.cumsum(plan.counts, dtype=np.int64)
        if ends is not None:
            bounds = np.concatenate([np.zeros(1, np.int64), ends])[bounds]
        small = np.uint32 if plan.n <= 1 << 32 else np.int64
        return cls(plan.id, rows.astype(small), ends, plan.weights, bounds.astype(np.int64))

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def places(self, visits: NDArray[np.int64]) -> NDArray[np.int64]:
        """(visits,) where in `rows` each visit's row stands."""
        return visits if self.ends is None else np.searchsorted(self.ends, visits, side="right")

    def save(self, folder: Path) -> None:
        """Write to the new `folder`."""
        folder.mkdir(parents=True)
        (folder / "plan").write_text(self.plan_id)
        for name in ("rows", "ends", "weights", "bounds"):
            values = getattr(self, name)
            if values is not None:
                np.save(folder / f"{name}.npy", values)

    @classmethod
    def load(cls, folder: Path) -> "Kept":
        """Map what `save` wrote; pages are read when touched."""

        def column(name: str) -> Any:
            file = folder / f"{name}.npy"
            # A plain array on the mapped memory: np.memmap itself is four times slower to index.
            return np.asarray(np.load(file, mmap_mode="r")) if file.exists() else None

        plan_id = (folder / "plan").read_text()
        return cls(plan_id, column("rows"), column("ends"), column("weights"), column("bounds"))
