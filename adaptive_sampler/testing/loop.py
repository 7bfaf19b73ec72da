"""A training loop over a loader, without a model: what `check_resume` drives where all that matters is the loader."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.testing.trace import Trace


class Loop:
    """Iterates a loader epoch by epoch, records made-up observations, and saves itself after every batch and epoch.

    `loader`: its rows are drawn by one of our samplers, and its batches carry them, as those over an `IndexedDataset` do.
    `set_epoch`: tell the sampler each epoch's number. `watch`: iterate `LossHook.watch(loader)`. `save` and `load`: how the
    place is kept, `save(hook)` -> state, `load(state)`; by default by the loader's `state_dict`, or the sampler's where the
    loader has none. `counts_epochs`: the loader itself says which epoch comes, as torchdata's nodes do: where a state leaves
    nothing of an epoch, the next one may begin at once.

    What is recorded for a row depends on the row and on how often it was recorded before, so a row that is missed or comes
    twice changes its scores, and with them the plans that follow. A store that is open for reading is left as it is.

    Raises `InvalidValue` if no sampler of ours is behind the loader.
    """

    def __init__(
        self,
        loader: Any,
        *,
        set_epoch: bool = False,
        watch: bool = True,
        save: Callable[[Any], Any] | None = None,
        load: Callable[[Any], None] | None = None,
        counts_epochs: bool = False,
    ) -> None:
        import torch

        from adaptive_sampler.torch.data.chain import find_sampler
        from adaptive_sampler.torch.hook.hook import LossHook
        from adaptive_sampler.torch.ranks.sampler import inner

        found = find_sampler(loader)
        if found is None:
            raise InvalidValue(f"{loader!r} has no sampler of ours: pass it one as sampler= or batch_sampler=.")
        self.loader, self.sampler, self._inner = loader, found, inner(found)
        self.store: ScoreStore = self._inner.store
        self.hook = LossHook(torch.nn.CrossEntropyLoss(), self.store)
        self._told, self._watched, self._counts = set_epoch, watch, counts_epochs
        self._stateful = hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")
        # No method of this object: a circle would leave the loader's workers to the garbage collector, which ends the
        # threads that talk to them first, and waits.
        self._save, self._load = save, load or (loader if self._stateful else found).load_state_dict

    def train(self, epochs: int, trace: Trace, resume: Any = None) -> None:
        """As `Resumable.train`."""
        epoch = 0
        if resume is not None:
            epoch = resume["epoch"]
            self._load(resume["walk"])
        while epoch < epochs:
            if self._told:
                self.sampler.set_epoch(epoch)
            for rows in self._pass():
                self._record(rows)
                trace.batch(rows, self._plan())
                self._keep(trace, epoch, save=resume is None)  # who goes on commits as seldom as an epoch ends
            epoch = self._inner.epoch + 1 if self._counts else epoch + 1
            self._keep(trace, epoch)
        if self._counts:  # where a last batch is held, such a loader begins an epoch that nobody asked for
            trace.stops = [stop for stop in trace.stops if stop.batches < len(trace.rows)]

    def _pass(self) -> Iterator[np.ndarray]:
        """The rows of each batch, (batch,) int64, while the loop holds it."""
        from adaptive_sampler.torch.data.rows import row_key

        noted = _Noted(self.loader, row_key(self.loader))
        for _ in self.hook.watch(noted) if self._watched else noted:
            if self._watched:
                self.hook.forget()
            yield noted.rows

    def _record(self, rows: np.ndarray) -> None:
        store = self.store
        if store.session.mode == "r":
            return
        times = sum((store.count(name)[rows].astype(np.int64) for name in store.names), np.zeros(len(rows), np.int64))
        noise = np.sin((rows + 1) * 12.9898 + (times + 1) * 78.233) * 43758.5453 % 1  # in [0, 1)
        labels = rows % 3
        logits = np.stack([noise, noise * 7 % 1, noise * 31 % 1], axis=1)
        made: dict[str, Any] = {"logits": logits, "labels": labels, "loss": noise}
        store.update(rows, **{name: value for name, value in made.items() if store.session.takes(name)})

    def _plan(self) -> Plan | None:
        return None if isinstance(self._inner.replan, int) else self._inner.fixed_plan

    def _keep(self, trace: Trace, epoch: int, *, save: bool = True) -> None:
        """Sync the store, and with `save` commit it and save the place."""
        from adaptive_sampler.torch.ranks.sync import committed, sync

        if save:
            commit = committed(self.store, self.sampler)
            trace.saved({"epoch": epoch, "walk": self._place()}, commit)
        elif self.store.session.journal is not None:
            sync(self.store, self.sampler)

    def _place(self) -> Any:
        """The state of the loader, or of the sampler where the loader has none."""
        if self._save is not None:
            return self._save(self.hook)
        if self._stateful:
            return self.loader.state_dict()
        return self.sampler.state_dict(**({"delivered": self.hook.delivered} if self._watched else {}))


class _Noted:
    """A loader that notes the rows of the batch that it delivers; it has the attributes of the loader."""

    def __init__(self, loader: Any, key: str | None) -> None:
        self.iterable, self._key = loader, key
        self.rows: np.ndarray = np.zeros(0, np.int64)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.iterable, name)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.iterable:
            rows = batch[self._key] if isinstance(batch, Mapping) else batch[0]
            self.rows = np.asarray(rows)
            yield batch
