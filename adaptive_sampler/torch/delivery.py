"""What a watched loader has delivered of an epoch: counted, held against what the sampler drew, and told to who counts epochs."""

import warnings
from typing import Any

import numpy as np
import torch

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.chain import chain, deals_out, of_accelerate, primed, sampler_in
from adaptive_sampler.torch.dataset import IndexedDataset
from adaptive_sampler.torch.distributed import DistributedAdaptiveSampler

_AHEAD = 1 << 14  # rows that the sampler is asked for at a time


class Delivery:
    """The watched passes of one hook, one after the other.

    `delivered` is a position in the epoch only as long as the batches are those that the sampler drew, in its order: that
    is looked at batch by batch, because what stands between (a collate_fn that leaves samples out, `in_order=False`) may
    change either.
    """

    def __init__(self) -> None:
        self.run: str | None = None  # the store's run in which a loader was last watched
        self.delivered = 0  # samples of this epoch
        self.unweighted = False  # whether plan weights are there that the hook does not apply
        self.warned = False  # of that
        self._lost = ""  # why the samples delivered cannot be counted
        self._sampler: AdaptiveSampler | DistributedAdaptiveSampler | None = None
        self._links: list[Any] = []
        self._begun = False  # whether this pass has had a batch
        self._compared = False  # whether its batches can be held against the sampler's rows
        self._unordered = False  # whether one may overtake another
        self._ahead = np.empty(0, np.int64)  # the rows that the sampler drew next

    def enter(self, loader: Any, store: ScoreStore, weighing: AdaptiveSampler | None) -> None:
        """A pass begins. Moves the store's clock where no sampler does. Raises `InvalidValue` for a dataset of another length."""
        self._links = list(chain(loader))
        found = sampler_in(self._links)
        self._sampler = found if found is not None else weighing
        if found is not None:
            _check_length(loader, found)
            for link in self._links:
                primed(link, forget=True)
        run = store.about["runs"][-1]
        if self._sampler is None and self.run == run:
            store.epoch += 1
        self.run, self.delivered, self.unweighted, self._lost = run, 0, False, ""
        self._begun = False

    def take(self, rows: torch.Tensor, store: ScoreStore, weighing: AdaptiveSampler | None) -> None:
        """A batch is here. Raises `InvalidValue` for one that overtook another."""
        sampler = self._sampler
        if not self._begun and sampler is not None:
            self._begin(sampler, weighing)
        if self._compared and not self._lost:
            self._compare(rows)
        self.delivered += len(rows)
        store.delivered = self.delivered

    def leave(self, *, over: bool) -> None:
        """The pass ends: because the loader did (`over`), or because the loop broke off."""
        sampler = self._sampler
        if sampler is None:
            return
        if over:
            if not self._begun:  # what was left of a resumed epoch made no batch
                self.delivered = sampler.start
            sampler.watch(over=True)
        if over or self._begun:
            for link in self._links:  # Accelerate counts neither a pass that was left early nor one of no batch
                if of_accelerate(link) and link.iteration <= sampler.epoch:
                    link.iteration = sampler.epoch + 1
        self._links = []

    def warn_unweighted(self) -> None:
        """Once."""
        self.unweighted, self.warned = False, True
        warnings.warn(
            "the plan of the watched loader's sampler weighs samples, and this hook was given no sampler: the loss is not "
            "weighted. LossHook(..., sampler=sampler) weighs it.",
            RuntimeWarning,
            stacklevel=3,
        )

    def count(self) -> int:
        """The samples delivered. Raises `InvalidValue` where their number is no position."""
        if self._lost:
            raise InvalidValue(self._lost)
        return self.delivered

    def _begin(self, sampler: AdaptiveSampler | DistributedAdaptiveSampler, weighing: AdaptiveSampler | None) -> None:
        """An epoch's first batch is here: its plan is fixed."""
        self._begun, self.delivered = True, sampler.start
        sampler.watch()
        inner = sampler.sampler if isinstance(sampler, DistributedAdaptiveSampler) else sampler
        plan = inner.fixed_plan
        self.unweighted = weighing is None and not self.warned and plan is not None and plan.weighted
        self._compared = not any(deals_out(link) for link in self._links)
        self._unordered = any(_may_overtake(link) for link in self._links)
        self._ahead = np.empty(0, np.int64)

    def _next(self, size: int) -> np.ndarray | None:
        """The next rows that the sampler drew, asked for many batches at a time; None where they are not known."""
        assert self._sampler is not None
        if len(self._ahead) < size:
            known = self._sampler.rows_from(self.delivered, max(size, _AHEAD))
            if known is None:
                return None
            self._ahead = known
        drawn, self._ahead = self._ahead[:size], self._ahead[size:]
        return drawn

    def _compare(self, rows: torch.Tensor) -> None:
        """Hold the batch against what the sampler drew next."""
        assert self._sampler is not None
        unordered = self._unordered
        if rows.device.type != "cpu" and not unordered:
            return  # looking would wait for the device at each step
        drawn = self._next(len(rows))
        if drawn is None and not unordered:
            return
        if drawn is not None and len(drawn) == len(rows) and (drawn == rows.numpy(force=True)).all():
            return
        epoch = self._sampler.epoch
        if unordered:
            may = "may have overtaken" if drawn is None else "overtook"
            raise InvalidValue(
                f"a batch of epoch {epoch} {may} another after {self.delivered} samples, as in_order=False allows: a count of what "
                "was delivered cannot say which rows arrived, and a resume would train some twice and others never. Give the "
                "loader in_order=True, or iterate it without watch and pass rows=, if this training is never resumed."
            )
        self._lost = (
            f"after {self.delivered} samples of epoch {epoch} a batch came whose rows are not those that the sampler drew next (a "
            "collate_fn or a filter leaves samples out, or something reorders them): their number is no position to resume from. "
            "Deliver every sample that is drawn, in order, or save the state of torchdata's StatefulDataLoader instead."
        )


def _may_overtake(link: Any) -> bool:
    """Whether a loader hands out batches as its workers finish them."""
    return getattr(link, "in_order", True) is False and getattr(link, "num_workers", 0) > 1


def _check_length(loader: Any, sampler: AdaptiveSampler | DistributedAdaptiveSampler) -> None:
    dataset = getattr(loader, "dataset", None)
    n = len((sampler.sampler if isinstance(sampler, DistributedAdaptiveSampler) else sampler).store)
    if isinstance(dataset, IndexedDataset) and len(dataset) != n:
        raise InvalidValue(
            f"the dataset has {len(dataset)} samples, the sampler's store {n} rows: some would never be visited, or do not exist. "
            "Make a store with n=len(dataset), or store.grow(len(dataset)) if samples were appended."
        )
