#!/usr/bin/env bash
# Opacus 1.6.0: the per-sample gradients of `GradSampleModule` are those of another layer where a convolution pads by anything
# but zeros (padding_mode="reflect", "replicate", "circular"), and where an embedding has a padding_idx. It unfolds the input
# of a convolution with zeros around it, whatever the mode, and gives the padding row of an embedding a gradient, which torch
# leaves at zero. Nothing is refused or warned of.
#
# An expert would expect: the gradient of each sample's loss, as autograd gives it one sample at a time; or a refusal, as for
# layers that it does not know.
#
# Seen on 2026-11-30, with torch 2.13.0 (CPU) and Python 3.11: the largest difference of a sample's gradient from autograd's,
# over the norm of that gradient (float64)
#   zeros: right
#   reflect: 0.31
#   circular: 0.28
#   embedding: right
#   embedding with padding_idx: 1.37
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 opacus==1.6.0 numpy
cat > "$folder/run.py" <<'PYTHON'
import copy

import torch
from opacus.grad_sample import GradSampleModule
from torch import nn


def loss(outputs):
    return outputs.flatten(1).tanh().square().sum()


def one_at_a_time(layer, inputs):
    """(samples, parameters): the gradient of each sample's loss, by autograd."""
    layer = copy.deepcopy(layer)
    found = []
    for i in range(len(inputs)):
        layer.zero_grad()
        loss(layer(inputs[i : i + 1])).backward()
        found.append(torch.cat([p.grad.flatten() for p in layer.parameters()]))
    return torch.stack(found)


def together(layer, inputs):
    """The same by Opacus, of one batch."""
    wrapped = GradSampleModule(copy.deepcopy(layer), loss_reduction="sum")
    loss(wrapped(inputs)).backward()
    return torch.cat([p.grad_sample.flatten(1) for p in wrapped.parameters()], dim=1)


torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
images, words = torch.randn(5, 2, 8, 8), torch.randint(0, 3, (5, 6))
layers = {mode: (nn.Conv2d(2, 4, 3, padding=1, padding_mode=mode), images) for mode in ("zeros", "reflect", "circular")}
layers["embedding"] = nn.Embedding(10, 4), words
layers["embedding with padding_idx"] = nn.Embedding(10, 4, padding_idx=0), words
for name, (layer, inputs) in layers.items():
    if "padding_idx" in name:  # a padding row that is not zero, as after loading trained weights
        with torch.no_grad():
            layer.weight[0] = 1.0
    right = one_at_a_time(layer, inputs)
    off = ((together(layer, inputs) - right).norm(dim=1) / right.norm(dim=1)).max().item()
    print(f"{name}: {'right' if off < 1e-9 else f'{off:.2f}'}")
PYTHON
seen=$("$folder/venv/bin/python" -W ignore "$folder/run.py")
echo "$seen"
test "$seen" = "zeros: right
reflect: 0.31
circular: 0.28
embedding: right
embedding with padding_idx: 1.37"
