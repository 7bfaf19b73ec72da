#!/usr/bin/env bash
# Ray Train 2.60.0: a DataLoader with a batch_sampler (batches of equal length, say) loses it when it is prepared for two
# workers or more. prepare_data_loader makes a new loader of it with a DistributedSampler and with the batch_size of the old
# one, which torch sets to None where there is a batch_sampler: that turns batching off. The collate function is given single
# samples in place of lists of them. torch's own raises IndexError or TypeError for most samples; one that takes what comes
# trains on single samples. (The warning of a replaced sampler does not come either: the loader's sampler is the default one.
# For other samplers it advises `with_sampler`, an argument that is not there; it is called add_dist_sampler.)
#
# An expert would expect: batches as the batch_sampler makes them, dealt out among the workers; or an error that says that it
# is not supported.
#
# Seen on 2026-11-29, with torch 2.13.0 (CPU) and Python 3.11, on the first of two workers:
#   torch: [[0, 1, 2, 3], [4, 5, 6, 7]]
#   ray: [0, 2, 4, 6]
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
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler


def as_it_comes(samples):
    return samples


def train(config):
    data = range(8)
    batches = BatchSampler(SequentialSampler(data), 4, drop_last=False)
    loader = DataLoader(data, batch_sampler=batches, collate_fn=as_it_comes)
    seen = f"torch: {list(loader)}\nray: {list(ray.train.torch.prepare_data_loader(loader))}\n"
    if ray.train.get_context().get_world_rank() == 0:
        with open(config["seen"], "w") as file:
            file.write(seen)


ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
ray.train.torch.TorchTrainer(
    train,
    train_loop_config={"seen": sys.argv[1] + "/seen"},
    scaling_config=ray.train.ScalingConfig(num_workers=2),
    run_config=ray.train.RunConfig(storage_path=sys.argv[1]),
).fit()
PYTHON
RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=600 "$folder/venv/bin/python" -W ignore "$folder/run.py" "$folder" >/dev/null 2>&1
cat "$folder/seen"
test "$(cat "$folder/seen")" = "torch: [[0, 1, 2, 3], [4, 5, 6, 7]]
ray: [0, 2, 4, 6]"
