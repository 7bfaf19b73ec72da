"""A result: rows with the machine, versions and arguments they come from, written so that an edit is noticed."""

import hashlib
import itertools
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from adaptive_sampler.commands.bench.base import Row

VERSIONS = (
    *("numpy", "numba", "zarr", "torch", "torchdata", "webdataset"),
    *("grain", "spdl", "catalyst", "torchsampler", "lhotse", "infobatch"),
    *("pyarrow", "ray", "duckdb", "polars"),
)
_ROOT = Path(__file__).parents[2]


def body(name: str, rows: Sequence[Row], arguments: Mapping[str, Any], about: str, **more: Any) -> dict[str, Any]:
    """What is known of a run. Arguments that are folders are left out, as a reader's are others."""
    told = {k: v for k, v in arguments.items() if not isinstance(v, Path)}
    return {"benchmark": name, "about": about, "arguments": told, "machine": machine(), "rows": list(rows), **more}


def write(found: Mapping[str, Any], folder: Path) -> Path:
    """`found`, which `body` made, as NAME.json and NAME.md -> the path of the former."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found['benchmark']}.json"
    found = json.loads(json.dumps(found, default=str))  # as whoever reads the file will find it: lists, no tuples
    path.write_text(json.dumps({**found, "digest": digest(found)}, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(found))
    return path


def digest(found: Mapping[str, Any]) -> str:
    """Tells a file that `write` wrote from one that was edited."""
    content = {k: v for k, v in found.items() if k != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def machine() -> dict[str, Any]:
    """What a reader must know to judge the figures."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in VERSIONS},
        "commit": _commit(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else "unknown",
    }


def markdown(found: Mapping[str, Any]) -> str:
    """The tables of a result, for the docs."""
    where = found["machine"]
    lines = [f"<!-- written by benchmarks/{found['benchmark']}.py -->", found["about"], ""]
    for title, names, rows in tables(found["rows"], found.get("by")):
        lines += [f"**{title}**", ""] if title else []
        lines += ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
        lines += ["| " + " | ".join(show(row[name]) for name in names) + " |" for row in rows]
        lines.append("")
    lines += [
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB; Python {where['python']}, "
        + ", ".join(f"{k} {v}" for k, v in where["versions"].items() if v)
        + f"; commit {where['commit']}; load {where['load']}; {found['arguments']}.",
    ]
    return "\n".join(lines) + "\n"


def tables(rows: Sequence[Row], by: str | None = None) -> list[tuple[str, list[str], list[Row]]]:
    """(title, columns, rows) of each run of rows with the same columns and, where `by` names one, the same value of it."""

    def table(row: Row) -> tuple[str, list[str]]:
        return str(row[by]) if by else "", [name for name in row if name != by]

    return [(*heading, list(some)) for heading, some in itertools.groupby(rows, key=table)]


def show(value: Any) -> str:
    """A figure with as many digits as it is worth."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    """The commit of a clone; of an installed wheel its version, whatever repository it may be installed below."""
    try:
        own = _git("ls-files", "--error-unmatch", __file__)
    except OSError:
        own = ""
    return (_git("describe", "--always", "--dirty") if own else "") or f"release {_version('adaptive-sampler')}"


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=False
    ).stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine() or "unknown"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory_gib() -> Any:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    except (AttributeError, ValueError, OSError):
        return "unknown"
