"""Epochs planned anew: small ones beside torch's and bare NumPy's, and one score's best half in a store of six."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.commands.bench.arena import REHEARSED, Out, compete
from adaptive_sampler.commands.bench.base import Turn
from adaptive_sampler.commands.bench.data import drain, losses
from adaptive_sampler.scoring import EL2N, Confidence, Error, Forgetting, Loss, Margin
from adaptive_sampler.selection import KeepAll, Policy, Prune
from benchmarks.harness import Row, options, save

ABOUT = (
    "Epochs in lists, each contestant in a process of its own, in turns. An update reaches the store between two epochs, so"
    " that each is planned anew; the update is not timed. `ratio`: the other's time over ours, the median over the rounds; "
    "`at least`: the bar. bare NumPy: argpartition, shuffle, lists, without a seed for each epoch, a plan that can be kept "
    "or resumed, or checks: the floor; how far we are above it is said where it is more than twice. `MiB`: at the peak of a"
    " turn, above what was there before it; `at rest`: what the set-up added to the process, of ours the store, from 10⁵ "
    "rows on."
)
TIME = 0.05  # seconds that a turn takes at least: as many epochs as that needs
WHY = (
    "A plan is more than its rows: which policy, seed and state of the scores it was made from, so that it can be named, kept and "
    "resumed; and each epoch has seeds of its own. That takes the same time for any number of rows."
)
SIX = (
    "The six scores of a row lie side by side, so that an update of all changes one place. So the plan reads past the "
    "others: 64 bytes a row instead of 4, which takes most of its time."
)
FSYNC = "The commit waits for the disk several times, whatever the size of the store."


@dataclass(frozen=True)
class Work:
    """A piece of work of `n` rows, its contestants, (function of this module, arguments, bar), ours first, and remarks.

    `why`: what makes ours take longer than twice bare NumPy's time.
    """

    name: str
    n: int
    contestants: dict[str, tuple[str, tuple[Any, ...], float | None]]
    why: str = ""

    def rows(self, rounds: int) -> Iterator[Row]:
        """Measure -> a row for each contestant."""
        setups = {
            name: (f"benchmarks.epochs:{what}", (self.n, *told)) for name, (what, told, _) in self.contestants.items()
        }
        found = compete(setups, rounds)
        ours = found["ours"]
        for name, turns in found.items():
            if isinstance(turns, Out) or isinstance(ours, Out):
                raise RuntimeError(f"{self.name}, {self.n} rows, {name}: {turns}")
            row = {"work": self.name, "n": self.n, "contestant": name, "s": turns.seconds, "ratio": turns.times(ours)}
            row |= {"at least": self.contestants[name][2] or "", "MiB": (turns.memory or 0) / 2**20}
            row |= {"at rest": (turns.held or 0) / 2**20 if self.n >= REHEARSED else ""}
            yield row | {"remark": self._remark(name, row["ratio"])}

    def _remark(self, name: str, ratio: float) -> str:
        """Of bare NumPy, how far ours is above it, and why; of another contestant, why its bar is not reached."""
        if name != "bare NumPy":
            return self.why if (self.contestants[name][2] or 0) > ratio else ""
        return "ours is within twice of it" if ratio >= 0.5 else f"ours takes {1 / ratio:.3g} times as long. {self.why}"


def works(small: list[int], large: int) -> Iterator[Work]:
    """The pieces of work: epochs of `small` numbers of rows, and those of `large`."""
    for n in small:
        for size in (64, 256):
            half, whole = {1_000: (1 / 1.5, 1.0), 100_000: (1.2, 1.2)}.get(n, (1.0, 1.0))
            for keep, bar, kept in ((0.5, half, "half kept"), (1.0, whole, "all kept")):
                beside: dict[str, Any] = {"torch RandomSampler": ("torch", (size, keep), bar)}
                beside["bare NumPy"] = "bare", (size, keep), None
                ours = "ours", (size, keep, 1, False), None
                yield Work(f"epoch in lists of {size}, {kept}", n, {"ours": ours, **beside}, WHY)
                ours = "ours", (size, keep, 1, True), None
                beside["torch RandomSampler"] = "torch", (size, keep), None
                yield Work(f"the same and a commit, lists of {size}, {kept}", n, {"ours": ours, **beside}, FSYNC)
    epoch = {"ours": ("ours", (256, 0.5, 6, False), None), "torch RandomSampler": ("torch", (256, 0.5), 9.0)}
    yield Work("epoch in lists of 256, half kept, a store of six scores", large, epoch, SIX)
    plan = {"ours": ("plan", (), None), "np.argpartition": ("partition", (), 6.0)}
    yield Work("plan: the top half of one score in a store of six", large, plan, SIX)


def ours(n: int, size: int, keep: float, scores: int, commits: bool) -> Turn:
    """Whole epochs of ours, each after an update; `commits`: with a commit after each."""
    store = _store(n, scores)
    walk = AdaptiveSampler(store, _policy(keep)).batches(size)

    def between() -> None:
        _observe(store, 0, min(n, 64))
        if commits:
            store.drop_versions(keep=1)

    def epoch() -> None:
        drain(walk)
        if commits:
            store.commit()

    return _repeated(epoch, between)


def torch(n: int, size: int, keep: float) -> Turn:
    """RandomSampler's epochs, over as many rows as are kept."""
    from torch.utils.data import BatchSampler, RandomSampler

    walk = BatchSampler(RandomSampler(range(int(n * keep))), size, False)
    return _repeated(lambda: drain(walk))


