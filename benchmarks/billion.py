"""A billion rows on one machine: create, fold, plan, walk and commit one score, compared with a tenth of the rows."""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler import ScoreStore
from adaptive_sampler.commands.bench.arena import reset_peak, status
from adaptive_sampler.commands.bench.base import Row
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Draw, Prune
from benchmarks.harness import alone, options, save

ABOUT = (
    "One score of n rows, in a process of its own. `share`: the time at the largest n over ten times that at a tenth of it. "
    "`peak / half kept`: the memory of the whole process, the store's included."
)
PART = 1 << 24
HALF, DRAWN = "plan: the top half, and the first batch", "plan: n weighted draws, and the first batch"
MOST = 1.15  # times as much memory as half kept may n weighted draws take at their peak


def life(n: int, folder: Path) -> list[Row]:
    """Run every step of a store's life -> one row per step, with its seconds and its peak memory."""
    rows: list[Row] = []

    def timed(step: str, run: Callable[[], Any]) -> Any:
        reset_peak()
        start = time.perf_counter()
        result = run()
        rows.append({"step": step, "n": n, "s": time.perf_counter() - start, "peak GiB": status("VmHWM") / 2**30})
        return result

    store = timed("create", lambda: ScoreStore.create(folder / str(n), n, [Loss()]))
    timed("fold a loss into every row", lambda: _fold(store, n))
    pruned = iter(AdaptiveSampler(store, Prune(0.5, "loss")).batches(256))
    timed(HALF, lambda: next(pruned))
    timed("walk 10,000 batches more", lambda: _walk(pruned, 10_000))
    drawn = iter(AdaptiveSampler(store, Draw("loss")).batches(256))
    timed(DRAWN, lambda: next(drawn))
    timed("walk 10,000 batches more of them", lambda: _walk(drawn, 10_000))
    timed("commit", store.commit)
    store.close()
    return rows


def _fold(store: ScoreStore, n: int) -> None:
    rng = np.random.default_rng(0)
    for start in range(0, n, PART):
        rows = np.arange(start, min(start + PART, n))
        store.fold("loss", rows, rng.random(len(rows), np.float32))


def _walk(walk: Iterator[list[int]], batches: int) -> None:
    for _ in islice(walk, batches):
        pass


def _compare(rows: list[Row]) -> None:
    """Beside the peak memory of the weighted draws note how many times that is the peak of half kept."""
    peaks = {row["step"]: row["peak GiB"] for row in rows}
    for row in rows:
        drawn = row["step"] == DRAWN
        row["peak / half kept"], row["at most"] = (peaks[DRAWN] / peaks[HALF], MOST) if drawn else ("", "")


def main(arguments: argparse.Namespace) -> None:
    """Measure a tenth of the rows first, then all rows."""
    n = 20_000 if arguments.quick else arguments.n
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        tenth = alone(life, n // 10, folder)
        shutil.rmtree(folder / str(n // 10))
        whole = alone(life, n, folder)
    finally:
        shutil.rmtree(folder)
    for small, large in zip(tenth, whole, strict=True):
        small["share"], large["share"] = "", large["s"] / (10 * small["s"])
    for rows in (tenth, whole):
        _compare(rows)
    save("billion", [*tenth, *whole], arguments, ABOUT)


if __name__ == "__main__":
    parser = options(ABOUT)
    parser.add_argument("--n", type=int, default=10**9, help="rows; 10⁹ need 20 GiB of memory and 13 GB of disk")
    parser.add_argument("--folder", type=Path, default=None, help="where the store is written")
    main(parser.parse_args())
