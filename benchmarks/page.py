"""Write docs/benchmarks.md from the result files: `python -m benchmarks.page`."""

import json
from pathlib import Path

from adaptive_sampler.commands.bench.result import markdown
from benchmarks.harness import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

What a sampler costs on your machine, beside torch's and whichever others are installed:

```sh
pip install "adaptive-sampler[torch,report]"
adaptive-sampler bench                                       # every case at 10⁵ and 10⁶ rows
adaptive-sampler bench --case epoch --n 1e6,1e7 --output out # some cases; JSON, tables and figures into out/
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

Below some thousand rows torch's samplers take less time than ours, which spend a fixed time on an epoch of any size, and
more where its plan is made anew and kept on disk. `adaptive-sampler bench --n 1e3,1e4` shows how much.

The rest of this page is written by `benchmarks/page.py` from the files in
[benchmarks/results](../benchmarks/results), which the benchmarks wrote. Ratios are medians of contestants that took turns
in one run; absolute times are of a small shared machine. Run them yourself: `python -m benchmarks`, in a clone, lists
them.
"""


def page() -> str:
    """The text of the page, made from the result files."""
    parts = [HEAD]
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text())
        parts.append(f"\n## {path.stem}\n\n{markdown(found)}")
        for figure in found.get("figures", [f"{path.stem}.png"]):
            if (RESULTS / figure).exists():
                parts.append(f"\n![{Path(figure).stem}](../benchmarks/results/{figure})\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
