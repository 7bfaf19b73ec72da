"""Passes over a table by the tasks of a Ray cluster: what they find is merged there too, in a tree, and comes back as one."""

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from adaptive_sampler.errors import InvalidValue, WorkerLost
from adaptive_sampler.tables.arrow.sources import ArrowTable, Piece, TableLines, pieces
from adaptive_sampler.tables.planning.engines import Found, Merge, TableShare, Task
from adaptive_sampler.version import installed

try:
    import ray
except ImportError as error:
    raise ImportError('engine="ray" needs Ray: pip install "adaptive-sampler[ray]"', name="ray") from error

FAN = 8  # results that one task merges
AHEAD = 2  # calls at a time for each CPU of the cluster: one that runs, and one that waits for it
RETRIES = 4  # how often a call is made again whose worker or node died; one that raised an error is not
INLINE = 100 << 10  # bytes; a smaller result travels to the process that asked for it, in Ray's answer


class RayEngine:
    """Calls tasks on the Ray cluster that this process is connected to, or else on the one that `ray.init()` finds or starts.

    That is left running, as Ray's own libraries leave it: `ray.shutdown()` ends it. Files are read by the workers, at the same
    paths. Tables in memory are put into Ray's object store, once.

    `received`: how many bytes this process received from the cluster in each pass, results and the notes of calls, pickled.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._session = _session()
        self._kept: dict[int, tuple[TableShare, Any]] = {}  # by id: a share and where it lies in the object store

    def pieces(self, source: Any) -> list[Piece]:
        """As `sources.pieces`; also of a `ray.data.Dataset`, whose blocks are the partitions. It is executed here, once."""
        if isinstance(source, list | tuple) and source:
            return [piece for one in source for piece in self.pieces(one)]
        if isinstance(source, str | os.PathLike):
            return [*pieces(Path(source).absolute())]  # workers may be in another folder
        return _blocks(source) if hasattr(source, "to_arrow_refs") else [*pieces(source)]

    def run(
        self, task: Task[Found], shares: Sequence[TableShare], arguments: tuple[Any, ...], merge: Merge[Found]
    ) -> Found:
        """As `Engine.run`. Raises `WorkerLost` if a call was lost more often than it is made again."""
        if self._session != (now := _session()):  # what lay in the object store of another is gone
            self._session, self._kept = now, {}
        tree = _MergeTree(ray.put(_PassGiven(task, arguments, merge, installed())))
        self.received.append(0)
        try:
            for share in shares:
                if not tree.failed:
                    tree.add(share, self._put(share))
            whole = tree.result()
        except BaseException:
            tree.cancel()
            raise
        finally:
            self.received[-1] += tree.received
        try:
            found: Found = ray.get(whole)
        except ray.exceptions.RayError as error:
            raise WorkerLost(_lost("its merged result", error)) from error
        size = _size(found)
        self.received[-1] += size if size >= INLINE else 0  # a smaller one came with its note, and is counted
        return deepcopy(found)  # which may be changed: arrays in the object store may not

    def _put(self, share: TableShare) -> Any:
        """Where the share lies in the object store; it is put there if it is not there yet."""
        if id(share) not in self._kept:
            self._kept[id(share)] = share, ray.put(share)
        return self._kept[id(share)][1]


def _session() -> tuple[str, str]:
    """What tells this connection to a cluster from others. Connects if there is none."""
    if not ray.is_initialized():
        ray.init()
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_job_id()


class _MergeTree:
    """The calls of one pass. `received`: bytes that came here; `failed`: what calls raised, and the numbers of their shares."""

    def __init__(self, given: Any) -> None:
        self._given = given
        self._limit = AHEAD * max(2, int(ray.cluster_resources().get("CPU", 0)))
        self._calls = 0
        self._running: dict[Any, tuple[Any, str]] = {}  # the note of a call -> its result, and what it is about
        self._ready: list[Any] = []
        self.received = 0
        self.failed: list[tuple[int, Exception]] = []

    def add(self, share: TableShare, at: Any) -> None:
        """Call the task for a share, which lies `at` in the object store, once fewer than the limit run."""
        while len(self._running) >= self._limit:
            self._take()
        found, note = _call.remote(self._given, self._calls, at)
        self._running[note] = found, ", ".join(piece.name for piece in share.pieces[:3])
        self._calls += 1

    def result(self) -> Any:
        """Where the merged result lies. Raises what a task raised, for the first share if there are several."""
        while self._running or (len(self._ready) > 1 and not self.failed):
            if not self._running:
                self._join(self._ready)
            self._take()
        if self.failed:
            raise min(self.failed, key=lambda one: one[0])[1]
        return self._ready[0]

    def cancel(self) -> None:
        """Give up what still waits or runs."""
        for note in self._running:
            ray.cancel(note)

    def _take(self) -> None:
        """Wait for one call to end, and merge results if there are enough of them."""
        (note,), _ = ray.wait([*self._running], num_returns=1)
        found, about = self._running.pop(note)
        try:
            told: _CallNote = ray.get(note)
        except ray.exceptions.RayError as error:
            raise WorkerLost(_lost(about, error)) from error
        self.received += len(pickle.dumps(told)) + (told.size if told.size < INLINE else 0)
        if told.error is not None:
            self.failed.append((told.number, told.error))
        else:
            self._ready.append(found)
        if len(self._ready) >= FAN and not self.failed:
            self._join(self._ready[:FAN])

    def _join(self, some: list[Any]) -> None:
        found, note = _join.remote(self._given, *some)
        self._running[note] = found, f"{len(some)} results, which were to be merged"
        self._ready = self._ready[len(some) :]


def _lost(about: str, error: Exception) -> str:
    """What is said of a call that Ray gave up."""
    cause = getattr(error, "cause", None) or error
    last = str(cause).strip().splitlines()[-1:] or [""]
    return (
        f"a call of the pass over the table was lost ({about}), after {RETRIES} repetitions where its worker died: "
        f"{type(cause).__name__}: {last[0]}. Each node needs this package, of the same version, and memory for a call on each CPU. "
        "Then plan again: nothing was written."
    )


# -- what runs on the cluster -------------------------------------------------------------------------------------------


class _PassGiven(NamedTuple):
    """What all calls of a pass are given. `version`: of this package, where the plan is made."""

    task: Task[Any]
    arguments: tuple[Any, ...]
    merge: Merge[Any]
    version: str


class _CallNote(NamedTuple):
    """What is told of a call: the number of its share, what it raised, and how many bytes its result has, pickled."""

    number: int
    error: Exception | None
    size: int


def _found(given: _PassGiven, number: int, share: TableShare) -> tuple[Any, _CallNote]:
    """Call the task. An error is returned, not raised: Ray would wrap it."""
    try:
        _check_version(given.version, installed_here())
        found = given.task(share, *given.arguments)
    except FileNotFoundError as error:
        return None, _CallNote(number, InvalidValue(_missing(error)), 0)
    except Exception as error:
        return None, _CallNote(number, error, 0)
    return found, _CallNote(number, None, _size(found))


def _missing(error: FileNotFoundError) -> str:
    node = ray.util.get_node_ip_address()
    return f"a worker on {node} does not find a file: {error}. Files have one path on every node: on a file system that all see."


def _merged(given: _PassGiven, *found: Any) -> tuple[Any, _CallNote]:
    """Merge what several calls found."""
    whole = deepcopy(found[0])  # arrays in the object store may not be changed
    for more in found[1:]:
        whole = given.merge(whole, more)
    return whole, _CallNote(-1, None, _size(whole))


_call = ray.remote(_found).options(num_returns=2, max_retries=RETRIES, name="plan_table: pass")
_join = ray.remote(_merged).options(num_returns=2, max_retries=RETRIES, name="plan_table: merge")


@cache
def installed_here() -> str:
    """The version of this package in this process."""
    return installed()


def _check_version(theirs: str, ours: str) -> None:
    """Raise `InvalidValue` if a worker has another version of this package, which may plan otherwise."""
    if theirs != ours:
        raise InvalidValue(
            f"the plan is made by adaptive-sampler {theirs}, and a worker on {ray.util.get_node_ip_address()} has {ours}: install "
            "the same version on every node."
        )


def _size(found: Any) -> int:
    """How many bytes it has, pickled."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(found, 5, buffer_callback=buffers.append)  # arrays are not copied for it
    return len(data) + sum(buffer.raw().nbytes for buffer in buffers)


