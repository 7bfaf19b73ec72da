"""Writing the page of a store, and opening it in Chromium."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from adaptive_sampler import ScoreStore, report
from adaptive_sampler.scoring import EL2N, Confidence, Entropy, Loss, Margin, Variability
from adaptive_sampler.selection import Prune
from benchmarks.harness import Row, alone, options, save
from benchmarks.helpers.browser import CHROMIUM, chromium, drawn

ABOUT = (
    "`report.html` of a store of six scores, ten classes, three versions and 8 × 8 images. `first`: the first page of a process "
    "that has imported the package, the script of the charts being kept on disk by an earlier one; `again`: the next page, the "
    "median of all rounds. `open`: from asking headless Chromium for the file until every chart is drawn, the median; empty where "
    "there is no Chromium."
)
CLASSES, VERSIONS = 10, 3


class Images:
    """A dataset of `n` small images, made as they are asked for."""

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, row: int) -> np.ndarray:
        return np.random.default_rng(row).random((8, 8))


def store_of(n: int, folder: Path) -> ScoreStore:
    """A store whose every row was observed in each version."""
    scores = [EL2N(), Margin(), Confidence(), Variability(), Entropy(), Loss()]
    store = ScoreStore.create(folder / "store", n, scores)
    rng = np.random.default_rng(0)
    for epoch in range(VERSIONS):
        for part in np.array_split(np.arange(n), max(n // 100_000, 1)):
            logits = rng.standard_normal((len(part), CLASSES), np.float32) * (1 + epoch)
            store.update(part, epoch=epoch, logits=logits, labels=part % CLASSES)
        store.commit()
    return store


def written(n: int, rounds: int, path: Path) -> Row:
    """The time that the page takes, and its size."""
    times = []
    with tempfile.TemporaryDirectory() as folder, store_of(n, Path(folder)) as store:
        plan = Prune(0.5, "el2n").plan(store, epoch=VERSIONS, seed=0)
        labels = np.arange(n) % CLASSES
        for _ in range(rounds + 1):
            begin = time.perf_counter()
            report.html(store, path, dataset=Images(n), plan=plan, labels=labels)
            times.append(time.perf_counter() - begin)
    return {"rows": n, "first, s": times[0], "again, s": statistics.median(times[1:]), "MB": path.stat().st_size / 1e6}


def opened(path: Path, rounds: int) -> float:
    """The time until all is drawn."""
    times = []
    with chromium() as browser:
        for _ in range(rounds):
            page = browser.new_page()
            begin = time.perf_counter()
            drawn(page, path)
            times.append(time.perf_counter() - begin)
            page.close()
    return statistics.median(times)


def main() -> None:
    """Measure, and write the table."""
    parser = options(ABOUT)
    parser.add_argument("--n", type=float, nargs="+", default=[1e4, 1e6], help="rows")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.n = [300]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        alone(written, 100, 1, path)  # compiles the kernels, and makes the script of the charts, if nothing has yet
        rows = []
        for n in map(int, arguments.n):
            row = alone(written, n, arguments.rounds, path)
            rows.append({**row, "open, s": opened(path, arguments.rounds) if CHROMIUM.exists() else None})
    save("report", rows, arguments, ABOUT)


if __name__ == "__main__":
    main()
