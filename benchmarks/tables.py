"""Plans over tables: beside what else keeps the top half of a Parquet table, and how they grow; tables into stores and out."""

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler.commands.bench.turns import take_turns
from adaptive_sampler.selection import Prune
from adaptive_sampler.tables import plan_table
from benchmarks.harness import Row, options, save
from benchmarks.helpers import in_and_out

ABOUT = (
    "The top half by one float32 score of a Parquet table with ties, which a hash of the row number breaks. First side by "
    "side in one process, in turns, on 8 files. `times ours`: the time over that of plan_table with the numbers of the kept"
    " rows read; DuckDB and Polars where they are installed. Then each pass of those plans, its shortest time in these "
    "turns: `times a bare scan`: over that of PyArrow's reading the same columns by `ParquetFile.iter_batches`, its "
    "shortest too. Then growth: a process for each size and engine, 64 files, a row for each pass. `driver got KiB`: what "
    "workers of a cluster sent to the process that makes the plan, pickled; `peak MiB` of that process and of the largest "
    "worker of the cluster, in that pass. " + in_and_out.ABOUT
)
GROUPS = 1000
LEVELS = 1 << 13  # so many scores are different: each cut goes through ties
SCANS = {
    "count groups": ("score",),
    "count near": ("score",),
    "list near": ("score", "row"),
}  # the columns that each pass reads
ROW_GROUP = 1 << 20
PARTS = 64


def write(folder: Path, n: int, files: int) -> None:
    """`n` rows in `files` Parquet files: row, score, part, a group. A row group at a time, as memory may not hold a file."""
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir(parents=True)
    names = pa.array([f"source-{i:04}" for i in range(GROUPS)])
    fields = [("row", pa.int64()), ("score", pa.float32()), ("part", pa.dictionary(pa.int32(), pa.string()))]
    for number, (start, stop) in enumerate(itertools.pairwise(np.linspace(0, n, files + 1).astype(np.int64).tolist())):
        rng = np.random.default_rng([0, number])
        with parquet.ParquetWriter(folder / f"{number:03}.parquet", pa.schema(fields)) as file:
            for first in range(start, stop, ROW_GROUP):
                rows = np.arange(first, min(first + ROW_GROUP, stop))
                score = np.floor(rng.random(len(rows), np.float32) * LEVELS).astype(np.float32) / LEVELS
                codes = pa.array(rng.integers(0, GROUPS, len(rows), np.int32))
                columns = {"row": rows, "score": score, "part": pa.DictionaryArray.from_arrays(codes, names)}
                file.write_table(pa.table(columns), row_group_size=ROW_GROUP)


def planned(folder: Path, group: str | None = None, engine: str = "arrow") -> Any:
    """The plan alone."""
    return plan_table(folder, Prune(0.5, "score", per_group=group), key="row", engine=engine, check_keys=False)


def ours(folder: Path) -> int:
    """Plan, and read which rows are kept."""
    return sum(map(len, planned(folder).tables()))


def bare_scan(folder: Path, columns: tuple[str, ...]) -> None:
    """What a pass of ours must read at least."""
    from pyarrow import parquet

    for path in sorted(folder.iterdir()):
        with parquet.ParquetFile(path) as file:
            for _ in file.iter_batches(1 << 17, columns=[*columns]):
                pass


def by_duckdb(folder: Path, n: int) -> int:
    """ORDER BY … LIMIT, ties broken by the row."""
    import duckdb

    query = f"SELECT row FROM read_parquet('{folder}/*.parquet') ORDER BY score DESC, row LIMIT {n // 2}"
    return len(duckdb.sql(query).to_arrow_table())


def by_polars(folder: Path, n: int) -> int:
    """The streaming engine's top_k, which breaks ties as it likes."""
    import polars

    scan = polars.scan_parquet(f"{folder}/*.parquet").select("row", "score")
    return len(scan.top_k(n // 2, by="score").collect(engine="streaming"))


class Passes:
    """Plans, of which the shortest time of each pass is kept."""

    def __init__(self) -> None:
        self.shortest: dict[tuple[str | None, str], float] = {}

    def plan(self, folder: Path, group: str | None = None) -> None:
        """Plan once more."""
        for one in planned(folder, group).passes:
            key = group, one.name
            self.shortest[key] = min(self.shortest.get(key, one.seconds), one.seconds)

    def scan(self, folder: Path, columns: tuple[str, ...]) -> None:
        """Read these columns once more."""
        begun, key = time.perf_counter(), (None, str(columns))
        bare_scan(folder, columns)
        self.shortest[key] = min(self.shortest.get(key, np.inf), time.perf_counter() - begun)

    def rows(self, n: int) -> Iterator[Row]:
        """A row for each pass of each plan."""
        for (group, name), seconds in self.shortest.items():
            if name in SCANS:
                bare = self.shortest[None, str(columns_of(name, group))]
                row = {"rows": n, "plan": f"per {group}" if group else "", "pass": name, "s": seconds}
                yield {**row, "times a bare scan": seconds / bare}


def columns_of(name: str, group: str | None) -> tuple[str, ...]:
    """The columns that a pass of this name reads."""
    return SCANS[name] + ((group,) if group else ())


def side_by_side(n: int, rounds: int, folder: Path) -> list[Row]:
    """A row for each contestant, then one for each pass of ours."""
    write(folder, n, 8)
    passes = Passes()
    contestants: dict[str, Callable[[], Any]] = {
        "plan_table, kept rows read": lambda: ours(folder),
        "plan_table": lambda: passes.plan(folder),
        "plan_table per group": lambda: passes.plan(folder, "part"),
        "DuckDB ORDER BY LIMIT": lambda: by_duckdb(folder, n),
        "Polars streaming top_k": lambda: by_polars(folder, n),
    }
    for name, package in (("DuckDB ORDER BY LIMIT", "duckdb"), ("Polars streaming top_k", "polars")):
        if importlib.util.find_spec(package) is None:
            del contestants[name]
    for columns in dict.fromkeys(columns_of(name, group) for name in SCANS for group in (None, "part")):
        contestants[f"bare scan of {', '.join(columns)}"] = lambda columns=columns: passes.scan(folder, columns)
    times = take_turns(contestants, rounds)
    first = next(iter(times.values()))
    beside = [{"rows": n, "contestant": name, "s": s, "times ours": s / first} for name, s in times.items()]
    return [*beside, *passes.rows(n)]


# -- growth -------------------------------------------------------------------------------------------------------------


def workers() -> list[int]:
    """The processes of the workers of a cluster on this machine."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cmdline").read_bytes().startswith(b"ray::"):
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def forget_peak(process: int) -> None:
    """From now on count the peak of its memory anew."""
    with contextlib.suppress(OSError):  # it has ended
        Path(f"/proc/{process}/clear_refs").write_text("5")


def peak(process: int) -> float:
    """The most memory that it had since then, in MiB."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM")), 0.0)


