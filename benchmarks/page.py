"""Write docs/benchmarks.md from the result files: `python -m benchmarks.page`."""

import json
from pathlib import Path

from benchmarks.harness import RESULTS, markdown

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `benchmarks/page.py` from the files in [benchmarks/results](../benchmarks/results), which the benchmarks wrote.
Ratios are medians of contestants that took turns in one run; absolute times are of a small shared machine. Run them
yourself: `python -m benchmarks`, in a clone, lists them.

```python
from benchmarks.harness import take_turns

seconds = take_turns({"sort": lambda: sorted(range(1000)), "sum": lambda: sum(range(1000))}, rounds=3)
assert set(seconds) == {"sort", "sum"}
```
"""


def page() -> str:
    """The page as the results make it."""
    parts = [HEAD]
    for path in sorted(RESULTS.glob("*.json")):
        parts.append(f"\n## {path.stem}\n\n{markdown(json.loads(path.read_text()))}")
        if path.with_suffix(".png").exists():
            parts.append(f"\n![{path.stem}](../benchmarks/results/{path.stem}.png)\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
