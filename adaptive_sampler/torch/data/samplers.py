"""Drop-in samplers for `DataLoader(sampler=...)`; each has one selection policy with the defaults of its paper."""

from typing import Any, Literal

from torch.utils.data import BatchSampler, Sampler

from adaptive_sampler.sampler import AdaptiveSampler as FrameworkFree
from adaptive_sampler.selection import Draw, Prune, Upsample, Window
from adaptive_sampler.selection.base import Order, Ties
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.walk.batches import Batches
from adaptive_sampler.walk.planner import Replan


class AdaptiveBatchSampler(Batches, BatchSampler):  # type: ignore[misc]  # both bases type `sampler`, ours narrower
    """Batches of one of our samplers, as a `torch.utils.data.BatchSampler`, which some frameworks require.

    Raises `InvalidValue` for a sampler that is not ours.
    """


class AdaptiveSampler(FrameworkFree, Sampler[int]):
    """`adaptive_sampler.AdaptiveSampler`, with the same arguments, as a `torch.utils.data.Sampler`.

    For code that asks `isinstance(sampler, torch.utils.data.Sampler)`; the named samplers below derive from it.
    """

    def batches(self, batch_size: int, *, drop_last: bool = False, arrays: bool = False) -> AdaptiveBatchSampler:
        """A batch sampler over this sampler, for `DataLoader(batch_sampler=...)`; see `walk.batches.Batches`."""
        return AdaptiveBatchSampler(self, batch_size, drop_last, arrays)


class PrunedSampler(AdaptiveSampler):
    """Trains on the rows with the highest scores (Paul et al. 2021, Deep Learning on a Data Diet).

    `keep`: the share (float) or number (int) of rows that are kept; `by`: the score; `order`: "highest", or "lowest" to
    keep the lowest scores. All rows are kept until the warm-up is over and there are scores. Then one plan is made that
    holds for good, as in the paper; `replan="epoch"` makes a new one each epoch instead. `keep`, `order`, `ties`,
    `per_class`, `max_age`: see `selection.Prune`; the other keywords: see `AdaptiveSampler`.
    """

    def __init__(
        self,
        store: ScoreStore,
        *,
        keep: float | int,
        by: str = "el2n",
        order: Order = "highest",
        ties: Ties = "random",
        per_class: Any = None,
        max_age: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
        warmup_epochs: int = 0,
        replan: Replan = "once",
        num_samples: int | None = None,
    ) -> None:
        policy = Prune(keep, by, order=order, ties=ties, per_class=per_class, max_age=max_age)
        super().__init__(
            store,
            policy,
            seed=seed,
            shuffle=shuffle,
            warmup_epochs=warmup_epochs,
            replan=replan,
            num_samples=num_samples,
        )


class SlidingWindowSampler(AdaptiveSampler):
    """Trains on a window of the rows, ranked by ascending score: skips `offset`, keeps `keep` (Paul et al. 2021, section 4).

    Both are shares (float) or numbers (int) of rows. If some labels are wrong, the best window leaves out the highest
    scores. See `selection.Window` and, for the other keywords, `AdaptiveSampler`.
    """

    def __init__(
        self,
        store: ScoreStore,
        *,
        keep: float | int,
        offset: float | int,
        by: str = "el2n",
        ties: Ties = "random",
        per_class: Any = None,
        max_age: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
        warmup_epochs: int = 0,
        replan: Replan = "once",
        num_samples: int | None = None,
    ) -> None:
        super().__init__(
            store,
            Window(keep, offset, by, ties=ties, per_class=per_class, max_age=max_age),
            seed=seed,
            shuffle=shuffle,
            warmup_epochs=warmup_epochs,
            replan=replan,
            num_samples=num_samples,
        )


class JTTSampler(AdaptiveSampler):
    """Trains on all rows, and `upsample` times on those that a first model got wrong (Liu et al. 2021, Just Train Twice).

    `by`: the score that is above 0 for those rows. See `selection.Upsample` for `convention`, which says whether
    `upsample` counts the row's ordinary visit, and `AdaptiveSampler` for the other keywords. The paper's `upsample` is
    100 for Waterbirds, 50 for CelebA, 4 for MultiNLI, 6 for CivilComments.
    """

    def __init__(
        self,
        store: ScoreStore,
        *,
        upsample: int,
        by: str = "error",
        convention: Literal["total", "extra"] = "total",
        seed: int = 0,
        shuffle: bool = True,
        warmup_epochs: int = 0,
        replan: Replan = "once",
        num_samples: int | None = None,
    ) -> None:
        super().__init__(
            store,
            Upsample(upsample, by, convention=convention),
            seed=seed,
            shuffle=shuffle,
            warmup_epochs=warmup_epochs,
            replan=replan,
            num_samples=num_samples,
        )


class L2RWSampler(AdaptiveSampler):
    """Draws rows in proportion to the weights that L2RW gave them (Ren et al. 2018, Learning to Reweight Examples).

    An epoch has `num_samples` draws (None: as many as there are rows). The share `floor` of them is drawn uniformly, so
    that a row whose weight is 0 is visited again. See `selection.Draw`, and `AdaptiveSampler` for the other keywords.
    """

    def __init__(
        self,
        store: ScoreStore,
        *,
        by: str = "l2rw",
        floor: float = 0.1,
        replacement: bool = True,
        unbiased: bool = False,
        seed: int = 0,
        shuffle: bool = True,
        warmup_epochs: int = 0,
        replan: Replan = "epoch",
        num_samples: int | None = None,
    ) -> None:
        super().__init__(
            store,
            Draw(by, num_samples, replacement=replacement, floor=floor, unbiased=unbiased),
            seed=seed,
            shuffle=shuffle,
            warmup_epochs=warmup_epochs,
            replan=replan,
            num_samples=num_samples,
        )
