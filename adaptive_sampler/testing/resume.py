"""The contract of resuming: stop after every batch, go on in a fresh process, and compare with the run that never stopped."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.testing.loop import Loop
from adaptive_sampler.testing.processes import in_processes
from adaptive_sampler.testing.trace import Checkpoint, Trace, differences

Make = Callable[[Path, int | None], Any]


@runtime_checkable
class Resumable(Protocol):
    """A training that can be saved and gone on with: what `make` returns where it is more than a loop over a loader."""

    store: ScoreStore  # once it has trained

    def train(self, epochs: int, trace: Trace, resume: Any = None) -> None:
        """Train up to the end of epoch `epochs` - 1, from the beginning or from the state `resume`.

        Call `trace.batch(rows, plan)` after each batch, and `trace.saved(state, commit)` after each batch and after each
        epoch at which the training can be saved; `state` must be what this method takes as `resume`.
        """


def check_resume(
    make: Make, *, epochs: int = 3, ranks: int = 1, folder: Path | None = None, timeout: float = 600.0
) -> None:
    """Check that a training goes on exactly, wherever it is stopped. Raises AssertionError, which says where it does not.

    It is trained once for `epochs` epochs without a stop, and saved after every batch and after every epoch. Then, in fresh
    processes, it is made anew for each of these states, and goes on to the end. Rows, plans and scores must be those of
    the run that never stopped, to the last bit.

    `make(folder, commit)`: what your script does at its start. It opens the store in `folder` at the commit `commit`, or
    creates it if that is None, as `distributed_store(folder / "scores", n, scores, version=commit)` does, and returns a
    loader over rows that one of our samplers draws, or a `Resumable`. Over a loader runs a `Loop`, which records values of
    its own: no model is needed. `make` is called in processes of its own and must therefore be a function that can be
    pickled: one at the top of a module, or a functools.partial of it.

    `ranks`: how many processes train together, in a gloo process group. `folder`: where the store lies, empty; None for a
    temporary folder. `timeout`: the seconds that the training may take, and then all resumes together.

    Raises `InvalidValue` if `make` cannot be pickled, or returns anything else; what `make` or the training itself raises
    comes as RuntimeError.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(folder or temporary)
        wholes = in_processes(ranks, timeout, _whole, make, place, epochs)
        saved = [[stop.batches for stop in whole.stops] for whole in wholes]
        assert any(saved), "the training was never saved: call trace.saved(state, commit) after each batch"
        assert all(one == saved[0] for one in saved), (
            f"the ranks were saved after different numbers of batches: {saved}"
        )
        again = in_processes(ranks, timeout, _resumed, make, place, epochs, [whole.stops for whole in wholes])
    wrong = [line for rank in range(ranks) for line in _wrong(wholes[rank], again[rank], rank if ranks > 1 else None)]
    assert not wrong, "\n".join(
        [f"{len(wrong)} of {len(saved[0]) * ranks} resumes differ from the run that never stopped:", *wrong[:10]]
    )


def _wrong(whole: Trace, again: list[Trace], rank: int | None) -> Iterator[str]:
    """A line for each stop after which the run that was stopped differs."""
    for stop, got in zip(whole.stops, again, strict=True):
        found = differences(whole.rest(stop.batches), got)
        if found is not None:
            yield f"stopped after batch {stop.batches}{'' if rank is None else f' of rank {rank}'}: {found}"


def _whole(rank: int, make: Make, folder: Path, epochs: int) -> Trace:
    """Train without a stop."""
    return _trained(_made(make, folder, None), epochs, None)


def _resumed(rank: int, make: Make, folder: Path, epochs: int, stops: list[list[Checkpoint]]) -> list[Trace]:
    """Go on from each stop of this rank."""
    return [_trained(_made(make, folder, stop.commit), epochs, stop) for stop in stops[rank]]


def _made(make: Make, folder: Path, commit: int | None) -> Resumable:
    made = make(folder, commit)
    if isinstance(made, Resumable):
        return made
    if not hasattr(made, "__iter__"):
        raise InvalidValue(
            f"make returned {made!r}: return a loader whose rows one of our samplers draws, or a Resumable, which has "
            "`store` and `train(epochs, trace, resume=None)`."
        )
    return Loop(made)


def _trained(training: Resumable, epochs: int, stop: Checkpoint | None) -> Trace:
    trace = Trace()
    training.train(epochs, trace, None if stop is None else stop.state)
    with training.store as store:
        columns = {f"{name}: {what}": column.tobytes() for name in store.names for what, column in _of(store, name)}
    trace.scores |= columns
    if stop is not None:
        trace.stops = []
    return trace


def _of(store: ScoreStore, name: str) -> Iterator[tuple[str, np.ndarray]]:
    """All that a store holds of a score."""
    yield "value", store[name]
    yield "count", store.count(name)
    yield "last seen", store.last_seen(name)
