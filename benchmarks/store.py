"""What a commit costs against zarr-python's in-place write, how fast keys are found, and what killing a writer does."""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from obstore.store import S3Store
from zarr.storage import ObjectStore

from adaptive_sampler import ScoreStore
from adaptive_sampler.commands.bench.arena import reset_peak, status
from adaptive_sampler.commands.bench.base import Row
from adaptive_sampler.commands.bench.turns import take_turns
from adaptive_sampler.memory.book import CHUNK
from adaptive_sampler.memory.keys import KeyMap
from adaptive_sampler.scoring import EL2N, Margin
from benchmarks.harness import options, save
from benchmarks.helpers.s3 import BUCKET, s3
from benchmarks.helpers.writer import ROWS, kill_while_committing

ABOUT = (
    "Commits of six columns (fsync and checksums included) against zarr-python's plain in-place write (neither). `ratio`: our time "
    "over zarr's, `at most`: the bar. `peak MiB`: what a commit holds beside the store; a chunk of each column is to suffice."
)


def commits(n: int, folder: Path, rounds: int) -> list[Row]:
    """Rows for a commit of every chunk, and for one of a tenth of the chunks, against zarr's plain write."""
    store = ScoreStore.create(folder / "store", n, [EL2N(), Margin()])
    values = np.random.default_rng(0).random(n, np.float32)
    for name in store.names:
        store.fold(name, np.arange(n), values)
    store.commit()
    columns = {
        f"{name}/{column}": _column(store, name, column)
        for name in store.names
        for column in ("value", "count", "last_seen")
    }
    tenth = np.arange(0, n, max(CHUNK, 1))[: max(n // CHUNK // 10, 1)]

    def full() -> None:
        for name in store.names:
            store.fold(name, np.arange(0, n, min(n, CHUNK)), values[:: min(n, CHUNK)])
        store.commit()
        store.drop_versions(keep=1)

    def part() -> None:
        for name in store.names:
            store.fold(name, tenth, values[tenth])
        store.commit()
        store.drop_versions(keep=1)

    times = take_turns(
        {"zarr": _zarr_in_place(folder / "zarr", columns), "full": full, "tenth": part}, rounds, before=os.sync
    )
    memory = {"full": _peak(full), "tenth": _peak(part)}
    size = sum(c.nbytes for c in columns.values()) / 1e6
    return [
        {
            "case": f"commit, {what}",
            "rows": n,
            "MB": size,
            "ours s": times[key],
            "zarr s": times["zarr"],
            "ratio": times[key] / times["zarr"],
            "at most": bar,
            "peak MiB": memory[key],
            "a chunk a column, MiB": min(n, CHUNK) * len(columns) * 4 / 2**20,
        }
        for what, key, bar in (
            ("every chunk changed", "full", 0.8),
            (f"{len(tenth)} of {-(-n // CHUNK)} chunks changed", "tenth", ""),
        )
    ]


def _peak(run: Callable[[], None]) -> float:
    """How far the process's memory rises above what it is before, in MiB."""
    before = status("VmRSS") or 0
    reset_peak()
    run()
    return ((status("VmHWM") or 0) - before) / 2**20


def commits_to_s3(n: int, rounds: int) -> list[Row]:
    """A row for a commit of a tenth of the chunks to an S3 server, against zarr's ObjectStore, which writes all of them.

    What the versions share is copied by the server behind the commit: a second row has the time until that is done, too.
    """
    with s3() as options, ScoreStore.create(f"s3://{BUCKET}/store", n, [EL2N(), Margin()], options=options) as store:
        values = np.random.default_rng(0).random(n, np.float32)
        for name in store.names:
            store.fold(name, np.arange(n), values)
        store.commit()
        storage: Any = store.session.files.storage
        columns = {
            f"{name}/{column}": _column(store, name, column).copy()
            for name in store.names
            for column in ("value", "count", "last_seen")
        }
        tenth = np.arange(0, n, max(CHUNK, 1))[: max(n // CHUNK // 10, 1)]

        def part() -> None:
            for name in store.names:
                store.fold(name, tenth, values[tenth])
            store.commit()

        def settled() -> None:
            part()
            storage.settle()

        bucket = S3Store(BUCKET, prefix="zarr", client_options={"allow_http": True}, config=options)
        contestants = {"zarr": _zarr_in_place(ObjectStore(bucket), columns), "part": part, "settled": settled}
        times = take_turns(contestants, rounds, before=storage.settle)
    size = sum(c.nbytes for c in columns.values()) / 1e6
    return [
        {
            "case": f"commit to S3, {len(tenth)} of {-(-n // CHUNK)} chunks changed{what}",
            "rows": n,
            "MB": size,
            "ours s": times[key],
            "zarr s": times["zarr"],
            "ratio": times[key] / times["zarr"],
        }
        for what, key in (("", "part"), (", and all copied", "settled"))
    ]


def keys(n: int, rounds: int) -> Row:
    """A row for keys: look-ups per second of unsorted keys in batches of 4096, and bytes per key in memory."""
    names = [f"shard-{i % 1000:04d}/sample_{i:09d}" for i in range(n)]
    made = KeyMap.of(names)
    wanted = [names[i] for i in np.random.default_rng(0).integers(0, n, min(n, 1 << 18))]
    batches = [wanted[i : i + 4096] for i in range(0, len(wanted), 4096)]
    seconds = take_turns({"find": lambda: [made.rows(batch) for batch in batches]}, rounds)["find"]
    return {"case": "keys found", "rows": n, "per second": len(wanted) / seconds, "bytes a key": made.nbytes / n}


def kills(times: int, folder: Path) -> Row:
    """Kill a committing writer again and again, and count how often the store does not open at a committed version."""
    rng, lost, mixed, unreadable = np.random.default_rng(0), 0, 0, 0
    ScoreStore.create(folder / "killed", ROWS, [EL2N(), Margin()]).close()
    start = time.perf_counter()
    for _ in range(times):
        try:
            acknowledged, store = kill_while_committing(folder / "killed", rng.uniform(0, 0.1))
        except Exception:  # any error counts as a store that does not open
            unreadable += 1
            continue
        with store:
            lost += store.version < acknowledged
            mixed += any(len(np.unique(store.last_seen(name))) > 1 for name in store.names)
            store.drop_versions(keep=1)
    return {
        "case": "kill -9 while committing",
        "kills": times,
        "lost": lost,
        "mixed": mixed,
        "unreadable": unreadable,
        "ours s": time.perf_counter() - start,
    }


def _column(store: ScoreStore, name: str, column: str) -> np.ndarray:
    return {
        "value": lambda: store[name],
        "count": lambda: store.count(name),
        "last_seen": lambda: store.last_seen(name),
    }[column]()


def _zarr_in_place(path: Path | ObjectStore, columns: dict[str, np.ndarray]) -> Callable[[], None]:
    group = zarr.open_group(path, mode="w")
    arrays = {
        name: group.create_array(
            name, shape=c.shape, chunks=(CHUNK,), dtype=c.dtype, compressors=None, config={"write_empty_chunks": True}
        )
        for name, c in columns.items()
    }

    def write() -> None:
        for name, column in columns.items():
            arrays[name][:] = column

    return write


def main(arguments: argparse.Namespace) -> None:
    """Run everything."""
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        n = 10_000 if arguments.quick else arguments.n
        rows = [*commits(n, folder, arguments.rounds), *commits_to_s3(n, arguments.rounds)]
        rows += [keys(n, arguments.rounds), kills(arguments.kills, folder)]
    finally:
        shutil.rmtree(folder)
    save("store", rows, arguments, ABOUT)


if __name__ == "__main__":
    parser = options(ABOUT)
    parser.add_argument("--n", type=int, default=10**7, help="rows")
    parser.add_argument("--kills", type=int, default=0, help="how often to kill a writer; 1000 takes some 30 minutes")
    parser.add_argument("--folder", type=Path, default=None, help="a folder on the disk to measure")
    main(parser.parse_args())
