"""Where readers stand in an epoch, as a checkpoint: from many readers, to as many or to others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adaptive_sampler.errors import ResumeError
from adaptive_sampler.shards.reading.order import ShardOrder
from adaptive_sampler.shards.reading.share import Place, Stint

_FAMILY = "adaptive_sampler.shards/"
KIND = _FAMILY + "2"
_ORDER = ("plan", "seed", "epoch", "window", "drop_last", "length")


@dataclass(frozen=True)
class ShardProgress:
    """Visits delivered: in the stints that are over, and by the readers of the present layout.

    taken: (rank, worker) -> visits, of those readers that are known; ranks in step have equal counts.
    """

    num_replicas: int = 1
    num_workers: int = 1
    taken: Mapping[tuple[int, int], int] | None = None
    past: tuple[Stint, ...] = ()

    def data(self) -> dict[str, Any]:
        """As plain lists: numbers per reader and per change of layout."""
        taken = sorted((self.taken or {}).items())
        return {
            "num_replicas": self.num_replicas,
            "num_workers": self.num_workers,
            "taken": [[rank, worker, count] for (rank, worker), count in taken],
            "past": [stint.state() for stint in self.past],
        }

    @classmethod
    def of(cls, *data: Mapping[str, Any]) -> "ShardProgress":
        """From the `data()` of one or several readers of one moment."""
        taken = {(int(r), int(w)): int(count) for one in data for r, w, count in one["taken"]}
        past = tuple(Stint.of(stint) for stint in data[0]["past"])
        return cls(int(data[0]["num_replicas"]), int(data[0]["num_workers"]), taken, past)

    def state(self, order: ShardOrder) -> dict[str, Any]:
        """A checkpoint: the progress, and what it is the progress of."""
        return {"kind": KIND, **_identity(order), **self.data()}

    def at(self, place: Place) -> tuple[tuple[Stint, ...], int]:
        """(stints over, visits delivered since) for a reader at `place`; another layout begins a new stint."""
        if not self.taken:
            return self.past, 0
        if (place.num_replicas, place.num_workers) != (self.num_replicas, self.num_workers):
            return (*self.past, self._stint()), 0
        return self.past, self._count(place.rank, place.worker)

    def _stint(self) -> Stint:
        rows = range(self.num_replicas)
        return Stint(tuple(tuple(self._count(rank, w) for w in range(self.num_workers)) for rank in rows))

    def _count(self, rank: int, worker: int) -> int:
        taken = self.taken or {}
        # Ranks run in step: one rank's state stands for those whose state was not given.
        for known in (rank, *sorted({r for r, _ in taken})):
            if (known, worker) in taken:
                return taken[known, worker]
        raise ResumeError(
            f"the state says nothing of worker {worker}: it is that of worker {sorted({w for _, w in taken})} of "
            f"{self.num_workers}. Load the whole loader's state, which holds every worker's."
        )


def states_in(state: Any) -> list[Mapping[str, Any]]:
    """Every reader's state in `state`: one of ours, a list of them, or a loader's state that has them inside."""
    if isinstance(state, Mapping):
        kind = state.get("kind")
        if isinstance(kind, str) and kind.startswith(_FAMILY) and kind != KIND:
            raise ResumeError(
                f"the state is of format {kind!r} and this adaptive-sampler reads {KIND!r}. Go on with the release that wrote it, "
                "or start the epoch anew."
            )
        if kind == KIND:
            return [state] if state.get("begun", True) else []
        if state.get("_steps_since_snapshot"):
            raise ResumeError(
                f"the loader's state is {state['_steps_since_snapshot']} batches older than its position. Save with "
                "snapshot_every_n_steps=1, or resume with the same loader, which replays them."
            )
        return [found for value in state.values() for found in states_in(value)]
    if isinstance(state, list | tuple):
        return [found for value in state for found in states_in(value)]
    return []


def merged(states: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ShardProgress]:
    """What the states of several readers of one moment say together: (the first, the progress)."""
    found = list(states)
    if not found:
        raise ResumeError("there is no state of ours in it. Load what state_dict() returned.")
    for other in found[1:]:
        for name in (*_ORDER, "num_replicas", "num_workers", "past"):
            if other[name] != found[0][name]:
                raise ResumeError(
                    f"the states differ in {name}: {found[0][name]!r} and {other[name]!r}. Load states of one moment."
                )
    return found[0], ShardProgress.of(*found)


def check_same(state: Mapping[str, Any], order: ShardOrder) -> None:
    """Raise ResumeError unless `state` was saved under this plan, seed, epoch and order."""
    for name, now in _identity(order).items():
        if state[name] != now:
            raise ResumeError(
                f"the state was saved with {name} {state[name]!r} and is loaded with {now!r}. Restore the sampler and "
                "the arguments first, then the position."
            )


def _identity(order: ShardOrder) -> dict[str, Any]:
    values = (order.kept.plan_id, order.seed, order.epoch, order.window, order.drop_last, len(order))
    return dict(zip(_ORDER, values, strict=True))
