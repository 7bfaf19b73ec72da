"""A run in a folder: its rows, one a line, so that a diff shows what a new run changed; the rest is made from them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptive_sampler.commands.bench.result import digest, markdown
from adaptive_sampler.errors import InvalidValue

ROWS, ABOUT, TABLE, FIGURE = "rows.jsonl", "about.json", "table.md", "figure.png"


def save(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write what `result.body` made: rows, what is known of them, tables, and a figure where contestants ran -> the files.

    Raises ImportError, naming the extra, without matplotlib; all but the figure is written then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = json.loads(json.dumps(found, default=str))  # as whoever reads the files will find it: lists, no tuples
    found = {**found, "digest": digest(found)}
    about = {name: value for name, value in found.items() if name != "rows"}
    (folder / ROWS).write_text("".join(json.dumps(row) + "\n" for row in found["rows"]))
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
    (folder / TABLE).write_text(markdown(found))
    (folder / FIGURE).unlink(missing_ok=True)  # an earlier run's; this one may have nothing to draw
    from adaptive_sampler.commands.bench import figures

    figures.save(found, folder / FIGURE)
    return [path for name in (ROWS, ABOUT, TABLE, FIGURE) if (path := folder / name).exists()]


def read(folder: Path) -> dict[str, Any]:
    """What `save` wrote. Raises InvalidValue where it was edited since: figures that nobody measured are not told on."""
    rows = [json.loads(line) for line in (folder / ROWS).read_text().splitlines()]
    found = {**json.loads((folder / ABOUT).read_text()), "rows": rows}
    if found["digest"] != digest(found):
        raise InvalidValue(f"{folder}: {ROWS} or {ABOUT} was edited after the run. Restore both, or measure again.")
    return found
