"""What every loss hook has: it watches a loader, keeps the rows of its batches, and brings measured values to the store."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.data.delivery import Delivery
from adaptive_sampler.torch.data.rows import row_key, split
from adaptive_sampler.torch.data.watched import Watched
from adaptive_sampler.torch.hook.effective import Applied
from adaptive_sampler.torch.hook.pending import Fresh, PendingRows
from adaptive_sampler.torch.hook.recorder import Recorder


@dataclass
class Inside:
    """All private state of a hook, in one object, because setting an attribute on an nn.Module is slow."""

    recorder: Recorder
    pending: PendingRows = field(default_factory=PendingRows)
    watched: Delivery = field(default_factory=Delivery)
    applied: Applied = field(default_factory=Applied)
    sampler: AdaptiveSampler | None = None
    again: int = 0  # how many `again()` contexts are open
    elsewhere: np.ndarray | None = None  # (batch,) loss weights that a Trainer applies to what is recorded now

    def weights_of(self, given: np.ndarray | None) -> np.ndarray | None:
        """The loss weights of a call: those that the hook itself, or else a Trainer, applies; None if nothing weighs."""
        return self.elsewhere if given is None else given

    def applies(self, length: int, fresh: Fresh, weights: np.ndarray | None) -> None:
        """Count the loss weights of a call, as `Applied.add` takes them; a rehearsal is none."""
        session = self.recorder.store.session
        if not session.rehearsal:
            self.applied.add(session.clock.epoch, length, fresh, self.weights_of(weights))


class Recording:
    """A base of hooks: which rows a call belongs to, and what has been recorded of them.

    `store`: the store that the hook records in.
    """

    store: ScoreStore
    _adaptive_sampler: Inside

    def watch(self, loader: Any) -> Watched:
        """The samples of a loader over an `IndexedDataset`, to be iterated; their rows are kept for the calls that follow.

        `len` and every other attribute are the loader's, and it may be iterated again and again. Each pass is one epoch of
        the store's clock, unless one of our samplers sets the clock. Each position of a batch is recorded once, by the
        first call that includes it. `watch` must be outside of whatever fetches ahead: around a prefetcher, not inside it.
        Raises `InvalidValue` for batches without rows, for a dataset whose length is not that of the sampler's
        store, and for a batch that overtakes another (`in_order=False`).
        """
        key = row_key(loader)

        def begin() -> Generator[Any, None, None]:
            owner = object()
            self._adaptive_sampler.pending.expect(owner)
            return self._watching(loader, key, owner)

        return Watched(loader, begin)

    def _watching(self, loader: Any, key: str | None, owner: object) -> Generator[Any, None, None]:
        own, over = self._adaptive_sampler, False
        one = own.watched.enter(loader, self.store, own.sampler)
        try:
            for rows, sample in split(loader, key):
                own.pending.put(rows, owner, one.take(rows))
                yield sample
            over = True
        finally:
            one.leave(over=over)
            own.pending.forget(owner)

    def claim(self, length: int) -> torch.Tensor:
        """The rows of the watched batch, (length,) int64, for a loss that is computed elsewhere.

        Each batch gives its rows once. Raises `InvalidValue` if they were used already, if the batch has another
        length, or if it is in doubt which batch the caller holds.
        """
        return self._adaptive_sampler.pending.claim(length)

    def forget(self) -> None:
        """Tell the hook that the loop skips the watched batch: no loss will be computed for it."""
        self._adaptive_sampler.pending.forget()

    @contextmanager
    def again(self) -> Iterator[None]:
        """A context in which a call is no new presentation of its samples: it records nothing. Plan weights still apply."""
        self._adaptive_sampler.again += 1
        try:
            yield
        finally:
            self._adaptive_sampler.again -= 1

    def flush(self) -> None:
        """Fold everything recorded so far into the store, waiting for the device if necessary."""
        self._adaptive_sampler.recorder.flush()

    @property
    def sampler(self) -> AdaptiveSampler | None:
        """The sampler whose plans weight the samples; None if nothing does."""
        return self._adaptive_sampler.sampler

    @sampler.setter
    def sampler(self, sampler: AdaptiveSampler | None) -> None:
        self._adaptive_sampler.sampler = sampler

    @property
    def delivered(self) -> int:
        """How many samples of this epoch `watch` has delivered, those before a resume included.

        Pass it to `sampler.state_dict(delivered=...)`. Raises `InvalidValue` if rows were recorded but no loader was
        watched, because it is then not known what was delivered; and if the batches were not those that the sampler
        drew, because their number is then no position in the epoch.
        """
        watched, recorder = self._adaptive_sampler.watched, self._adaptive_sampler.recorder
        if watched.run is None and recorder.used:
            raise InvalidValue(
                "hook.delivered counts what hook.watch(loader) delivers, and these rows came by rows= or record: it would say 0. "
                "Watch the loader, or count the samples that you were given: sampler.state_dict(delivered=your count)."
            )
        return watched.count()

    @property
    def epoch(self) -> int:
        """The epoch of the store's clock, under which observations are recorded; it may be set."""
        return self.store.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.store.session.clock.show(epoch)

    @property
    def skipped(self) -> int:
        """How many observations were left out because a value was not finite."""
        self.flush()
        return self._adaptive_sampler.recorder.tally.skipped

    @property
    def effective_samples(self) -> float:
        """How many samples of equal weight the samples of this epoch are worth: (Σw)²/Σw² over the loss weights w so far.

        This is the size of an unweighted sample whose mean varies as much (Kish 1965, Survey Sampling): the
        number of samples where nothing weighs, 0.0 before any was recorded in the store's current epoch.
        """
        return self._adaptive_sampler.applied.effective(self.store.epoch)

    def _replicate_for_data_parallel(self) -> Any:
        raise InvalidValue(
            f"a {type(self).__name__} inside nn.DataParallel would record from several threads. Compute the loss outside of the "
            "parallel model, on the gathered outputs, or use DistributedDataParallel."
        )
