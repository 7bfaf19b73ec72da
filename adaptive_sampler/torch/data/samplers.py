"""Drop-in samplers for `DataLoader(sampler=...)`, each a policy with its paper's defaults."""

from typing import Any, Literal

from torch.utils.data import BatchSampler, Sampler

from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.selection import Draw, Prune, Upsample, Window
from adaptive_sampler.selection.base import Order, Ties
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.walk.batches import Batches
from adaptive_sampler.walk.planner import Replan


class AdaptiveBatchSampler(Batches, BatchSampler):  # type: ignore[misc]  # its sampler is one of ours
    """Batches of one of our samplers, also for frameworks that ask for torch's type. Refuses a foreign sampler."""


class TorchSampler(AdaptiveSampler, Sampler[int]):
    """An `AdaptiveSampler` that is a `torch.utils.data.Sampler` too."""

    def batches(self, batch_size: int, *, drop_last: bool = False, arrays: bool = False) -> AdaptiveBatchSampler:
        """For `DataLoader(batch_sampler=...)`; see `Batches`."""
        return AdaptiveBatchSampler(self, batch_size, drop_last, arrays)


class PrunedSampler(TorchSampler):
    """Trains on the share `keep` with the `order` score `by` (Paul et al. 2021, Deep Learning on a Data Diet).

    Everything is kept until the warm-up is over and there are scores; then one plan holds for good, as in the paper
    (`replan="epoch"` adapts). `keep`, `order`, `ties`, `per_class`, `max_age`: see `selection.Prune`; the other keywords:
    see `AdaptiveSampler`.
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


class SlidingWindowSampler(TorchSampler):
    """Trains on a window of the ascending ranking: skips `offset`, takes `keep` (Paul et al. 2021, section 4).

    With wrong labels in the data the best window leaves out the very top. See `selection.Window`, `AdaptiveSampler`.
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


class JTTSampler(TorchSampler):
    """Trains on everything, and on the first model's mistakes `upsample` times (Liu et al. 2021, Just Train Twice).

    See `selection.Upsample` for `convention`, `AdaptiveSampler` for the other keywords.
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


class L2RWSampler(TorchSampler):
    """Draws rows in proportion to the weights that L2RW gave them (Ren et al. 2018, Learning to Reweight Examples).

    `num_samples` draws an epoch (None: as many as there are rows), a share `floor` of them uniformly, so that a row whose
    weight is 0 is seen again. See `selection.Draw`, `AdaptiveSampler`.
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
