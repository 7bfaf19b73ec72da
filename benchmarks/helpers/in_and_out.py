"""Tables into stores and out of them, beside PyArrow's bare reading of the same columns: how long, and with how much memory."""

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler.commands.bench.base import Row
from benchmarks.harness import alone

ABOUT = (
    "Tables into stores and out: one file with a column of row numbers, or of keys, and one of float32 scores; a process for each "
    "table, in which all take turns, a turn more to warm up; the shortest time of each. `times a bare read`: over that of "
    "`ParquetFile.iter_batches` with the same columns. from_table writes the store to disk, too: `bare write` is a file of as many "
    "bytes, with fsync; and export writes the table. "
    "`beside MiB`: the peak of the process less what it held before or, if that is more, holds afterwards, as a store is. "
)
ROW_GROUP = AT_ONCE = 1 << 20
STORED = 12  # bytes of a row in the store: the score, how often it was observed, and when last


def write(path: Path, n: int, keyed: bool) -> None:
    """`n` lines, each with its row number or a key, and a score."""
    import pyarrow as pa
    from pyarrow import parquet

    name, kind = ("key", pa.string()) if keyed else ("row", pa.int64())
    rng = np.random.default_rng(0)
    with parquet.ParquetWriter(path, pa.schema([(name, kind), ("loss", pa.float32())]), use_dictionary=False) as file:
        for first in range(0, n, AT_ONCE):
            rows = pa.array(np.arange(first, min(first + AT_ONCE, n)))
            columns = {name: rows.cast(kind), "loss": rng.random(len(rows), np.float32)}
            file.write_table(pa.table(columns), row_group_size=ROW_GROUP)


def section(sizes: list[int], keyed: list[int], rounds: int, folder: Path) -> list[Row]:
    """Rows for tables of so many lines, and for some with keys. Call this before anything has run in this process."""
    tables = [(n, False) for n in sizes] + [(n, True) for n in keyed]
    return [row for n, has_keys in tables for row in alone(measured, n, has_keys, rounds, folder)]


def measured(n: int, keyed: bool, rounds: int, folder: Path) -> list[Row]:
    """The rows for one table."""
    path, column = folder / "table.parquet", "key" if keyed else "row"
    write(path, n, keyed)
    work = _work(path, column, folder)
    shortest, most = dict.fromkeys(work, np.inf), dict.fromkeys(work, 0.0)
    for turn in range(rounds + 1):
        for name, run in work.items():
            seconds, beside = _one(run)
            if turn:
                shortest[name], most[name] = min(shortest[name], seconds), max(most[name], beside)
    path.unlink()
    return [
        {"rows": n, "by": column, "what": name, "s": s, "times a bare read": s / shortest["bare read"]}
        | {"beside MiB": round(most[name])}
        for name, s in shortest.items()
    ]


def _work(path: Path, column: str, folder: Path) -> dict[str, Callable[[], Any]]:
    from pyarrow import parquet

    from adaptive_sampler import ScoreStore
    from adaptive_sampler.scoring import Loss

    stores: list[ScoreStore] = []
    lines = parquet.ParquetFile(path).metadata.num_rows

    def bare_read() -> None:
        with parquet.ParquetFile(path) as file:
            for _ in file.iter_batches(1 << 17, columns=[column, "loss"]):
                pass

    def bare_write() -> None:
        with (folder / "bytes").open("wb") as file:
            for _ in range(0, lines, AT_ONCE):
                file.write(bytes(STORED * AT_ONCE))
            file.flush()
            os.fsync(file.fileno())

    def from_table() -> None:
        store = ScoreStore.from_table(folder / "store", path, [Loss()], overwrite=True)
        stores.append(store)

    def fold_table() -> None:
        stores[0].fold_table(path, key="key" if column == "key" else None, scores={"loss": "loss"})

    def export() -> None:
        stores[0].export(folder / "out.parquet")
        stores.pop().close()

    work = {"bare read": bare_read, "bare write": bare_write}
    return work | {"from_table": from_table, "fold_table": fold_table, "export": export}


def _one(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and the most memory, in MiB, beside what was held before or is held afterwards."""
    gc.collect()  # a store of the turn before
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before, begun = _memory("VmRSS"), time.perf_counter()
    run()
    seconds = time.perf_counter() - begun
    beside = _memory("VmHWM") - max(before, _memory("VmRSS"))
    os.sync()  # or the next one would wait for what this one has written
    return seconds, beside


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith(name))
