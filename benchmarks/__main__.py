"""`python -m benchmarks NAME [options]`: run one benchmark; without a name, list them."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(p.stem for p in HERE.glob("*.py") if p.stem not in ("__init__", "__main__", "harness", "page"))

if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
    print("usage: python -m benchmarks NAME [--quick] [--rounds N] [--out FOLDER] …\n\n" + "\n".join(NAMES))
    raise SystemExit(len(sys.argv) > 1)
name = sys.argv.pop(1)
sys.argv[0] = name
runpy.run_module(f"benchmarks.{name}", run_name="__main__")
