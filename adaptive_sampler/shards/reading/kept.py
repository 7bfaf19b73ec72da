"""What one epoch's plan keeps, in the form that a reader needs. Workers get it as files that they map into memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan


@dataclass(frozen=True)
class Kept:
    """The visits of one epoch, in ascending order of their rows. A row has several visits if the plan repeats it.

    rows: (kept,) uint32 or int64, the kept rows, ascending, each once.
    ends: (kept,) the number of visits up to and including each row; None if every row is visited once.
    weights: (kept,) the loss weight of each row; None if all weights are 1.
    bounds: (shards + 1,) the number of visits before each shard; the last entry counts all visits.
    """

    plan_id: str
    rows: NDArray[Any]
    ends: NDArray[np.int64] | None
    weights: NDArray[np.float32] | None
    bounds: NDArray[np.int64]

    @classmethod
    def of(cls, plan: Plan, starts: NDArray[np.int64]) -> "Kept":
        """Split `plan` by shard. `starts`: (shards + 1,) the first row of each shard, and the number of all rows.

        Raises InvalidValue if the plan and the shards have different numbers of rows.
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
        """The position in `rows` of each visit's row: (visits,) -> (visits,)."""
        return visits if self.ends is None else np.searchsorted(self.ends, visits, side="right")

    def save(self, folder: Path) -> None:
        """Write everything into the new `folder`."""
        folder.mkdir(parents=True)
        (folder / "plan").write_text(self.plan_id)
        for name in ("rows", "ends", "weights", "bounds"):
            values = getattr(self, name)
            if values is not None:
                np.save(folder / f"{name}.npy", values)

    @classmethod
    def load(cls, folder: Path) -> "Kept":
        """Map the files that `save` wrote. Their pages are read from disk at first use."""

        def column(name: str) -> Any:
            file = folder / f"{name}.npy"
            # A plain array over the mapped memory, because np.memmap itself is four times slower to index.
            return np.asarray(np.load(file, mmap_mode="r")) if file.exists() else None

        plan_id = (folder / "plan").read_text()
        return cls(plan_id, column("rows"), column("ends"), column("weights"), column("bounds"))
