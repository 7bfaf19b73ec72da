"""The rows whose labels are most likely wrong, as a table to look at and as a CSV file to work with."""

import base64
import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptive_sampler.report.ordering import Ordered
from adaptive_sampler.report.samples import CELL, plain, shortened
from adaptive_sampler.store import ScoreStore

EXPORTED, LISTED = 1000, 12
# Which score says so, the first that there is; and from which end.
_BY = (("margin", "lowest"), ("confidence", "lowest"), ("loss", "highest"), ("el2n", "highest"))


@dataclass(frozen=True)
class Suspects:
    """`by` and `end`: the score and which of its ends; `below`: how many rows have a negative margin, None for other scores."""

    by: str
    end: str
    below: int | None
    head: list[str]
    lines: list[list[str]]

    @property
    def listed(self) -> list[list[str]]:
        """The first lines, which the page shows."""
        return [[shortened(value, CELL) for value in line] for line in self.lines[:LISTED]]

    @property
    def link(self) -> str:
        """All lines as a CSV file in a data URI; a text that a spreadsheet would compute has an apostrophe before it."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([[_harmless(value) for value in line] for line in [self.head, *self.lines]])
        return (
            "data:text/csv;charset=utf-8;base64,"
            + base64.b64encode(text.getvalue().encode("utf-8", "replace")).decode()
        )


def _harmless(value: str) -> str:
    """The value as spreadsheets show it: a key such as =HYPERLINK(…) would be run. A number stays one."""
    if not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def find(store: ScoreStore, ordered: dict[str, Ordered], labels: Any, predictions: Any) -> Suspects | None:
    """The suspects, or None if no score tells them."""
    by, end = next(((name, end) for name, end in _BY if name in ordered), ("", ""))
    if not by:
        return None
    one = ordered[by]
    rows = (one.rows if end == "lowest" else one.rows[::-1])[:EXPORTED]
    columns: dict[str, list[str]] = {"row": [str(row) for row in rows]}
    if store.session.keys is not None:
        columns["key"] = [store.key(int(row)) for row in rows]
    for name, values in (("label", labels), ("prediction", predictions)):
        if values is not None:
            columns[name] = [plain(value) for value in values[rows]]
    for name in store.names:
        columns[name] = [f"{value:.6g}" for value in store[name][rows]]
    below = int(np.searchsorted(one.scores, 0.0)) if by == "margin" else None
    return Suspects(by, end, below, list(columns), [list(line) for line in zip(*columns.values(), strict=True)])
