"""What `sync` costs on two ranks beside the fold of the same observations in one process."""

import argparse
import statistics
import tempfile
from multiprocessing import get_context

import numpy as np

from adaptive_sampler import ScoreStore
from benchmarks.harness import Row, options, save
from benchmarks.helpers.rank import BATCH, RANKS, observe, rank, six, timed

ABOUT = (
    "`sync` of observations of six scores, in batches of 256, half of them on each of two ranks (gloo, on this machine), "
    "beside the fold of all of them in one process; in turns. Afterwards each rank has the scores of all. `ratio`: the "
    "sync's time, on the slower rank, over the fold's, the median over the rounds; `at most`: the bar. `MiB`: at the peak, "
    "above what was there before."
)
MOST = 2.0


def one(place: str, n: int, number: int) -> tuple[float, float]:
    """The fold of all observations in one process, which are made before."""
    store = ScoreStore.create(place, n, six())
    observe(store, n, 0, BATCH, 1)  # whatever is compiled or loaded at the first call
    batches = [np.random.default_rng(i) for i in range(number // BATCH)]
    made = [(rng.integers(0, n, BATCH), rng.integers(0, 2, (6, BATCH)).astype(np.float32)) for rng in batches]
    names = store.names

    def fold() -> None:
        for rows, values in made:
            store.session.fold_matrix(rows, names, values, 0)

    return timed(fold)


def two(place: str, n: int, number: int) -> tuple[float, float]:
    """The sync, as the rank has it that takes longer."""
    context = get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(RANKS)]
    ranks = [context.Process(target=rank, args=(place, n, number, own, pipes[own][1])) for own in range(RANKS)]
    for process in ranks:
        process.start()
    found = [receiver.recv() for receiver, _ in pipes]
    for process in ranks:
        process.join()
    return max(seconds for seconds, _ in found), max(memory for _, memory in found)


def main(arguments: argparse.Namespace) -> None:
    """Measure, in turns."""
    n, number = (1_000, 10 * BATCH) if arguments.quick else (arguments.n, arguments.observations)
    each: dict[str, list[tuple[float, float]]] = {"fold in one process": [], "sync on two ranks": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.rounds):
            each["fold in one process"].append(one(f"{folder}/one{turn}", n, number))
            each["sync on two ranks"].append(two(f"{folder}/two{turn}", n, number))
    base = each["fold in one process"]
    rows: list[Row] = [
        {
            "work": name,
            "rows": n,
            "observations": number,
            "s": statistics.median(seconds for seconds, _ in taken),
            "ratio": statistics.median(a / b for (a, _), (b, _) in zip(taken, base, strict=True)),
            "at most": MOST if taken is not base else "",
            "MiB": statistics.median(memory for _, memory in taken),
        }
        for name, taken in each.items()
    ]
    save("ranks", rows, arguments, ABOUT)


if __name__ == "__main__":
    parser = options(ABOUT)
    parser.add_argument("--n", type=int, default=10**6, help="rows of the store")
    parser.add_argument("--observations", type=int, default=10**6, help="of both ranks together")
    main(parser.parse_args())
