"""Drop-in samplers for `DataLoader(sampler=...)`; each has one selection policy with the defaults of its paper."""

from typing import Any, Literal

from torch.utils.data import Sampler

from adaptive_sampler.sampler import AdaptiveSampler as FrameworkFree
from adaptive_sampler.selection import Draw, Prune, Upsample, Window
from adaptive_sampler.selection.base import Order, Ties
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.ranks.batches import AdaptiveBatchSampler
from adaptive_sampler.walk.planner import Replan


class AdaptiveSampler(FrameworkFree, Sampler[int]):
    """`adaptive_sampler.AdaptiveSampler`, with the same arguments, as a `torch.utils.data.Sampler`.

    For code that asks `isinstance(sampler, torch.utils.data.Sampler)`; the named samplers derive from it. `store`: has the
    scores; `policy`: makes plans from them, one of `adaptive_sampler.selection` or your own.

    As every sampler of ours: `seed` decides ties, draws and the order; `shuffle=False` leaves the rows in the order of their
    numbers; the first `warmup_epochs` epochs keep every row; `replan` is "once" for one plan after the warm-up, "epoch" for
    one each epoch, or a number of batches; `num_samples` makes every epoch as long, None leaves it to the plan.
    """

    def batches(self, batch_size: int, *, drop_last: bool = False, arrays: bool = False) -> AdaptiveBatchSampler:
        """A batch sampler over this sampler, for `DataLoader(batch_sampler=...)`; see `walk.batches.Batches`."""
        return AdaptiveBatchSampler(self, batch_size, drop_last, arrays)


class PrunedSampler(AdaptiveSampler):
    """Trains on the rows with the highest scores (Paul et al. 2021, Deep Learning on a Data Diet).

    `store`: has the scores; `keep`: the share (float) or number (int) of rows that are kept; `by`: the score; `order`:
    "highest", or "lowest" to keep the lowest scores; `ties`: "random", or "row" to order rows with equal scores by their
    numbers; `per_group`: the name of a column of the store, or (n,) labels, to keep that share of each group, and `per_class`
    the same for (n,) labels of classes; `max_age`: rows whose score is older than so many epochs are kept first; `size`: the
    name of a column whose units, such as tokens, `keep` is a share of, in place of rows. All rows are kept until the warm-up
    is over and there are scores. Then one plan is made that holds for good, as in the paper; `replan="epoch"` makes a new one
    each epoch instead, which a `keep` that follows the epoch needs, such as `selection.Linear(0.3, 1.0, epochs=10)`. The policy
    is `selection.Prune`.

    As every sampler of ours: `seed` decides ties, draws and the order; `shuffle=False` leaves the rows in the order of their
    numbers; the first `warmup_epochs` epochs keep every row; `replan` is "once" for one plan after the warm-up, "epoch" for
    one each epoch, or a number of batches; `num_samples` makes every epoch as long, None leaves it to the plan.
    """

    def __init__(
        self,
        store: ScoreStore,
        *,
        keep: Varying,
        by: str = "el2n",
        order: Order = "highest",
        ties: Ties = "random",
        per_class: Any = None,
        per_group: Any = None,
        max_age: int | None = None,
        size: str | None = None,
        seed: int = 0,
        shuffle: bool = True,
        warmup_epochs: int = 0,
        replan: Replan = "once",
        num_samples: int | None = None,
    ) -> None:
        groups = {"per_class": per_class, "per_group": per_group}
        policy = Prune(keep, by, order=order, ties=ties, max_age=max_age, size=size, **groups)
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

    `store`: has the scores; `keep`, `offset`: shares (float) or numbers (int) of rows; `by`: the score; `ties`: "random", or
    "row" to order rows with equal scores by their numbers; `per_group`: the name of a column of the store, or (n,) labels, to
    take the window within each group, and `per_class` the same for (n,) labels of classes; `max_age`: rows whose score is
    older than so many epochs are kept first; `size`: the name of a column whose units, such as tokens, the shares are of, in
    place of rows. If some labels are wrong, the best window leaves out the highest scores. One plan
    holds for good; shares that follow the epoch need `replan="epoch"`. The policy is `selection.Window`.

    As every sampler of ours: `seed` decides ties, draws and the order; `shuffle=False` leaves the rows in the order of their
    numbers; the first `warmup_epochs` epochs keep every row; `replan` is "once" for one plan after the warm-up, "epoch" for
    one each epoch, or a number of batches; `num_samples` makes every epoch as long, None leaves it to the plan.
    """

    def __init__(
        self,
        store: ScoreStore,
        *,
        keep: Varying,
        offset: Varying,
        by: str = "el2n",
        ties: Ties = "random",
        per_class: Any = None,
        per_group: Any = None,
        max_age: int | None = None,
        size: str | None = None,
        seed: int = 0,
        shuffle: bool = True,
        warmup_epochs: int = 0,
        replan: Replan = "once",
        num_samples: int | None = None,
    ) -> None:
        super().__init__(
            store,
            Window(keep, offset, by, ties=ties, per_class=per_class, per_group=per_group, max_age=max_age, size=size),
            seed=seed,
            shuffle=shuffle,
            warmup_epochs=warmup_epochs,
            replan=replan,
            num_samples=num_samples,
        )


class JTTSampler(AdaptiveSampler):
    """Trains on all rows, and `upsample` times on those that a first model got wrong (Liu et al. 2021, Just Train Twice).

    `store`: has the scores; `upsample`: the paper's λ, 100 for Waterbirds, 50 for CelebA, 4 for MultiNLI, 6 for
    CivilComments; `by`: the score that is above 0 for those rows; `convention`: "total" for `upsample` visits in all,
    "extra" for as many beside the ordinary one. One plan holds for good. The policy is `selection.Upsample(factor=upsample)`.

    As every sampler of ours: `seed` decides ties, draws and the order; `shuffle=False` leaves the rows in the order of their
    numbers; the first `warmup_epochs` epochs keep every row; `replan` is "once" for one plan after the warm-up, "epoch" for
    one each epoch, or a number of batches; `num_samples` makes every epoch as long, None leaves it to the plan.
    """

    def __init__(
        self,
        store: ScoreStore,
        *,
        upsample: Varying,
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

    `store`: has the scores; `by`: the score to draw by. An epoch has `num_samples` draws (None: as many as there are rows).
    The share `floor` of them is drawn uniformly, so that a row whose weight is 0 is visited again. `replacement=False`: each
    row is drawn at most once; `unbiased`: each sample gets a loss weight that undoes the draw. The policy is
    `selection.Draw`.

    As every sampler of ours: `seed` decides draws and the order; `shuffle=False` leaves the rows in the order of their
    numbers; the first `warmup_epochs` epochs keep every row; `replan` is "epoch" for one plan each epoch, "once" for one after
    the warm-up, or a number of batches.
    """

    def __init__(
        self,
        store: ScoreStore,
        *,
        by: str = "l2rw",
        floor: Varying = 0.1,
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