def bare(n: int, size: int, keep: float) -> Turn:
    """The least that NumPy needs for such an epoch, by one generator."""
    values, rng, number = losses(n), np.random.default_rng(0), int(n * keep)

    def epoch() -> None:
        rows = np.argpartition(values, n - number)[n - number :] if number < n else np.arange(n)
        rng.shuffle(rows)
        listed = rows.tolist()
        drain(listed[start : start + size] for start in range(0, number, size))

    return _repeated(epoch)


def plan(n: int) -> Turn:
    """The plan alone, by one of six scores."""
    store, policy = _store(n, 6), _policy(0.5)
    return _repeated(lambda: policy.plan(store, epoch=1, seed=0))


def partition(n: int) -> Turn:
    """The same rows by NumPy, from a contiguous array."""
    values = losses(n)
    return _repeated(lambda: np.argpartition(values, n // 2)[n // 2 :])


def _store(n: int, scores: int) -> ScoreStore:
    known = [Loss(), EL2N(), Forgetting(), Margin(), Confidence(), Error()][:scores]
    store = ScoreStore.create(tempfile.mkdtemp() + "/s", n, known)
    part = 1 << 20
    for start in range(0, n, part):
        _observe(store, start, min(start + part, n))
    return store


def _observe(store: ScoreStore, start: int, stop: int) -> None:
    """Fold some values of all scores at once, as a training step does."""
    values = np.random.default_rng([start, store.epoch]).random((len(store.names), stop - start), np.float32)
    store.session.fold_matrix(np.arange(start, stop), store.names, values, store.epoch)


def _policy(keep: float) -> Policy:
    return KeepAll() if keep == 1 else Prune(keep, "loss")


def _repeated(epoch: Callable[[], object], between: Callable[[], object] = lambda: None) -> Turn:
    """A turn of so many epochs that their time is known well; it returns the seconds of the median one."""

    def turn() -> float:
        each: list[float] = []
        while sum(each) < TIME:
            between()
            start = time.perf_counter()
            epoch()
            each.append(time.perf_counter() - start)
        return statistics.median(each)

    return turn


def main(arguments: argparse.Namespace) -> None:
    """Measure everything."""
    small, large = ([1_000], 10_000) if arguments.quick else ([10**3, 10**4, 10**5], arguments.n)
    tempfile.tempdir = str(arguments.folder) if arguments.folder else None
    rows = [row for work in works(small, large) if arguments.only in work.name for row in work.rows(arguments.rounds)]
    save("epochs", rows, arguments, ABOUT)


if __name__ == "__main__":
    parser = options(ABOUT)
    parser.add_argument("--n", type=int, default=10**7, help="rows of the large store")
    parser.add_argument("--only", default="", help="only the work whose name holds this")
    parser.add_argument("--folder", type=Path, default=None, help="a folder on the disk that commits write to")
    main(parser.parse_args())
