"""Write docs/benchmarks.md from the result files: `python -m benchmarks.page`."""

import json
from pathlib import Path
from typing import Any

from adaptive_sampler.commands.bench import files, floors
from adaptive_sampler.commands.bench.command import NAME
from adaptive_sampler.commands.bench.result import markdown
from benchmarks.harness import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
LINK = "../benchmarks/results"  # as the page reaches RESULTS
HEAD = """# Benchmarks

What a sampler costs on your machine, beside torch's and whichever others are installed:

```sh
pip install "adaptive-sampler[torch,report]"
adaptive-sampler bench                                       # every case at 10⁵ and 10⁶ rows
adaptive-sampler bench --case epoch --n 1e6,1e7 --output out # some cases; rows, tables and a figure into out/
adaptive-sampler bench --case epoch --sampler mine:factory   # and a sampler of your own
adaptive-sampler bench --list                                # the cases, and who competes
```

`mine:factory` names a function in a module that can be imported from where you are. It is called with the number of
rows, and with `batch_size=256` if it has a parameter of that name, and returns what can be iterated again and again, an
epoch each time, over rows or over lists of rows:

```python
import numpy as np


class Shuffled:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(np.random.default_rng().permutation(self.n).tolist())


def factory(n):
    return Shuffled(n)
```

What it yields decides where it competes: every row once, n // 2 rows once, or n rows of which some come repeatedly.
Anything else is an error that says what came.

Ours spend a fixed time on an epoch of any size, and more where its plan is made anew. So below some thousand rows they lead by
less, and with half of a thousand rows kept torch's may take less time. `python -m benchmarks epochs` shows how much.

Three figures in the tables are bounded by what is not a matter of code:

- n weighted draws hold a byte for each row beside the scores while they are made, 1.08 times the memory of half kept. Up to 2²⁷
  samples an epoch's order is an array of 4 bytes a sample, of which half kept has half as many: there it is about 1.3 times.
- A commit waits until the disk has the bytes, and zarr's plain write until memory has them. So where the disk is the slower
  one, a commit of every chunk takes longer than that write: with `os.fsync` left out it took 0.4 of its time at 10⁸ rows. What a
  commit computes, checksums and copies of columns, is the larger part of fewer rows.
- After a `sync` every rank has folded the observations of all ranks, received those of the others, and compared a checksum of
  all columns. On two ranks each takes about twice the processor time of the fold alone, and waits for the other one besides.

The rest of this page is written by `benchmarks/page.py` from the files in
[benchmarks/results](../benchmarks/results), which the benchmarks wrote. Ratios are medians of contestants that took turns
in one run; absolute times are of a small shared machine. Run them yourself: `python -m benchmarks`, in a clone, lists
them.
"""


def page() -> str:
    """The text of the page, made from the result files."""
    sections = {path.stem: _file(path) for path in RESULTS.glob("*.json")} | {NAME: _folder(RESULTS / NAME)}
    return HEAD + "".join(f"\n## {name}\n\n{sections[name]}" for name in sorted(sections))


def _file(path: Path) -> str:
    """A result that is one file, with the figure beside it."""
    name = path.stem
    figure = f"\n![{name}]({LINK}/{name}.png)\n" if path.with_suffix(".png").exists() else ""
    return markdown(json.loads(path.read_text())) + figure


def _folder(folder: Path) -> str:
    """A result that is a folder; its figure comes first, because its tables are long."""
    here, table = f"{LINK}/{folder.name}", markdown(_explained(files.read(folder)))
    return (
        f"The figure and the tables are made from [{files.ROWS}]({here}/{files.ROWS}), which has a line for each measured "
        f"row, and [{files.ABOUT}]({here}/{files.ABOUT}), which tells machine, versions and arguments; "
        f"[{files.TABLE}]({here}/{files.TABLE}) holds the tables alone. Why a kernel stays below its limit is said here as the "
        f"code says it now, there as it said it then.\n\n![{folder.name}]({here}/{files.FIGURE})\n\n{table}"
    )


def _explained(found: dict[str, Any]) -> dict[str, Any]:
    """The run with the code's explanations of today: they are not measured, and a kept run's are those of its day."""
    now = {floor.name: floor.why for floor in floors.FLOORS}
    rows = [{**row, "why": now.get(row["kernel"], row["why"])} if row.get("why") else row for row in found["rows"]]
    return {**found, "rows": rows}


if __name__ == "__main__":
    PAGE.write_text(page())
