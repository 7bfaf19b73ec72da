"""Publishes an epoch's plan to a loader's workers: as files in a folder whose number is in shared memory."""

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from adaptive_sampler.errors import InvalidValue, ResumeError, SelectionLost
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.shards.reading.kept import Kept

WORKERS = 1024  # rows of the shared tables, one for each worker; worker 1024 uses row 0 again


def shared(rows: int, columns: int = 1) -> torch.Tensor:
    """(rows, columns) int64 zeros in shared memory: worker processes see when they change."""
    return cast(torch.Tensor, torch.zeros(rows, columns, dtype=torch.int64).share_memory_())  # type: ignore[no-untyped-call]  # torch has no types for it


class Begun:
    """Takes the place of the iterator that has begun a sampler's epoch (its `Progress`). The stream itself counts."""

    position = 0
    stale = ""
    let_go = False

    def reached(self, delivered: int) -> int:
        """Raises InvalidValue: the stream has an order of its own, in which a number of samples is no position."""
        raise InvalidValue(
            f"delivered={delivered}: planned shards walk this epoch in an order of their own, of which a number of samples says "
            "nothing. Save loader.state_dict() of PlannedShards.loader, or of a StatefulDataLoader around them."
        )

    def rows_from(self, delivered: int, size: int) -> None:
        """None: the sampler does not know the order in which the stream delivers rows."""

    def size_from(self, delivered: int, size: int) -> int:
        """`size`: the loader decides the size of a batch."""
        return size

    def invalidate(self, why: str) -> None:
        """Note that the sampler has gone on to another epoch, and why this one is over."""
        self.stale = why


@dataclass(frozen=True)
class PublishedEpoch:
    """One epoch as its readers see it. length: its number of visits. more: what else workers must know, as JSON data."""

    number: int
    seed: int
    length: int
    shuffle: bool
    more: dict[str, Any]
    kept: Kept
    begun: Begun = field(default_factory=Begun)


