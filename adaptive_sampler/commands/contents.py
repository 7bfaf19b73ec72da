"""What a store holds, as `adaptive-sampler info` shows it."""

from datetime import datetime

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adaptive_sampler.store import ScoreStore


def show(store: ScoreStore, console: Console) -> None:
    """Print where a store comes from, its scores, its columns and its versions."""
    about = store.about
    made = f"{datetime.fromtimestamp(about['created']):%Y-%m-%d %H:%M}"
    runs = ", ".join(name for name in about["runs"] if name) or "one, unnamed"
    apart = "runs, kept apart" if store.session.table.runs else "runs"
    console.print(f"{store.path}: {len(store):,} rows, made {made}, {apart}: {runs}", markup=False, soft_wrap=True)
    console.print(_scores(store))
    if about["columns"]:
        told = ", ".join(f"{name} ({kind})" for name, kind in about["columns"].items())
        console.print(f"columns of your own: {told}", markup=False, soft_wrap=True)
    versions = Table(
        "version", "when", "observed", "pinned", "note", title="versions", title_justify="left", box=SIMPLE_HEAD
    )
    for version in store.versions():
        when = f"{datetime.fromtimestamp(version.time):%Y-%m-%d %H:%M:%S}"
        pinned = "yes" if version.pinned else ""
        versions.add_row(str(version.version), when, f"{version.observed:,}", pinned, Text(version.note))
    console.print(versions)


def _scores(store: ScoreStore) -> Table:
    table = Table(
        "score",
        "observed",
        "times",
        "last epoch",
        "lowest",
        "median",
        "highest",
        title="scores",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for name in store.names:
        observed = store.observed(name)
        row = [name, f"{observed:,}"]
        if observed:
            seen = store.count(name) > 0
            values = store[name][seen]
            times, epoch = store.count(name)[seen].mean(), store.last_seen(name).max()
            row += [f"{times:.1f}", str(epoch), *(f"{v:.4g}" for v in (values.min(), np.median(values), values.max()))]
        table.add_row(*row)
    return table
