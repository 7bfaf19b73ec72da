#!/usr/bin/env bash
# Lightning 2.6.6 with torchdata 0.11.0's StatefulDataLoader: a step checkpoint written at an epoch's last batch, then
# resumed, leaves the whole next epoch untrained, without a word. Lightning counts the epoch as finished and goes on in the
# next one; the loader's own state, which Lightning saves and restores, says that the finished epoch's end (no batch) is
# still to come. With drop_last, in one process and with workers.
#
# An expert would expect: a run resumed after step 2 of 6 makes the 4 steps that were left, those of epochs 1 and 2.
#
# Seen on 2026-11-28, with torch 2.13.0 (CPU) and Python 3.11:
#   whole [0, 0, 1, 1, 2, 2]
#   resumed after step 1: [0, 1, 1, 2, 2]
#   resumed after step 2: [2, 2]
#   resumed after step 3: [1, 2, 2]
#   resumed after step 4: []
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 torchdata==0.11.0 lightning==2.6.6 numpy
cat > "$folder/run.py" <<'PYTHON'
import logging
import sys
import warnings

warnings.simplefilter("ignore")
import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torchdata.stateful_dataloader import StatefulDataLoader

logging.disable(logging.WARNING)
FOLDER = sys.argv[1]


class Module(lightning.LightningModule):
    """Notes the epoch of each step."""

    def __init__(self):
        super().__init__()
        self.layer, self.epochs = torch.nn.Linear(1, 1), []

    def training_step(self, batch, index):
        self.epochs.append(self.current_epoch)
        return self.layer(batch.float()[:, None]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(folder, checkpoint=None):
    loader = StatefulDataLoader(torch.arange(10), batch_size=4, drop_last=True)
    module = Module()
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)],
    )
    trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=False if checkpoint else None)
    return module.epochs


whole = fit(f"{FOLDER}/whole")
print("whole", whole)
for step in (1, 2, 3, 4):
    print(f"resumed after step {step}:", fit(f"{FOLDER}/{step}", f"{FOLDER}/whole/step={step}.ckpt"))
PYTHON
seen=$("$folder/venv/bin/python" "$folder/run.py" "$folder" 2>/dev/null | grep -E "^(whole|resumed)")
echo "$seen"
test "$seen" = "whole [0, 0, 1, 1, 2, 2]
resumed after step 1: [0, 1, 1, 2, 2]
resumed after step 2: [2, 2]
resumed after step 3: [1, 2, 2]
resumed after step 4: []"
