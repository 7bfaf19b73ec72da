"""How far two rankings agree, since when a ranking stands still, how runs differ, and rows taken by their place in it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from adaptive_sampler.arrays import to_host
from adaptive_sampler.checks import is_number, whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import ranks
from adaptive_sampler.kernels.identity import RowIdentity
from adaptive_sampler.kernels.select import premix
from adaptive_sampler.selection.base import Scores, check_choice, check_share, cut
from adaptive_sampler.store import ScoreStore

__all__ = ["Bands", "Stability", "bands", "by_rank", "history", "runs", "settled", "stability"]

_MOST = 1 << 31  # rows
_AT_ONCE = 1 << 18  # rows whose scores in all runs are held at a time
_EXACT = 1 << 53  # the integers up to here are float64 numbers, every one


@dataclass(frozen=True)
class Stability:
    """How far two rankings of the same rows agree.

    `spearman`: their rank correlation, equal scores having their mean rank; NaN if all scores of one are equal. `kept`: the
    share of the rows that one of them keeps which the other keeps too. `rows`: how many were compared. `left_out`: the rows
    that were not, (m,) int64, because one score or both are NaN: never observed.
    """

    spearman: float
    kept: float
    rows: int
    left_out: np.ndarray

    def __str__(self) -> str:
        out = f" ({len(self.left_out):,} left out, not observed in both)" if len(self.left_out) else ""
        return f"rank correlation {self.spearman:.4f}, {self.kept:.1%} of the kept rows in common, of {self.rows:,} rows{out}"


def stability(
    first: Any,
    second: Any,
    *,
    by: str | None = None,
    keep: float | int = 0.5,
    order: Literal["highest", "lowest"] = "highest",
) -> Stability:
    """Compare two rankings of the same rows: of two runs, two commits, two scores, or two models.

    Args:
        first: scores, (n,) numbers, NaN where never observed, inf being a score as any; or a store.
        second: likewise, in the same order of rows. Stores with keys must have the same keys in the same order.
        by: the name of the score, for stores.
        keep: the share of the rows, as a float, or their number, that would be kept of each, as `Prune` does.
        order: which end is kept. Among equal scores a hash of the row decides, the same one for both.

    Returns:
        A `Stability`; printed, it is a sentence.

    Raises:
        InvalidValue: arrays of other shapes or lengths, or stores of other rows; fewer than two rows in common; a share that
            keeps none of them. UnknownName: a store lacks the score.

    Source:
        Spearman's rank correlation with mean ranks, as scipy.stats.spearmanr. Of data selection: Toneva et al. 2019, of
        forgetting between epochs and runs; Coleman et al. 2020, of a proxy's scores and the target's.
    """
    check_share("keep", keep)
    check_choice("order", order, ("highest", "lowest"))
    _check_same_rows(first, second)
    a, b = _values("first", first, by), _values("second", second, by)
    if len(a) != len(b):
        raise InvalidValue(f"first has {len(a)} rows, second {len(b)}: compare scores of the same rows.")
    known = ~(np.isnan(a) | np.isnan(b))
    number = int(np.count_nonzero(known))
    if number < 2:
        raise InvalidValue(f"{number} of {len(a)} rows have both scores: a ranking needs two. Observe more.")
    size = cut({"keep": keep}, number)
    if size == 0:
        raise InvalidValue(f"keep={keep} keeps none of {number} rows. Keep more.")
    if number < len(known):
        a, b = a[known], b[known]
    one, other = _Ranked(a), _Ranked(b)
    both = np.count_nonzero(one.kept(size, order) & other.kept(size, order))
    spearman = ranks.correlation(one.means(), other.means())
    return Stability(spearman, both / size, number, np.flatnonzero(~known))


def settled(history: Iterable[tuple[int, Any]], *, correlation: float = 0.95) -> int | None:
    """The first epoch from which on the ranking is nearly that of the last epoch, or None if only the last one's is.

    Args:
        history: (epoch, scores) in the order of time, scores as in `stability`; `history` reads them from a store's commits. Of
            several of one epoch, the last one counts.
        correlation: the least rank correlation with the last ranking, in (0, 1], that counts as no change.

    Raises:
        InvalidValue: fewer than two epochs, epochs that do not ascend, or as in `stability`.

    Source:
        Toneva et al. 2019, who so find that forgetting settles after 75 of 200 epochs.
    """
    if not is_number(correlation) or not 0 < correlation <= 1:
        raise InvalidValue(f"correlation={correlation!r}: a number in (0, 1].")
    if _is_store(history):
        raise InvalidValue("a store holds the scores of one commit: pass history(path, by), which reads every commit.")
    told = list(history)
    epochs = [epoch for epoch, _ in told]
    by_epoch = dict(told)
    if len(by_epoch) < 2 or epochs != sorted(epochs):
        raise InvalidValue(f"epochs {epochs}: at least two are needed, in the order of time.")
    *before, last = by_epoch
    since = None
    for epoch in reversed(before):
        try:
            found = stability(by_epoch[epoch], by_epoch[last])
        except InvalidValue as error:
            raise InvalidValue(f"epoch {epoch} against epoch {last}: {error} Or leave that epoch out.") from error
        if not found.spearman >= correlation:
            break
        since = epoch
    return since


def history(store: ScoreStore | str | Path, by: str) -> Iterator[tuple[int, np.ndarray]]:
    """(epoch, scores) of every commit of a store in which the score `by` has been observed, oldest first.

    `store`: a store, of which later versions than its own are left out, or the path of one. The epoch is that of the newest
    observation, the scores are (n,) float32. A store that has grown has fewer rows in its older commits. Raises `UnknownName` for
    a score that the store lacks, and as `ScoreStore.open`.
    """
    if isinstance(store, str | Path):
        with ScoreStore.open(store, mode="r") as opened:
            yield from history(opened, by)
        return
    store.observed(by)  # raises for an unknown name
    for version in (told for told in store.versions() if told.version <= store.version):
        with store.session.opener(ScoreStore.open, version.version)() as old:
            if by in old.names and old.observed(by):
                yield int(old.last_seen(by).max()), np.array(old[by])


def runs(store: ScoreStore, by: str) -> dict[str, np.ndarray]:
    """The score `by` in each training run alone, (n,) float32, NaN where that run never observed the row; by the run's name.

    It is what a store of that run's own would have. The oldest comes first, and the current run is the last; those that never
    observed the score are left out. The store is made by `ScoreStore.create(..., runs="kept")`; raises `InvalidValue` for
    another one, and `UnknownName` if it lacks the score.
    """
    return {name: run.read(by, slice(None)) for name, run in _session(store).kept_runs(by).items()}


class Bands(NamedTuple):
    """Between which values a score lay in most runs: `low` and `high`, (n,) float32; NaN for rows that fewer than two observed."""

    low: np.ndarray
    high: np.ndarray


def bands(store: ScoreStore, by: str, *, low: float = 16.0, high: float = 84.0) -> Bands:
    """Two percentiles, over the runs that observed a row, of its scores in them, as `runs` gives them.

    Between two scores the percentile is interpolated, as by numpy.percentile. 16 and 84 are one standard deviation below and
    above the mean of a normal distribution. Raises `InvalidValue` unless 0 <= low < high <= 100 and two runs have observed the
    score, and as `runs` does.
    """
    for name, value in (("low", low), ("high", high)):
        if not is_number(value) or not 0 <= value <= 100:
            raise InvalidValue(f"{name}={value!r}: a percentile, from 0 to 100.")
    if low >= high:
        raise InvalidValue(f"low={low!r}, high={high!r}: the lower percentile comes first.")
    kept = _session(store).kept_runs(by)
    if len(kept) < 2:
        raise InvalidValue(f"{len(kept)} runs have observed {by!r}: bands need two. store.begin_run(name) begins one.")
    found = np.empty((2, len(store)), np.float32)
    for start in range(0, len(store), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        scores = np.sort([run.read(by, part) for run in kept.values()], axis=0)  # NaN comes last
        found[:, part] = [_percentile(scores, share) for share in (low, high)]
    return Bands(*found)


def by_rank(store: Scores, by: str, *, parts: int = 10) -> list[np.ndarray]:
    """The rows that have a score, in `parts` lists of equal length (but for one row) by its ascending ranks: easy to hard.

    Each is (m,) int64, the rows ascending. Of equal scores a hash of the row's name decides. Rows never observed are in none of
    them. Raises `InvalidValue` if fewer rows than `parts` have one, and `UnknownName` if the store lacks the score.

    Source: Paul et al. 2021, who compare such subsets by `torch.ntk_velocity` and `torch.error_barrier`.
    """
    whole_number("parts", parts, 1)
    if not _is_store(store):
        raise InvalidValue(f"store is of {type(store).__name__}: a store is needed, whose rows have names.")
    scores = _values("store", store, by)
    known = np.flatnonzero(~np.isnan(scores))
    if len(known) < parts:
        raise InvalidValue(
            f"{len(known)} rows have {by!r}, too few for parts={parts}. Observe more, or take fewer parts."
        )
    places = store.identity.ordered(
        premix(0), known
    )  # so that of equal scores, which a stable sort leaves alone, none is first
    _, order = ranks.ordered(ranks.sort_keys(scores[places]))
    return [np.sort(part) for part in np.array_split(places[order], parts)]


class _Ranked:
    """Scores without a NaN in their order."""

    def __init__(self, scores: np.ndarray) -> None:
        self._keys, self._rows = ranks.ordered(ranks.sort_keys(scores))

    def means(self) -> np.ndarray:
        return ranks.mean_ranks(self._keys, self._rows)

    def kept(self, size: int, order: str) -> np.ndarray:
        """Whether each row is kept, (n,) bool, if `size` are from one end."""
        n = len(self._keys)
        start = n - size if order == "highest" else size  # the place of the cut
        rows = self._rows
        if 0 < start < n:
            first, last = (np.searchsorted(self._keys, self._keys[start], side) for side in ("left", "right"))
            hashes = RowIdentity(n).hashes(premix(0), rows[first:last].astype(np.int64))
            tied = rows[first:last][np.argpartition(hashes, start - first)]
            rows = np.concatenate([rows[:first], tied, rows[last:]])
        kept = np.zeros(n, np.bool_)
        kept[rows[start:] if order == "highest" else rows[:start]] = True
        return kept


def _values(name: str, given: Any, by: str | None) -> np.ndarray:
    """(n,) float32 or float64 scores."""
    if _is_store(given):
        if by is None:
            raise InvalidValue(f"{name} is a store: say by which of its scores, by='el2n'.")
        given = given[by]
    scores = to_host(given)
    if scores.ndim != 1 or scores.dtype.kind not in "iufb":
        raise InvalidValue(f"{name} has dtype {scores.dtype} and shape {scores.shape}: (n,) numbers are needed.")
    if len(scores) >= _MOST:
        raise InvalidValue(f"{name} has {len(scores)} rows: fewer than {_MOST} can be ranked. Compare a part of them.")
    if scores.dtype.kind in "iu" and len(scores) and max(-int(scores.min()), int(scores.max())) > _EXACT:
        raise InvalidValue(
            f"{name} holds integers beyond 2**53, which float64 cannot tell apart. Subtract what they have in common."
        )
    single = scores.dtype.itemsize <= (4 if scores.dtype.kind == "f" else 2)  # that float32 holds exactly
    return np.ascontiguousarray(scores, np.float32 if single else np.float64)


def _percentile(scores: np.ndarray, share: float) -> np.ndarray:
    """That of each column of ascending `scores`, (runs, rows), NaN last; NaN for columns with fewer than two."""
    known = np.count_nonzero(~np.isnan(scores), axis=0)
    place = np.maximum(known - 1, 0) * (share / 100)
    below, above = np.floor(place).astype(np.int64), np.ceil(place).astype(np.int64)
    one, other = (np.take_along_axis(scores, at[None], 0)[0].astype(np.float64) for at in (below, above))
    with np.errstate(invalid="ignore"):  # inf - inf, which is not used
        between = one + (place - below) * (other - one)
    between = np.where((one == other) | (one == -np.inf), one, between)
    return np.where(known < 2, np.nan, between)


def _session(store: Any) -> Any:
    """What is behind a store. Raises `InvalidValue` for anything else."""
    if not _is_store(store):
        raise InvalidValue(f"store is of {type(store).__name__}: a store is needed, which keeps its runs apart.")
    return store.session


def _is_store(given: Any) -> bool:
    return hasattr(given, "observed") and hasattr(given, "identity")


def _check_same_rows(first: Any, second: Any) -> None:
    """Raise `InvalidValue` if two stores have other keys, or the same ones in another order."""
    if not (_is_store(first) and _is_store(second)):
        return
    one, other = first.identity.names[0], second.identity.names[0]
    if len(one) and len(other) and len(first) == len(second) and not np.array_equal(one, other):
        row = int(np.flatnonzero(one != other)[0])
        raise InvalidValue(
            f"row {row} has another key in the second store than in the first: compare the same rows in the same order, such "
            "as first[by] with second[by][second.rows(keys)], keys being those of the first."
        )
