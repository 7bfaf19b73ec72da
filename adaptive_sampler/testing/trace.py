"""What a training did, batch by batch, and where it was saved: the record that two runs are compared by."""

from dataclasses import dataclass, field
from typing import Any

from adaptive_sampler.disk import checksum
from adaptive_sampler.plan import Plan


@dataclass(frozen=True)
class Checkpoint:
    """A point to go on from: `batches` batches were trained on, and `state` was saved, with the store at `commit`."""

    batches: int
    state: Any
    commit: int


@dataclass
class Trace:
    """The batches that one process trained on: their rows, the plans that they came from, and the stops.

    A training calls `batch` once for each batch, when it has trained on it, and `saved` whenever it has saved itself.
    """

    rows: list[list[int]] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)  # of each batch, by its epoch and a checksum
    stops: list[Checkpoint] = field(default_factory=list)
    scores: dict[str, bytes] = field(
        default_factory=dict
    )  # at the end: of the store, and what else the training put in

    def batch(self, rows: Any, plan: Plan | None = None) -> None:
        """Note a batch: its rows, (batch,) integers, and the plan that they are of, such as `sampler.fixed_plan`."""
        self.rows.append([int(row) for row in rows])
        self.plans.append("" if plan is None else _content(plan))

    def saved(self, state: Any, commit: int) -> None:
        """Note that the training was saved as `state`, which can be pickled, with the store at `commit`."""
        self.stops.append(Checkpoint(len(self.rows), state, commit))

    def rest(self, batches: int) -> "Trace":
        """What came after the first `batches` batches."""
        return Trace(self.rows[batches:], self.plans[batches:], scores=self.scores)


def _content(plan: Plan) -> str:
    """What a plan says. Its id also says at which commit it was made, and a run that was stopped has other commits."""
    return f"{checksum([plan.repeats, plan.loss_weights])} of epoch {plan.epoch}"


def differences(wanted: Trace, got: Trace) -> str | None:
    """How `got` differs from `wanted`, in a few words; None if in nothing."""
    for at, (one, other) in enumerate(zip(wanted.rows, got.rows, strict=False)):
        if one != other:
            return f"batch {at + 1} after it has the rows {_short(other)}, and without a stop {_short(one)}"
    if len(wanted.rows) != len(got.rows):
        return f"{len(got.rows)} batches come after it, and without a stop {len(wanted.rows)}"
    for at, (before, after) in enumerate(zip(wanted.plans, got.plans, strict=True)):
        if before != after:
            return f"batch {at + 1} after it is of the plan {after}, and without a stop {before}"
    moved = sorted(name for name in wanted.scores if wanted.scores[name] != got.scores.get(name))
    return f"the same batches come after it, and {', '.join(moved)} differ at the end" if moved else None


def _short(rows: list[int]) -> str:
    return str(rows) if len(rows) <= 16 else f"{str(rows[:16])[:-1]}, …]"
