#!/usr/bin/env bash
# Accelerate 1.15.0: a loop that leaves each epoch early (a limit on steps, a time budget) gets the same first batches in
# every epoch, where use_seedable_sampler is on. The prepared loader counts an epoch only when it was walked to its end, so
# it tells its sampler set_epoch(0) each time, and the sampler shuffles by that number.
#
# An expert would expect: another order each time, as torch's DataLoader gives (20 draws of 50 from 1000 leave about 640
# distinct), since each pass begins a new epoch.
#
# Seen on 2026-11-28, with torch 2.13.0 (CPU) and Python 3.11:
#   accelerate: 1000 samples drawn, 50 distinct
#   torch: 1000 samples drawn, more than 600 distinct
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 numpy
cat > "$folder/run.py" <<'PYTHON'
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from torch.utils.data import DataLoader


def drawn(loader):
    """The first batch of each of 20 epochs."""
    rows = []
    for _ in range(20):
        for batch in loader:
            rows += batch.tolist()
            break
    return rows


def loader():
    return DataLoader(torch.arange(1000), batch_size=50, shuffle=True)


torch.manual_seed(0)
settings = DataLoaderConfiguration(use_seedable_sampler=True)
rows = drawn(Accelerator(cpu=True, dataloader_config=settings).prepare(loader()))
print(f"accelerate: {len(rows)} samples drawn, {len(set(rows))} distinct")
rows = drawn(loader())
print(f"torch: {len(rows)} samples drawn, {'more' if len(set(rows)) > 600 else 'not more'} than 600 distinct")
PYTHON
seen=$("$folder/venv/bin/python" -W ignore "$folder/run.py" 2>/dev/null)
echo "$seen"
test "$seen" = "accelerate: 1000 samples drawn, 50 distinct
torch: 1000 samples drawn, more than 600 distinct"
