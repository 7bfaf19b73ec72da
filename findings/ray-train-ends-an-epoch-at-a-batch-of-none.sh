#!/usr/bin/env bash
# Ray Train 2.60.0: a loader that ray.train.torch.prepare_data_loader has prepared ends its epoch, without a word, at the first
# batch that is None. Collate functions return None where no sample of a batch is left (unreadable images, say), and loops
# skip such batches. The prepared loader fetches a batch ahead by next(iterator, None), and takes a None for the end. What
# comes after it is never trained on; with another order in each epoch it is another part, so nothing seems wrong.
#
# An expert would expect: the batches that the loader has without Ray.
#
# Seen on 2026-11-29, with torch 2.13.0 (CPU) and Python 3.11, one worker:
#   torch: 7 batches and one that is None
#   ray: 2 batches
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 "ray[train]==2.60.0" numpy
cat > "$folder/run.py" <<'PYTHON'
import sys

import ray
import ray.train
import ray.train.torch
import torch
from torch.utils.data import DataLoader


def readable(samples):
    """A batch without samples 4 and 5, which cannot be read; None where none is left."""
    kept = [sample for sample in samples if sample not in (4, 5)]
    return torch.tensor(kept) if kept else None


def train(config):
    loader = DataLoader(range(16), batch_size=2, collate_fn=readable)
    batches = list(loader)
    prepared = list(ray.train.torch.prepare_data_loader(loader))
    with open(config["seen"], "w") as file:
        file.write(f"torch: {sum(batch is not None for batch in batches)} batches and one that is None\n")
        file.write(f"ray: {len(prepared)} batches\n")


ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
ray.train.torch.TorchTrainer(
    train,
    train_loop_config={"seen": sys.argv[1] + "/seen"},
    scaling_config=ray.train.ScalingConfig(num_workers=1),
    run_config=ray.train.RunConfig(storage_path=sys.argv[1]),
).fit()
PYTHON
RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=600 "$folder/venv/bin/python" -W ignore "$folder/run.py" "$folder" >/dev/null 2>&1
cat "$folder/seen"
test "$(cat "$folder/seen")" = "torch: 7 batches and one that is None
ray: 2 batches"
