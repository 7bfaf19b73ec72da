"""Counts what a watched loader delivers of an epoch, compares it with what the sampler drew, and keeps epoch counts right."""

import warnings
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.data.chain import chain, deals_out, of_accelerate, primed, sampler_in
from adaptive_sampler.torch.data.dataset import IndexedDataset
from adaptive_sampler.torch.ranks.sampler import DistributedAdaptiveSampler, inner
from adaptive_sampler.walk.iterators import Progress

Ours = AdaptiveSampler | DistributedAdaptiveSampler
_AHEAD = 1 << 14  # rows of the sampler's order that are fetched at a time, for comparison with batches


class Delivery:
    """The watched passes of one hook, of which the latest counts for `LossHook.delivered`.

    Passes may be nested: once an inner one has ended, the outer one counts again. If some pass had one of our samplers, the
    latest of those counts, and as long as it goes on that of the hook's own sampler; else the latest of all.
    """

    def __init__(self) -> None:
        self.run: str | None = None  # the store's run in which a loader was last watched
        self.unweighted = False  # whether the plan has loss weights that the hook does not apply
        self._repeats = False  # whether the plan of the watched loader's sampler visits a row several times
        self._warned = False  # whether a warning of that was given
        self._last: Pass | None = None
        self._begun: list[Pass] = []  # those with one of our samplers that have begun and not ended, in that order

    def enter(self, loader: Any, store: ScoreStore, weighing: AdaptiveSampler | None) -> "Pass":
        """Begin a pass over `loader`. Raises `InvalidValue` if its dataset and the sampler's store differ in length.

        `weighing`: the hook's own sampler, which gives the loss weights; None if it has none.
        """
        return Pass(self, loader, store, weighing)

    def ticks(self, run: str) -> bool:
        """Whether a pass that has none of our samplers moves the store's clock on by an epoch.

        It does, unless it is the first of the store's `run`, or lies inside a pass that has one of our samplers and has
        not ended.
        """
        return self.run == run and (self._last is None or self._last.sampler is None or self._last.left)

    def counts(self, one: "Pass", run: str) -> None:
        """From now on `one` is the pass that counts, unless an earlier one has more right to; see the class."""
        last = self._last
        if last is None or one.rank >= last.rank or (one.rank and last.left):
            self._last = one
        if one.rank:
            self._begun.append(one)
        self.run = run

    def ended(self, one: "Pass") -> None:
        """Note that `one` has ended: if it counted, a pass around it whose epoch goes on counts again."""
        self._begun = [other for other in self._begun if other is not one and other.goes_on]
        if one is self._last and self._begun:
            self._last = self._begun[-1]
            self._last.tell()

    def is_last(self, one: "Pass") -> bool:
        """Whether `one` is the pass that counts."""
        return one is self._last

    def weighs(self, plan: Any, weighing: AdaptiveSampler | None) -> None:
        """Note what an epoch's `plan` does: visit rows several times, or have loss weights that the hook does not apply.

        `weighing`: the hook's own sampler.
        """
        self._repeats = _visits_again(plan)
        self.unweighted = weighing is None and not self._warned and plan is not None and plan.weighted

    def repeats(self, weighing: Ours | None) -> bool:
        """Whether the epoch's plan visits a row several times: that of the watched loader, or of the hook's own sampler."""
        return self._repeats or (weighing is not None and _visits_again(inner(weighing).fixed_plan))

    def warn_unweighted(self) -> None:
        """Warn, once, that the hook does not apply the plan's loss weights."""
        self.unweighted, self._warned = False, True
        warnings.warn(
            "the plan of the watched loader's sampler weighs samples, and this hook was given no sampler: the loss is not "
            "weighted. Make the hook with sampler=sampler, and it weighs it.",
            RuntimeWarning,
            stacklevel=3,
        )

    def count(self) -> int:
        """How many samples of the epoch were delivered. Raises `InvalidValue` if that is no position in the epoch."""
        return 0 if self._last is None else self._last.count()


