"""What there is to watch: numbers and histograms of the scores, of the plan, and of what a hook recorded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.loggers.histogram import Histogram, histogram
from adaptive_sampler.loggers.kept import Labelled, kept_of_classes
from adaptive_sampler.store import ScoreStore

_AT_ONCE = 1 << 20  # rows that are looked at at a time: a chunk of a large store on disk


@dataclass(frozen=True)
class Summary:
    """What is watched of a training at one moment. `scalars`: name -> number, all finite; `histograms`: name -> `Histogram`."""

    scalars: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)


def summarize(
    store: ScoreStore,
    sampler: Any = None,
    hook: Any = None,
    *,
    labels: Any = None,
    bins: int = 64,
    quantiles: Sequence[float] = (),
) -> Summary:
    """What there is to watch of a store, of the plan of its sampler, and of its hook.

    For a score el2n: the histogram `scores/el2n`, of `bins` bins of equal width between its least and its largest finite value,
    and the numbers `scores/el2n/mean` (of the finite values), `/observed` (the share of rows that were observed), `/age` and
    `/age_max` (epochs since the observed rows were last seen: the mean and the largest), and `/p05` and the like for each of
    `quantiles`. `/infinite`: how many values are infinite, if any is. A score that was never observed has `/observed`, 0, alone.

    `sampler`: one of ours; None for none. Once its epoch has begun: `sampler/kept`, the share of rows that the plan visits, and
    `sampler/samples`, the epoch's length. By class, if there are `labels`, (n,) integers, bools or strings (None: those that hooks
    have seen): `sampler/kept_of_class_min` and `_max`, and for up to 100 classes `kept_of_class/<class>`.

    `hook`: a `LossHook` or `TokenLossHook`; None for the one that records into the store, if there is just one. `hook/skipped`:
    how many observations it left out so far, and `hook/effective_samples`, of this epoch and process.

    Raises `InvalidValue` for a sampler that is none of ours, for labels that are not one for each row, and for
    `bins` below 1.
    """
    bins = whole_number("bins", bins, 1)
    scalars: dict[str, float] = {}
    histograms: dict[str, Histogram] = {}
    for name in store.names:
        told, found = _of_score(store, name, bins, quantiles)
        scalars |= {f"scores/{name}/{what}": float(value) for what, value in told.items()}
        if found is not None:
            histograms[f"scores/{name}"] = found
    classes = labels if labels is None or isinstance(labels, Labelled) else Labelled(labels)
    scalars |= {} if sampler is None else _of_sampler(store, sampler, classes)
    hooks = store.session.hooks if hook is None else [hook]
    if len(hooks) == 1:
        scalars |= {"hook/skipped": hooks[0].skipped, "hook/effective_samples": hooks[0].effective_samples}
    return Summary(scalars, histograms)


def _of_score(
    store: ScoreStore, name: str, bins: int, quantiles: Sequence[float]
) -> tuple[dict[str, float], Histogram | None]:
    """The numbers of a score, without their prefix, and its histogram."""
    columns, n, epoch = store.session.drained.table[name], len(store), store.epoch
    observed = columns.book.observed
    told: dict[str, float] = {"observed": observed / n if n else 0.0}
    if not observed:
        return told, None

    def values() -> Iterator[np.ndarray]:
        return (columns.read(start, min(start + _AT_ONCE, n)) for start in range(0, n, _AT_ONCE))

    found = histogram(values, bins)
    if found is not None:
        told["mean"] = found.sum / found.num
        if quantiles:
            finite = np.concatenate([block[np.isfinite(block)] for block in values()])
            told |= {f"p{100 * q:02.0f}": v for q, v in zip(quantiles, np.quantile(finite, quantiles), strict=True)}
    finite_alone = found is not None and found.num == observed
    if not finite_alone and (infinite := sum(int(np.count_nonzero(np.isinf(block))) for block in values())):
        told["infinite"] = infinite
    ages = [_ages(columns.part(start, min(start + _AT_ONCE, n)), epoch) for start in range(0, n, _AT_ONCE)]
    told["age"], told["age_max"] = sum(age for age, _ in ages) / observed, max(most for _, most in ages)
    return told, found


def _ages(part: dict[str, np.ndarray], epoch: int) -> tuple[int, int]:
    """The sum and the largest of the epochs since the rows of a part were observed; 0 for a row that never was.

    An observation of an earlier run may be of a later epoch than this one; it is as new as can be.
    """
    seen = part["last_seen"]
    age = np.int32(epoch) - np.where(seen < 0, np.int32(epoch), np.minimum(seen, np.int32(epoch)))
    return int(age.sum(dtype=np.int64)), int(age.max(initial=0))


def _of_sampler(store: ScoreStore, sampler: Any, labels: Labelled | None) -> dict[str, float]:
    """What a sampler's plan keeps, if its epoch has begun: until then a plan may change."""
    walk = getattr(sampler, "sampler", sampler)  # what deals rows out to ranks, or makes batches, has the sampler in it
    if not hasattr(walk, "fixed_plan"):
        raise InvalidValue(f"sampler={sampler!r} is none of ours: pass the AdaptiveSampler that the loader draws from.")
    plan = walk.fixed_plan
    if plan is None:
        return {}
    told = {"sampler/kept": plan.num_rows / len(store), "sampler/samples": float(len(walk))}
    return told | kept_of_classes(plan, store, labels)
