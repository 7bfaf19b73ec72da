"""What one epoch's plan keeps, in the shape a reader needs; as files, from which a worker maps its share only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards.index import ShardIndex


class PlanLike(Protocol):
    """What is read of a plan: `adaptive_sampler.Plan` has it."""

    @property
    def id(self) -> str:
        """Names the plan."""

    @property
    def n(self) -> int:
        """Rows of the data set."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """(kept,) ascending rows that are visited."""

    @property
    def repeats(self) -> NDArray[np.uint32]:
        """(n,) visits of every row."""

    @property
    def loss_weights(self) -> NDArray[np.float32]:
        """(n,) loss weight of every row."""


@dataclass(frozen=True)
class Kept:
    """The visits of one epoch, by ascending row.

    rows: (kept,); ends: (kept,) visits up to and with each row, None where each is visited once;
    weights: (kept,) float32, None where all are 1; bounds: (shards + 1,) visits before each shard.
    """

    plan_id: str
    n: int
    rows: NDArray[Any]
    ends: NDArray[np.int64] | None
    weights: NDArray[np.float32] | None
    bounds: NDArray[np.int64]

    @classmethod
    def of(cls, plan: PlanLike, index: ShardIndex) -> "Kept":
        """Take `plan` apart along the shards of `index`. Raises InvalidValue unless both have as many rows."""
        if plan.n != len(index):
            raise InvalidValue(
                f"the plan is for {plan.n} rows and the index at {index.path} has {len(index)}. Plan with a store "
                "of the index's length: store.grow(len(index)) after shards were added, or the store's own index."
            )
        rows = np.asarray(plan.rows)
        repeats, weights = plan.repeats[rows], plan.loss_weights[rows]
        ends = None if np.all(repeats == 1) else np.cumsum(repeats, dtype=np.int64)
        bounds = np.searchsorted(rows, index.starts)
        if ends is not None:
            bounds = np.concatenate([[0], ends])[bounds]
        small = np.uint32 if plan.n <= 1 << 32 else np.int64
        return cls(
            plan.id,
            plan.n,
            rows.astype(small),
            ends,
            None if np.all(weights == 1) else weights.astype(np.float32),
            bounds.astype(np.int64),
        )

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def places(self, visits: NDArray[np.int64]) -> NDArray[np.int64]:
        """(visits,) where in `rows` each visit's row stands."""
        return visits if self.ends is None else np.searchsorted(self.ends, visits, side="right")

    def save(self, folder: Path) -> None:
        """Write to the new `folder`."""
        folder.mkdir(parents=True)
        (folder / "plan").write_text(f"{self.n} {self.plan_id}")
        for name in ("rows", "ends", "weights", "bounds"):
            values = getattr(self, name)
            if values is not None:
                np.save(folder / f"{name}.npy", values)

    @classmethod
    def load(cls, folder: Path) -> "Kept":
        """Map what `save` wrote; pages are read when touched."""
        n, plan_id = (folder / "plan").read_text().split(" ", 1)

        def column(name: str) -> NDArray[Any] | None:
            file = folder / f"{name}.npy"
            if not file.exists():
                return None
            values = np.load(file)if file.stat().st_size < 4096 else np.load(file, mmap_mode="r")
            return np.asarray(values)  # a plain array on the mapped memory

        rows, bounds = column("rows"), column("bounds")
        assert rows is not None
        assert bounds is not None
        return cls(plan_id, int(n), rows, column("ends"), column("weights"), bounds)