class Pass:
    """One pass over a watched loader.

    The number of samples delivered is a position in the epoch only as long as the batches are those that the sampler
    drew, in the sampler's order. This is checked for each batch, because what lies in between may change it: a
    collate_fn that leaves samples out, or `in_order=False`.
    """

    def __init__(self, delivery: Delivery, loader: Any, store: ScoreStore, weighing: AdaptiveSampler | None) -> None:
        self._delivery, self._store, self._weighing = delivery, store, weighing
        self._links = list(chain(loader))
        self.sampler = sampler_in(self._links)
        self.left = False  # whether the pass has ended
        self._opaque = not any(isinstance(link, (DataLoader, Sampler)) for link in self._links)
        self._begun = False  # whether a batch has come
        self._delivered = 0
        self._lost = ""  # why the samples delivered cannot be counted; "" if they can
        self._walking: Any = None  # the sampler's epoch that this pass walks
        self._epoch = 0  # the number of that epoch
        self._plan: Any = None  # its plan
        # Whether batches can be compared with the sampler's rows; whether they may overtake one another.
        self._compared = self._unordered = False
        self._ahead = np.empty(0, np.int64)  # the sampler's next rows, fetched for comparison
        if self.sampler is not None:
            _check_length(loader, self.sampler)
            for link in self._links:
                primed(link, forget=True)

    def take(self, rows: torch.Tensor) -> Any:
        """Count a batch with these `rows`, (batch,) int64 -> the plan by which they were drawn; None if that was not seen.

        Raises `InvalidValue` if it overtook another one, or may have.
        """
        if not self._begun:
            self._begin(rows)
        sampler, drawn = self.sampler, False
        if sampler is not None and self._compared and not self._lost:
            drawn = self._compare(rows, sampler)
        self._delivered += rows.shape[0]  # `len` takes twice as long
        if self._delivery.is_last(self):
            self.tell()
        elif sampler is not None:  # another pass, or another sampler, may have begun an epoch meanwhile
            self._store.session.clock.show(self._epoch)
        return self._plan if drawn else None

    @property
    def rank(self) -> int:
        """2 if the hook's own sampler draws the loader's rows, 1 if another one of ours does, 0 if none does."""
        own = self.sampler is not None and self._weighing is not None and inner(self.sampler) is inner(self._weighing)
        return 2 if own else int(self.sampler is not None)

    @property
    def goes_on(self) -> bool:
        """Whether the sampler's epoch is still the one that this pass has begun."""
        return self.sampler is not None and self.sampler.walking is self._walking

    def tell(self) -> None:
        """Tell the store's clock how many samples of which epoch were delivered."""
        clock = self._store.session.clock
        if self.sampler is None:
            clock.deliver(self._delivered)
            return
        clock.show(self._epoch)
        clock.deliver(self._delivered, inner(self.sampler))

    def leave(self, *, over: bool) -> None:
        """End the pass: the loader has ended (`over`), or the loop broke off."""
        self.left, sampler = True, self.sampler
        if sampler is None:
            return
        if over:
            if not self._begun:  # the rest of a resumed epoch gave no batch
                self._walking, self._delivered = sampler.walking, sampler.start
                self._delivery.counts(self, self._store.about["runs"][-1])
            if self.goes_on:
                sampler.note_loop(over=True)
        if over or self._begun:
            for link in self._links:  # Accelerate counts neither a pass left early nor one without a batch
                if of_accelerate(link) and link.iteration <= sampler.epoch:
                    link.iteration = sampler.epoch + 1
        self._links = []
        self._delivery.ended(self)

    def count(self) -> int:
        """How many samples of the epoch were delivered. Raises `InvalidValue` if that is no position in the epoch."""
        if self._lost:
            raise InvalidValue(self._lost)
        sampler = self.sampler
        if sampler is None or self.goes_on:
            return self._delivered
        if sampler.walking is None:  # after set_epoch or load_state_dict: nothing of that epoch was delivered yet
            return sampler.start
        raise InvalidValue(
            f"hook.delivered counts what hook.watch(loader) delivers, and meanwhile epoch {sampler.epoch} of the sampler was begun "
            "by another iterator: the count is another epoch's. Give a second pass a loader of its own, watch each loop over this "
            "one, or count the samples yourself: sampler.state_dict(delivered=your count)."
        )

    def _begin(self, rows: torch.Tensor) -> None:
        """Begin the epoch at the first batch, when its plan is fixed."""
        self._begun, run = True, self._store.about["runs"][-1]
        if self.sampler is None and self._opaque:
            self._find(rows)
        sampler = self.sampler
        if sampler is None:
            if self._delivery.ticks(run):
                self._store.session.clock.show(self._store.epoch + 1)
            self._delivery.counts(self, run)
            return
        self._delivery.counts(self, run)
        self._walking, self._epoch, self._delivered = sampler.walking, sampler.epoch, sampler.start
        sampler.note_loop()
        self._plan = inner(sampler).fixed_plan
        self._delivery.weighs(self._plan, self._weighing)
        self._compared = not any(deals_out(link) for link in self._links)
        self._unordered = any(_may_overtake(link) for link in self._links)

    def _find(self, rows: torch.Tensor) -> None:
        """Find our sampler behind an object that does not show what it wraps, such as a generator around a loader.

        It is the sampler that drew exactly these rows, or, if that cannot be compared, the hook's own. If neither is
        found, although a sampler has begun, the samples cannot be counted.
        """
        owners = [planner.owner() for planner in tuple(self._store.session.planners) if planner.owner is not None]
        begun = [sampler for sampler in owners if sampler is not None and sampler.progress is not None]
        for sampler in begun:
            drawn = sampler.progress.rows_from(sampler.start, len(rows))
            known = drawn is not None and rows.device.type == "cpu"
            if (known and np.array_equal(drawn, rows.numpy(force=True))) or (not known and sampler is self._weighing):
                self.sampler = sampler
                return
        if begun:
            self._lost = (
                f"{type(begun[0]).__name__} is behind a loader that shows nothing of it, and the first batch is not what it drew: "
                "the samples delivered cannot be counted. Watch a loader that keeps what it wraps as an attribute (`loader`, "
                "`iterable`), or count the samples yourself: sampler.state_dict(delivered=your count)."
            )

    def _next(self, size: int, progress: Progress) -> np.ndarray | None:
        """The sampler's next rows, (size,) or fewer at the end, int64, None if not known; fetched for many batches at a time."""
        if len(self._ahead) < size:
            known = progress.rows_from(self._delivered, max(size, _AHEAD))
            if known is None:
                return None
            self._ahead = known.astype(np.int64, copy=False)
        drawn, self._ahead = self._ahead[:size], self._ahead[size:]
        return drawn

    def _compare(self, rows: torch.Tensor, sampler: Ours) -> bool:
        """Compare the batch with what the sampler drew next: by its rows, or, if those are not on the host, by its length.

        -> whether it has the very rows that were drawn.
        """
        progress = sampler.progress
        if progress is None or sampler.walking is not self._walking:
            return False  # the sampler is at another epoch; `count` reports that
        drawn, size = None, rows.shape[0]
        if rows.is_cpu or self._unordered:  # else reading them would wait for the device at each step
            drawn = self._next(size, progress)
        if drawn is None and not self._unordered:
            if size == progress.size_from(self._delivered, size):
                return False
        elif drawn is not None and drawn.tobytes() == rows.numpy(force=True).tobytes():  # NumPy's `==` takes longer
            return True
        if self._unordered:
            may = "may have overtaken" if drawn is None else "overtook"
            raise InvalidValue(
                f"a batch of epoch {sampler.epoch} {may} another after {self._delivered} samples, as in_order=False allows: a "
                "count of what was delivered cannot say which rows arrived, and a resume would train some twice and others never. "
                "Give the loader in_order=True, or iterate it without watch and pass rows=, if this training is never resumed."
            )
        self._lost = (
            f"after {self._delivered} samples of epoch {sampler.epoch} a batch came whose rows are not those that the sampler "
            "drew next (a collate_fn or a filter leaves samples out, or something reorders them): their number is no position to "
            "resume from. Deliver every sample that is drawn, in order, or save the state of torchdata's StatefulDataLoader."
        )
        return False


def _may_overtake(link: Any) -> bool:
    """Whether a loader delivers batches in the order in which its workers finish them."""
    return getattr(link, "in_order", True) is False and getattr(link, "num_workers", 0) > 1


def _visits_again(plan: Any) -> bool:
    return plan is not None and plan.num_samples > plan.num_rows


def _check_length(loader: Any, sampler: Ours) -> None:
    """Raise `InvalidValue` if an `IndexedDataset` and the sampler's store differ in length."""
    dataset, n = getattr(loader, "dataset", None), len(inner(sampler).store)
    if isinstance(dataset, IndexedDataset) and len(dataset) != n:
        raise InvalidValue(
            f"the dataset has {len(dataset)} samples, the sampler's store {n} rows: some would never be visited, or do not exist. "
            "Make a store with n=len(dataset), or store.grow(len(dataset)) if samples were appended."
        )
