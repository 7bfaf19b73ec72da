"""This package's samplers, plans, draws and updates."""

from collections.abc import Callable

from adaptive_sampler.commands.bench.base import BATCH, Turn
from adaptive_sampler.commands.bench.contestants.updates import observations, outputs
from adaptive_sampler.commands.bench.data import drain, scored
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.scoring import EL2N, Confidence, Error, Forgetting, Loss, Margin
from adaptive_sampler.selection import Draw, InfoBatch, KeepAll, Prune
from adaptive_sampler.store import ScoreStore


def batches(n: int, keep: float) -> Turn:
    """An epoch in lists of 256. A plan that keeps half is made before, as the others' list of kept rows is."""
    policy = KeepAll() if keep == 1 else Prune(keep, "loss")
    walk = AdaptiveSampler(scored(n), policy, replan="once").batches(BATCH)
    return lambda: drain(walk)


def singles(n: int) -> Turn:
    """An epoch, half kept, one row at a time through torch's own BatchSampler."""
    from torch.utils.data import BatchSampler

    walk = BatchSampler(AdaptiveSampler(scored(n), Prune(0.5, "loss"), replan="once"), BATCH, False)
    return lambda: drain(walk)


def first_batch(n: int, keep: float) -> Turn:
    """A new epoch, its plan included, up to the first batch."""
    sampler = AdaptiveSampler(scored(n), KeepAll() if keep == 1 else Prune(keep, "loss"))
    return _new_epoch(sampler, lambda: next(iter(sampler.batches(BATCH))))


def some_batches(n: int, keep: float) -> Turn:
    """A new epoch, its plan included, and a thousand batches of it, which show the memory that an epoch holds."""
    sampler = AdaptiveSampler(scored(n), KeepAll() if keep == 1 else Prune(keep, "loss"))

    def walk() -> None:
        batches = iter(sampler.batches(BATCH))
        for _ in range(min(1000, len(sampler) // BATCH)):
            next(batches)

    return _new_epoch(sampler, walk)


def infobatch(n: int) -> Turn:
    """InfoBatch's epochs, each planned anew, in lists of 256."""
    sampler = AdaptiveSampler(scored(n), InfoBatch(0.5, "loss", epochs=10**6))
    return _new_epoch(sampler, lambda: drain(sampler.batches(BATCH)))


def plan(n: int, distinct: int) -> Turn:
    """The plan alone: which rows are the top half."""
    store, policy = scored(n, distinct=distinct), Prune(0.5, "loss")
    return lambda: policy.plan(store, epoch=1, seed=0)


def draws(n: int, replacement: bool) -> Turn:
    """A new epoch of weighted draws, as one array in random order: the plan and its walk."""
    sampler = AdaptiveSampler(scored(n), _draw(n, replacement))

    def walk() -> None:
        epoch = sampler.begin_by(None)  # type: ignore[arg-type]  # nobody asks for its progress
        epoch.take(0, len(epoch))

    return _new_epoch(sampler, walk)


def drawn_batches(n: int, replacement: bool) -> Turn:
    """A new epoch of weighted draws in lists of 256, its plan included."""
    sampler = AdaptiveSampler(scored(n), _draw(n, replacement))
    return _new_epoch(sampler, lambda: drain(sampler.batches(BATCH)))


def update(n: int, size: int) -> Turn:
    """Fold the values of six scores for each of 2000 batches."""
    store, batches = _six(n), observations(n, size)

    def turn() -> None:
        for rows, values in batches:
            store.session.fold_values(rows, values, epoch=1)

    return turn


def update_outputs(n: int, size: int, classes: int) -> Turn:
    """Update six scores with the logits and labels of each of 200 batches."""
    store, (batches, logits, labels) = _six(n), outputs(n, size, classes)

    def turn() -> None:
        for rows in batches:
            store.update(rows, logits=logits, labels=labels)

    return turn


def _six(n: int) -> ScoreStore:
    return ScoreStore.create(None, n, [EL2N(), Forgetting(), Loss(), Margin(), Confidence(), Error()])


def _draw(n: int, replacement: bool) -> Draw:
    return Draw("loss", n if replacement else n // 2, replacement=replacement)


def _new_epoch(sampler: AdaptiveSampler, walk: Callable[[], object]) -> Turn:
    def turn() -> None:
        sampler.set_epoch(sampler.epoch + 1)
        walk()

    return turn