# -- a Dataset of Ray Data ----------------------------------------------------------------------------------------------


class DatasetBlock:
    """A block of a `ray.data.Dataset`, in the object store."""

    typed = True

    def __init__(self, block: Any, schema: Any, lines: int) -> None:
        self.name = "the Dataset"
        self.path: Path | None = None
        self.schema = schema
        self._block, self._lines = block, lines

    def __len__(self) -> int:
        return self._lines

    def batches(self, kinds: Mapping[str, Any]) -> Iterator[TableLines]:
        """As `Piece.batches`."""
        table = ArrowTable(ray.get(self._block))
        table.name = self.name
        return table.batches(kinds)


def _looked_at(block: Any) -> tuple[Any, int]:
    return block.schema, len(block)


_look = ray.remote(_looked_at).options(max_retries=RETRIES)


def _blocks(source: Any) -> list[Piece]:
    """The blocks of a Dataset, which it is executed for; those without columns have no lines, and are left out.

    Raises `InvalidValue` if there is none.
    """
    refs = source.to_arrow_refs()
    looks = ray.get([_look.remote(ref) for ref in refs])
    found: list[Piece] = [DatasetBlock(ref, *look) for ref, look in zip(refs, looks, strict=True) if len(look[0])]
    if not found:
        raise InvalidValue("the Dataset has no block with columns: there is no table in it.")
    return found