def alone(engine: str, folder: Path) -> None:
    """Plan in this process, and print what each pass took, for the process that started this one."""
    from adaptive_sampler.tables.planning.partitions import Partitions

    peaks: list[tuple[float, float]] = []

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(table: Any, *arguments: Any) -> Any:
            for process in (os.getpid(), *workers()):
                forget_peak(process)
            before, found = len(table.passes), method(table, *arguments)
            if len(table.passes) > before:
                peaks.append((peak(os.getpid()), max(map(peak, workers()), default=0.0)))
            return found

        return call

    for way in ("run", "sample"):
        setattr(Partitions, way, watched(getattr(Partitions, way)))
    begun = time.perf_counter()
    plan = planned(folder, engine=engine)
    seconds = time.perf_counter() - begun
    told = [
        {"name": one.name, "seconds": one.seconds, "received": one.received, "driver": own, "worker": worker}
        for one, (own, worker) in zip(plan.passes, peaks, strict=True)
    ]
    print(json.dumps({"s": seconds, "passes": told}))


def growth(n: int, engines: list[str], folder: Path) -> list[Row]:
    """A row for each engine and pass, and one for the whole plan."""
    write(folder, n, PARTS)
    rows: list[Row] = []
    for engine in engines:
        command = [sys.executable, "-m", "benchmarks.tables", "--alone", engine, "--folder", str(folder)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
        found = json.loads(done.stdout.splitlines()[-1])
        steps = found["passes"]
        whole = {"name": "the whole plan", "seconds": found["s"]}
        whole |= {"received": sum(step["received"] for step in steps)}
        whole |= {name: max(step[name] for step in steps) for name in ("driver", "worker")}
        for step in (*steps, whole):
            row = {"rows": n, "engine": engine, "pass": step["name"], "s": step["seconds"]}
            row |= {"driver got KiB": round(step["received"] / 2**10), "peak MiB": round(step["driver"])}
            rows.append({**row, "of a worker": round(step["worker"]) or ""})
    return rows


def main() -> None:
    """Measure, and write the table; or with --alone print one plan's passes."""
    parser = options(ABOUT)
    parser.add_argument("--n", type=int, default=20_000_000, help="rows side by side")
    sizes = {"type": lambda text: [int(float(n)) for n in text.split(",")], "default": [10**7, 10**8, 10**9]}
    parser.add_argument("--sizes", **sizes, help="rows that growth is shown by: 1e7,1e8,1e9")
    parser.add_argument(
        "--moved", **(sizes | {"default": [10**7, 10**8]}), help="rows of tables into stores and out: 1e7,1e8"
    )
    parser.add_argument("--keyed", **(sizes | {"default": [10**7]}), help="rows of such tables with keys")
    parser.add_argument("--engines", type=lambda text: text.split(","), default=["arrow", "ray"])
    parser.add_argument("--folder", type=Path, help="where tables are written, for a while: 10⁹ rows take 8 GB")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        alone(arguments.alone, arguments.folder)
        return
    if arguments.quick:
        vars(arguments).update(n=20_000, sizes=[10_000], moved=[10_000], keyed=[10_000], engines=["arrow"], rounds=1)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        moved = in_and_out.section(
            arguments.moved, arguments.keyed, arguments.rounds, folder
        )  # forks: before any thread is
        rows = side_by_side(arguments.n, arguments.rounds, folder / "beside")
        shutil.rmtree(folder / "beside")
        for n in arguments.sizes:
            rows += growth(n, arguments.engines, folder / str(n))
            shutil.rmtree(folder / str(n))
        rows += moved
    finally:
        shutil.rmtree(folder)
    save("tables", rows, arguments, ABOUT)


if __name__ == "__main__":
    main()