class Plans:
    """Plans the epochs of a sampler, for this process and for the workers of any DataLoader.

    In the trainer, `begin` makes and saves the plan. In a worker, `of_worker` opens the plan that was published last.
    It is pickled without the sampler: workers get a path, and tensors in shared memory.
    Raises InvalidValue for a `sampler` that is no AdaptiveSampler, or whose `replan` is a number of batches.
    """

    def __init__(self, sampler: AdaptiveSampler, starts: NDArray[np.int64]) -> None:
        if not isinstance(sampler, AdaptiveSampler):
            raise InvalidValue(f"sampler={sampler!r}: pass an AdaptiveSampler; ranks are shared out here, not there.")
        if isinstance(sampler.replan, int):
            raise InvalidValue(
                f"replan={sampler.replan} counts batches, and a stream reads its shards in one plan an epoch. Use "
                'replan="epoch" or "once".'
            )
        self.sampler: AdaptiveSampler | None = sampler
        self._starts = starts
        self.epoch: PublishedEpoch | None = None  # the epoch that was begun last
        self._waiting = False  # True if set_epoch has begun an epoch that no pass walks yet
        self._folder = Path(tempfile.mkdtemp(prefix="adaptive-sampler-"))
        weakref.finalize(self, _remove, self._folder, os.getpid())
        self._ticket = shared(1)[0]
        self._walked = shared(1, WORKERS)[0]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"sampler": None, "epoch": None, "_starts": None}

    @property
    def owner(self) -> AdaptiveSampler:
        """The sampler. Raises SelectionLost in a worker, which has none."""
        if self.sampler is None or get_worker_info() is not None:
            raise SelectionLost("a loader's worker cannot plan: call this in the trainer.")
        return self.sampler

    def set_epoch(self, epoch: int, more: Callable[[], dict[str, Any]]) -> None:
        """Go to `epoch`, plan it, and publish it to the workers. `more()`: what else they must know."""
        owner = self.owner
        if self._waiting and owner.epoch == epoch and not self.walked_by_workers():
            return
        if self.epoch is None or owner.epoch != epoch:
            owner.set_epoch(epoch)
            self._begin(more())
        else:
            self.epoch = replace(self.epoch, more=more())  # the same epoch again, from its start
        self._publish()
        self._waiting = True

    def begin(self, more: Callable[[], dict[str, Any]], *, publish: bool) -> PublishedEpoch:
        """The epoch that a new pass walks: the one that was set, or else the next one. Called in the trainer."""
        if not self._waiting:
            self._begin(more())
            if publish:
                self._publish()
        self._waiting = False
        assert self.epoch is not None
        return self.epoch

    def check(self, epoch: PublishedEpoch) -> None:
        """Raise ResumeError if the sampler has gone on to another epoch while a pass in this process walks `epoch`."""
        if epoch.begun.stale:
            raise ResumeError(epoch.begun.stale)

    def restart(self) -> None:
        """Forget the epoch that was begun, because a state was loaded into the sampler."""
        self.epoch, self._waiting = None, False

    def walked_by_workers(self) -> bool:
        """Whether a loader's worker has begun the epoch that was published last."""
        return bool((self._walked == self._ticket).any()) and self.ticket() > 0

    def _begin(self, more: dict[str, Any]) -> None:
        owner = self.owner
        if owner.start and owner.walking is None:
            raise ResumeError(
                f"the sampler was loaded with a state at sample {owner.start} of epoch {owner.epoch}, which is no place in planned "
                "shards: they would walk the whole epoch again. Load what loader.state_dict() of PlannedShards.loader returned."
            )
        owner.store.session.drain()  # the plan must see the scores that the hooks still hold
        begun = Begun()
        owner.begin_by(begun)  # fixes the plan, and goes on to the next epoch if one had begun
        owner.store.session.plans.save()  # a state that a worker takes may name it
        begun.position = len(owner)  # drawn at once, as the sampler sees it: the loader counts what is delivered
        kept = Kept.of(owner.plan, self._starts)
        self.epoch = PublishedEpoch(owner.epoch, owner.seed, len(owner), owner.shuffle, more, kept, begun)

    def _publish(self) -> None:
        epoch = self.epoch
        assert epoch is not None
        ticket = self.ticket() + 1
        folder = self._folder / str(ticket)
        epoch.kept.save(folder)
        about = {name: getattr(epoch, name) for name in ("number", "seed", "length", "shuffle", "more")}
        (folder / "epoch.json").write_text(json.dumps(about))
        self._ticket[0] = ticket
        # The folder of the epoch before stays, because some workers may still read it.
        shutil.rmtree(self._folder / str(ticket - 2), ignore_errors=True)

    def ticket(self) -> int:
        """The number of the epoch that was published last; 0 before the first."""
        return int(self._ticket[0])

    def of_worker(self, ticket: int) -> PublishedEpoch:
        """The epoch that was published as `ticket`. Called in a worker. Raises SelectionLost if none was published."""
        if ticket == 0:
            raise SelectionLost(
                "a DataLoader's worker was started before any epoch was planned: call set_epoch(epoch) in the trainer "
                "before each epoch, or iterate .loader(...), which does."
            )
        folder = self._folder / str(ticket)
        about = json.loads((folder / "epoch.json").read_text())
        return PublishedEpoch(kept=Kept.load(folder), **about)

    def enter(self, ticket: int, worker: int) -> PublishedEpoch:
        """The same, and note that `worker` walks it. Raises SelectionLost if it walks it again without a set_epoch."""
        epoch = self.of_worker(ticket)
        if self._walked[worker % WORKERS] == ticket:
            raise SelectionLost(
                "a DataLoader with workers begins another epoch, and nobody told the trainer: it would repeat the last "
                "plan in the same order. Call set_epoch(epoch) before each epoch, or iterate .loader(...), which does."
            )
        self._walked[worker % WORKERS] = ticket
        return epoch


def _remove(folder: Path, pid: int) -> None:
    # A forked worker inherits this finalizer, but the files belong to the trainer.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
