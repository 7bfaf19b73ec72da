"""Checkpoints of readers within an epoch: saved by many readers, and loaded by as many, by more or by fewer."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

from adaptive_sampler.checks import is_whole
from adaptive_sampler.errors import ResumeError
from adaptive_sampler.shards.reading.order import ShardOrder
from adaptive_sampler.shards.reading.share import Place, Stint

_FAMILY = "adaptive_sampler.shards/"
KIND = _FAMILY + "3"
READERS = 1 << 20  # of one epoch, at most: more ranks times workers than any job has
_ORDER = ("plan", "index", "seed", "epoch", "window", "drop_last", "length")
# What a state of this kind holds: name -> (what that is, whether a value is such)
_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "plan": ("a plan's id", lambda value: isinstance(value, str)),
    "index": ("an index's digest", lambda value: isinstance(value, str)),
    **dict.fromkeys(("seed", "epoch", "window", "length"), ("a whole number, 0 or more", is_whole)),
    "drop_last": ("true or false", lambda value: isinstance(value, bool)),
    **dict.fromkeys(
        ("num_replicas", "num_workers"),
        (f"a whole number from 1 to {READERS}", lambda value: is_whole(value, 1, most=READERS)),
    ),
    "taken": (
        "a list of [rank, worker, count], whole numbers",
        lambda value: isinstance(value, list) and bool(value) and _table(value, 3),
    ),
    "past": ("a list of tables of whole numbers", lambda value: isinstance(value, list) and all(map(_table, value))),
}


@dataclass(frozen=True)
class ShardProgress:
    """How many visits were delivered: in the stints that are over, and by the readers of the present layout.

    taken: (rank, worker) -> visits delivered in the present layout; None if there are none. One rank's entries are
    enough, because ranks that run in step have equal counts. past: the stints that are over.
    """

    num_replicas: int = 1
    num_workers: int = 1
    taken: Mapping[tuple[int, int], int] | None = None
    past: tuple[Stint, ...] = ()

    def data(self) -> dict[str, Any]:
        """The progress as plain lists: a few numbers per reader, and per change of the layout."""
        taken = sorted((self.taken or {}).items())
        return {
            "num_replicas": self.num_replicas,
            "num_workers": self.num_workers,
            "taken": [[rank, worker, count] for (rank, worker), count in taken],
            "past": [stint.state() for stint in self.past],
        }

    @classmethod
    def of(cls, *data: Mapping[str, Any]) -> "ShardProgress":
        """The progress from the `data()` of one or several readers, all of the same moment."""
        taken = {(int(r), int(w)): int(count) for one in data for r, w, count in one["taken"]}
        past = tuple(Stint.of(stint) for stint in data[0]["past"])
        return cls(int(data[0]["num_replicas"]), int(data[0]["num_workers"]), taken, past)

    def state(self, order: ShardOrder) -> dict[str, Any]:
        """A checkpoint: the progress, with the plan, seed, epoch and settings that it belongs to."""
        return {"kind": KIND, **_identity(order), **self.data()}

    def at(self, place: Place) -> tuple[tuple[Stint, ...], int]:
        """Where a reader at `place` goes on: (the stints that are over, the visits that it has delivered since then).

        If the layout has changed, a new stint begins. Raises ResumeError if nothing is known of the reader's worker.
        """
        if not self.taken:
            return self.past, 0
        if (place.num_replicas, place.num_workers) != (self.num_replicas, self.num_workers):
            return self.stints, 0
        return self.past, self._count(place.rank, place.worker)

    @property
    def stints(self) -> tuple[Stint, ...]:
        """All stints up to now, the present one included."""
        return (*self.past, self._stint()) if self.taken else self.past

    def _stint(self) -> Stint:
        rows = range(self.num_replicas)
        return Stint(tuple(tuple(self._count(rank, w) for w in range(self.num_workers)) for rank in rows))

    def _count(self, rank: int, worker: int) -> int:
        taken = self.taken or {}
        # Ranks run in step: one rank's counts are used for ranks whose state was not given.
        for known in (rank, *sorted({r for r, _ in taken})):
            if (known, worker) in taken:
                return taken[known, worker]
        raise ResumeError(
            f"the state says nothing of worker {worker}: it is that of worker {sorted({w for _, w in taken})} of "
            f"{self.num_workers}. Load the whole loader's state, which holds every worker's."
        )


def states_in(state: Any) -> list[Mapping[str, Any]]:
    """Find the readers' states in `state`: a reader's state, a list of them, or a loader's state that contains some.

    A state whose epoch has not begun contains none. Raises ResumeError for a state of another format, and for a
    loader's state that is older than the loader's position.
    """
    if isinstance(state, Mapping):
        kind = state.get("kind")
        if isinstance(kind, str) and kind.startswith(_FAMILY) and kind != KIND:
            raise ResumeError(
                f"the state is of format {kind!r} and this adaptive-sampler reads {KIND!r}. Go on with the release that wrote it, "
                "or start the epoch anew."
            )
        if isinstance(kind, str) and kind == KIND:
            return [] if state.get("begun") is False else [_checked(state)]
        if state.get("_steps_since_snapshot"):
            raise ResumeError(
                f"the loader's state is {state['_steps_since_snapshot']} batches older than its position. Save with "
                "snapshot_every_n_steps=1, or resume with the same loader, which replays them."
            )
        return [found for value in state.values() for found in states_in(value)]
    if isinstance(state, list | tuple):
        return [found for value in state for found in states_in(value)]
    return []


def _checked(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """`state`, if it has all that a reader's state has, each of its kind. Raises ResumeError."""
    missing = sorted(_FIELDS.keys() - set(state))
    if missing:
        raise ResumeError(f"the state lacks {', '.join(missing)}. Load what state_dict() returned.")
    for name, (what, sound) in _FIELDS.items():
        if not sound(state[name]):
            raise ResumeError(
                f"the state is damaged: {name}={short(state[name])}, which must be {what}. Load what state_dict() returned."
            )
    ranks, workers, length = state["num_replicas"], state["num_workers"], state["length"]
    if ranks * workers > READERS:
        raise ResumeError(
            f"the state is damaged: it is of {ranks} ranks with {workers} workers each. Load what state_dict() returned."
        )
    for rank, worker, count in state["taken"]:
        if rank >= ranks or worker >= workers or count > length:
            raise ResumeError(
                f"the state is damaged: worker {worker} of rank {rank} delivered {count} visits, of {length} among {ranks} ranks "
                f"with {workers} workers each. Load what state_dict() returned."
            )
    return state


def _table(value: Any, columns: int | None = None) -> bool:
    """Whether it is a list of lists of whole numbers; `columns`: as long as this, each of them."""
    lines = isinstance(value, list | tuple) and all(isinstance(line, list | tuple) for line in value)
    return lines and all(columns in (None, len(line)) and all(map(is_whole, line)) for line in value)


def merged(states: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ShardProgress]:
    """Merge the states that several readers saved at the same moment -> (the first state, the progress of all).

    Raises ResumeError if there is no state, or if the states differ in the plan, the settings or the layout.
    """
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
    """Raise ResumeError unless `state` was saved with the plan, index, seed, epoch and settings of `order`."""
    for name, now in _identity(order).items():
        if state[name] != now:
            raise ResumeError(
                f"the state was saved with {name} {state[name]!r} and is loaded with {now!r}. Restore the sampler and "
                "the arguments first, then the position."
            )


def _identity(order: ShardOrder) -> dict[str, Any]:
    values = (order.kept.plan_id, order.index, order.seed, order.epoch, order.window, order.drop_last, len(order))
    return dict(zip(_ORDER, values, strict=True))
