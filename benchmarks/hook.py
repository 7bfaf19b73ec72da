"""What the loss hook costs in a step of a ResNet-18 under autocast, with and without torch.compile.

On a GPU it also checks that the hook never waits for the device: a hundred steps run first under
`torch.cuda.set_sync_debug_mode("error")`, which raises at the first operation that waits.
`python -m benchmarks hook --device cuda` takes minutes, and writes its table into hook_cuda.json.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler import ScoreStore
from adaptive_sampler.commands.bench.turns import take_turns
from adaptive_sampler.scoring import EL2N, Confidence, Entropy, Forgetting, Loss, Margin
from adaptive_sampler.torch import OHEM, LossHook
from benchmarks.harness import Row, options, save

ABOUT = (
    "A training step of a ResNet-18 on 32 × 32 images under autocast, with the loss hook (six scores) and without, step for "
    "step in one process. `times plain`: the step with the hook over the step without. The hook of the last two chooses the "
    "hardest quarter of the batch: by the call, where backward runs through the whole batch, and by `select`, where a forward "
    "pass of all without gradients is followed by one of the quarter with them."
)
STEPS = ("plain", "hook", "mined", "select")
HARD = 0.25  # the share that is mined
WAITS = 100  # steps that must not wait for the GPU


class Block(nn.Module):
    """Two convolutions beside a short cut (He et al. 2016, figure 2)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            *(nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)),
        )
        self.cut: nn.Module = nn.Identity()
        if stride > 1 or before != width:
            self.cut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, before, height, width) -> (batch, width, height / stride, width / stride)."""
        return torch.relu(self.way(x) + self.cut(x))


def resnet(width: int) -> nn.Module:
    """ResNet-18 for small images (He et al. 2016); the paper's `width` is 64."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    before = width
    for wide, stride in ((1, 1), (2, 2), (4, 2), (8, 2)):
        layers += [Block(before, wide * width, stride), Block(wide * width, wide * width, 1)]
        before = wide * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def stepper(arguments: argparse.Namespace, kind: str, compiled: bool) -> Callable[[], None]:
    """One of `STEPS` on one batch, which is on the device; its row numbers are on the host, as from a sampler."""
    torch.manual_seed(0)
    device, size = arguments.device, arguments.batch
    model: Any = resnet(arguments.width).to(device)
    model = torch.compile(model) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    images, labels = torch.randn(size, 3, 32, 32, device=device), torch.randint(10, (size,), device=device)
    rows = torch.randperm(arguments.rows)[:size]
    store = ScoreStore.create(None, arguments.rows, [EL2N(), Forgetting(), Loss(), Margin(), Confidence(), Entropy()])
    mine = OHEM(HARD) if kind in ("mined", "select") else None
    criterion: Any = nn.CrossEntropyLoss() if kind == "plain" else LossHook(nn.CrossEntropyLoss(), store, mine=mine)

    def forward() -> Tensor:
        if kind == "plain":
            return criterion(model(images), labels)  # type: ignore[no-any-return]  # a criterion's value
        if kind != "select":
            return criterion(model(images), labels, rows=rows)  # type: ignore[no-any-return]  # a criterion's value
        with torch.no_grad():
            chosen = criterion.select(model(images), labels, rows=rows)
        return criterion.criterion(model(images[chosen]), labels[chosen])  # type: ignore[no-any-return]  # as above

    def step() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = forward()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def never_waits(step: Callable[[], None]) -> None:
    """Raises RuntimeError if one of `WAITS` steps waits for the GPU. Three steps run before, which may wait."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(WAITS):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def timed(arguments: argparse.Namespace, compiled: bool) -> list[Row]:
    """Rows for the plain step and the step with the hook, timed in turns of `--steps` steps."""

    def waited(step: Callable[[], None]) -> Callable[[], None]:
        def whole() -> None:
            for _ in range(arguments.steps):
                step()
            if arguments.device == "cuda":
                torch.cuda.synchronize()

        return whole

    steps = {name: stepper(arguments, name, compiled) for name in STEPS}
    if arguments.device == "cuda":
        for name in STEPS[1:]:
            never_waits(steps[name])
    found = take_turns({name: waited(step) for name, step in steps.items()}, arguments.rounds)
    waits = f"never, in {WAITS} steps" if arguments.device == "cuda" else "no device"
    return [
        {
            "step": name,
            "compiled": compiled,
            "ms": 1e3 * seconds / arguments.steps,
            "times plain": seconds / found["plain"],
            "waits": "" if name == "plain" else waits,
        }
        for name, seconds in found.items()
    ]


def main() -> None:
    """Measure, and write the table."""
    parser = options(ABOUT)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=20, help="in a turn")
    parser.add_argument("--width", type=int, default=64, help="of the network's first layers")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.batch, arguments.rows, arguments.steps, arguments.width, arguments.rounds = 8, 1000, 2, 4, 1
    rows = [row for compiled in ((False,) if arguments.quick else (False, True)) for row in timed(arguments, compiled)]
    if arguments.device == "cuda":
        rows = [{"device": torch.cuda.get_device_name(), **row} for row in rows]
    save("hook" if arguments.device == "cpu" else "hook_cuda", rows, arguments, ABOUT)


if __name__ == "__main__":
    main()
