#!/usr/bin/env bash
# torch 2.13.0: the chunked torch.nn.functional.linear_cross_entropy (options=nn.LinearCrossEntropyOptions()) has no
# forward-mode derivative, and does not say so: its output carries no tangent, which reads as a derivative of zero. Without
# options the same function has the right one. Whoever takes per-sample influences or Jacobian products through a language
# model's fused head gets zeros.
#
# An expert would expect: the derivative that backward gives, or NotImplementedError, as other operators without a
# forward-mode formula raise.
#
# Seen on 2026-11-28, CPU, Python 3.11:
#   plain: backward -0.8121, forward -0.8121
#   chunked: backward -0.8121, forward None
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
cat > "$folder/run.py" <<'PYTHON'
import torch
import torch.autograd.forward_ad as forward
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
hidden, head, labels = torch.randn(8, 5), torch.randn(7, 5), torch.randint(0, 7, (8,))
direction = torch.randn(7, 5)
for name, options in (("plain", {}), ("chunked", {"options": nn.LinearCrossEntropyOptions()})):
    weight = head.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.linear_cross_entropy(hidden, weight, labels, **options), weight)
    with torch.no_grad(), forward.dual_level():
        loss = F.linear_cross_entropy(hidden, forward.make_dual(head, direction), labels, **options)
        tangent = forward.unpack_dual(loss).tangent
    shown = None if tangent is None else f"{float(tangent):.4f}"
    print(f"{name}: backward {float((gradient * direction).sum()):.4f}, forward {shown}")
PYTHON
seen=$("$folder/venv/bin/python" -W ignore "$folder/run.py")
echo "$seen"
test "$seen" = "plain: backward -0.8121, forward -0.8121
chunked: backward -0.8121, forward None"
