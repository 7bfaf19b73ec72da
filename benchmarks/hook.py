"""What the loss hook costs: beside its criterion alone, and in a step of a ResNet-18, with and without torch.compile.

On a GPU it also checks that the hook never waits for the device: a hundred steps run first under
`torch.cuda.set_sync_debug_mode("error")`, which raises at the first operation that waits.
`python -m benchmarks hook --device cuda` takes minutes, and writes its table into hook_cuda.json.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler import ScoreStore
from adaptive_sampler.commands.bench.turns import every_turn
from adaptive_sampler.scoring import EL2N, Confidence, Entropy, Forgetting, Loss, Margin
from adaptive_sampler.torch import OHEM, LossHook
from benchmarks.harness import Row, options, save
from benchmarks.helpers.resnet import resnet

ABOUT = (
    "The loss hook with six scores beside its criterion, on the host with one thread, logits of −inf among the others: `own us` "
    "is the median of hooked − bare, in processor time, turn by turn in one process, and `times criterion` that over the "
    "criterion's forward. Then training steps of a ResNet-18 on 32 × 32 images, with the hook and without, step for step: "
    "`times plain` is 1 + the median of hooked − plain over the plain step; under autocast, and in float32 with 1,000 classes "
    "and a batch of 64. `at most`: what we set out to reach. The hook of the steps called mined and select chooses the hardest "
    "quarter of the batch: by the call, where backward runs through the whole batch, and by `select`, where a forward pass of all "
    "without gradients is followed by one of the quarter with them."
)
COSTS = {10: 2.0, 100: 1.5, 1000: 0.9, 32_000: 0.7}  # classes -> at most so many times the criterion's forward
STEPS = ("plain", "hook", "mined", "select")
HARD = 0.25  # the share that is mined
BATCH = 256  # rows of a criterion's call
WIDE = 10_000  # classes from which on a batch is a quarter
WAITS = 100  # steps that must not wait for the GPU


def six(rows: int) -> ScoreStore:
    """A store of six scores of logits and labels."""
    return ScoreStore.create(None, rows, [EL2N(), Forgetting(), Loss(), Margin(), Confidence(), Entropy()])


def repeated(call: Callable[[], object], times: int) -> Callable[[], None]:
    """Calls it so often."""

    def turn() -> None:
        for _ in range(times):
            call()

    return turn


def own_cost(arguments: argparse.Namespace, classes: int) -> Row:
    """The row of a criterion's call with the hook and without."""
    torch.manual_seed(0)
    size = BATCH // (4 if classes >= WIDE else 1)
    logits, labels = torch.randn(size, classes), torch.randint(1, classes, (size,))
    logits[::2, 0] = -torch.inf  # no label is 0, so all scores are finite
    logits.requires_grad_()
    rows = torch.randperm(arguments.rows)[:size]
    bare, hook = nn.CrossEntropyLoss(), LossHook(nn.CrossEntropyLoss(), six(arguments.rows))
    calls = max(1, arguments.calls // classes)
    turns = {"bare": lambda: bare(logits, labels), "hooked": lambda: hook(logits, labels, rows=rows)}
    repeat = {name: repeated(call, calls) for name, call in turns.items()}
    found = every_turn(repeat, 10 * arguments.rounds, clock=time.thread_time)
    forward, own = statistics.median(found["bare"]), difference(found["bare"], found["hooked"])
    row: Row = {"classes": classes, "batch": size, "criterion us": 1e6 * forward / calls, "own us": 1e6 * own / calls}
    return {**row, "times criterion": own / forward, "at most": COSTS[classes]}


def own_costs(arguments: argparse.Namespace) -> list[Row]:
    """A row for each number of classes, with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [own_cost(arguments, classes) for classes in COSTS if classes <= arguments.classes]
    finally:
        torch.set_num_threads(threads)


def difference(plain: list[float], hooked: list[float]) -> float:
    """The median of what a turn took longer than the one before it."""
    return statistics.median(after - before for before, after in zip(plain, hooked, strict=True))


def criterion_of(kind: str, rows: int) -> Any:
    """That of one of `STEPS`."""
    if kind == "plain":
        return nn.CrossEntropyLoss()
    return LossHook(nn.CrossEntropyLoss(), six(rows), mine=OHEM(HARD) if kind in ("mined", "select") else None)


def stepper(
    arguments: argparse.Namespace, kind: str, compiled: bool, classes: int, autocast: bool
) -> Callable[[], None]:
    """One of `STEPS` on one batch, which is on the device; its row numbers are on the host, as from a sampler."""
    torch.manual_seed(0)
    device, size = arguments.device, arguments.batch if autocast else min(64, arguments.batch)
    model: Any = resnet(arguments.width, classes).to(device)
    model = torch.compile(model) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    images, labels = torch.randn(size, 3, 32, 32, device=device), torch.randint(classes, (size,), device=device)
    rows = torch.randperm(arguments.rows)[:size]
    criterion = criterion_of(kind, arguments.rows)

    def forward() -> Tensor:
        if kind == "plain":
            return criterion(model(images), labels)  # type: ignore[no-any-return]  # a criterion's value
        if kind != "select":
            return criterion(model(images), labels, rows=rows)  # type: ignore[no-any-return]  # a criterion's value
        with torch.no_grad():
            chosen = criterion.select(model(images), labels, rows=rows)
        return criterion.criterion(model(images[chosen]), labels[chosen])  # type: ignore[no-any-return]  # as above

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
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


def timed(
    arguments: argparse.Namespace, compiled: bool, classes: int = 10, autocast: bool = True, most: float | str = ""
) -> list[Row]:
    """Rows for the steps, timed in turns of `--steps` steps; `most`: what that with the hook is to cost."""

    def waited(step: Callable[[], None]) -> Callable[[], None]:
        def whole() -> None:
            repeated(step, arguments.steps)()
            if arguments.device == "cuda":
                torch.cuda.synchronize()

        return whole

    kinds = STEPS if autocast else STEPS[:2]
    steps = {kind: stepper(arguments, kind, compiled, classes, autocast) for kind in kinds}
    if arguments.device == "cuda":
        for kind in kinds[1:]:
            never_waits(steps[kind])
    found = every_turn({name: waited(step) for name, step in steps.items()}, arguments.rounds)
    plain = statistics.median(found["plain"])
    waits = f"never, in {WAITS} steps" if arguments.device == "cuda" else "no device"
    return [
        {
            "step": f"{name}, {classes:,} classes{', autocast' if autocast else ''}",
            "compiled": compiled,
            "ms": 1e3 * statistics.median(times) / arguments.steps,
            "times plain": 1 + difference(found["plain"], times) / plain,
            "at most": most if name == "hook" else "",
            "waits": "" if name == "plain" else waits,
        }
        for name, times in found.items()
    ]


def main() -> None:
    """Measure, and write the table."""
    parser = options(ABOUT)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=256, help="of a training step")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=20, help="in a turn")
    parser.add_argument("--width", type=int, default=64, help="of the network's first layers")
    parser.add_argument("--calls", type=int, default=5_000, help="of a criterion in a turn, times the classes")
    parser.add_argument("--classes", type=int, default=max(COSTS), help="the most that a criterion is called with")
    parser.add_argument("--no-steps", action="store_true", help="only the criterion's calls")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.batch, arguments.rows, arguments.steps, arguments.width, arguments.rounds = 8, 1000, 2, 4, 1
        arguments.calls, arguments.classes = 20, 100
    rows = [] if arguments.device == "cuda" else own_costs(arguments)
    for compiled in () if arguments.no_steps else (False,) if arguments.quick else (False, True):
        rows += timed(arguments, compiled)
    if not arguments.no_steps:
        rows += timed(arguments, False, classes=1000, autocast=False, most="1.005")
    if arguments.device == "cuda":
        rows = [{"device": torch.cuda.get_device_name(), **row} for row in rows]
    save("hook" if arguments.device == "cpu" else "hook_cuda", rows, arguments, ABOUT)


if __name__ == "__main__":
    main()
