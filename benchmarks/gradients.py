"""What the gradient scores cost: GraNd beside vmap(grad) at the same memory, L2RW beside its two-step definition.

python benchmarks/gradients.py [--device cuda] [--rounds 5]
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from adaptive_sampler.torch import grand, l2rw_weights
from adaptive_sampler.torch.functional import cross_entropy

SAMPLES, CHUNK = 256, 128
VMAP_CHUNKS = (1, 2, 4, 8, 16, 32, 64, 128)


def conv_net() -> nn.Module:
    """Four convolutions and a head, 0.4 million parameters: a small net for 32 × 32 images, batch norm and all."""
    torch.manual_seed(0)
    widths = ((3, 32, 2), (32, 64, 2), (64, 128, 2), (128, 256, 1))
    blocks = [
        nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
        for a, b, stride in widths
    ]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def batch(samples: int, device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(samples, 3, 32, 32) images and their labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(samples, 3, 32, 32, generator=generator)
    return images.to(device), torch.randint(10, (samples,), generator=generator).to(device)


def by_vmap(model: nn.Module, inputs: Tensor, labels: Tensor, chunk: int) -> Tensor:
    """(batch,) GraNd as torch's own tutorial has it: per-sample gradients by vmap(grad), then their norms."""
    theta = {name: p.detach() for name, p in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(theta: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, {**theta, **buffers}, (x[None],)), y[None])[0]

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))
    norms = []
    for start in range(0, len(inputs), chunk):
        found = gradients(theta, inputs[start : start + chunk], labels[start : start + chunk])
        norms.append(torch.stack([g.flatten(1).square().sum(1) for g in found.values()]).sum(0).sqrt())
    return torch.cat(norms)


def two_steps(model: nn.Module, inputs: Tensor, labels: Tensor, clean_inputs: Tensor, clean_labels: Tensor) -> Tensor:
    """L2RW's weights by a differentiable look-ahead step, as a good user would write the paper's algorithm."""
    theta = {name: p.detach().requires_grad_() for name, p in model.named_parameters()}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    losses = cross_entropy(functional_call(model, {**theta, **buffers}, (inputs,)), labels)
    epsilon = torch.zeros_like(losses, requires_grad=True)
    slopes = torch.autograd.grad((epsilon * losses).sum(), list(theta.values()), create_graph=True)
    ahead = {name: p - g for (name, p), g in zip(theta.items(), slopes, strict=True)}
    clean = cross_entropy(functional_call(model, {**ahead, **buffers}, (clean_inputs,)), clean_labels).mean()
    kept = (-torch.autograd.grad(clean, epsilon)[0]).clamp(min=0)
    return kept / kept.sum()


def plain_step(model: nn.Module, inputs: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Forward, backward, update."""
    optimizer.zero_grad()
    cross_entropy(model(inputs), labels).mean().backward()
    optimizer.step()


def seconds(run: Callable[[], Any], device: str) -> float:
    """One run, the device waited for."""
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def medians(runs: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each; taken in turns, so that a slow spell of the machine meets all."""
    for run in runs.values():
        run()
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    return {name: statistics.median(values) for name, values in times.items()}


def peak(device: str) -> float:
    """MiB at the highest so far: of the process on a CPU, of the allocator on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def grand_alone(way: str, chunk: int, samples: int, rounds: int, device: str) -> dict[str, float]:
    """Seconds and MiB above what the process held after one sample; for a process of its own."""
    model, (inputs, labels) = conv_net().to(device).eval(), batch(samples, device)
    how = {"grand": lambda x, y: grand(model, x, y, chunk_size=chunk), "vmap": lambda x, y: by_vmap(model, x, y, chunk)}
    how[way](inputs[:1], labels[:1])
    before = peak(device)
    taken = medians({way: lambda: how[way](inputs, labels)}, rounds, device)[way]
    return {"seconds": taken, "mib": peak(device) - before}


def in_a_process(way: str, chunk: int, arguments: argparse.Namespace) -> dict[str, float]:
    """`grand_alone` in a fresh process: a process never gives its highest memory back."""
    command = [sys.executable, __file__, "--alone", way, "--chunk", str(chunk), "--samples", str(arguments.samples)]
    command += ["--rounds", str(arguments.rounds), "--device", arguments.device]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # type: ignore[no-any-return]


def grand_table(arguments: argparse.Namespace) -> list[str]:
    """GraNd, and vmap(grad) at every chunk: the fastest of those that need no more memory is what it is held against."""
    ours = in_a_process("grand", CHUNK, arguments)
    theirs = {chunk: in_a_process("vmap", chunk, arguments) for chunk in VMAP_CHUNKS}
    fair = min(v["seconds"] for c, v in theirs.items() if v["mib"] <= max(ours["mib"], theirs[1]["mib"]))
    lines = ["| way | chunk | ms | MiB | times grand |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, chunk, found in [("grand", CHUNK, ours), *(("vmap(grad)", c, v) for c, v in theirs.items())]:
        ratio = found["seconds"] / ours["seconds"]
        lines.append(f"| {name} | {chunk} | {found['seconds'] * 1e3:.0f} | {found['mib']:.0f} | {ratio:.1f} |")
    lines.append("")
    lines.append(f"vmap(grad) at the same memory or less takes {fair / ours['seconds']:.1f} times as long as grand.")
    return lines


def l2rw_table(samples: int, rounds: int, device: str) -> list[str]:
    """L2RW's weights in plain training steps, for a clean batch of a tenth of the batch and of its size."""
    model = conv_net().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    data = batch(samples, device)
    lines = ["| clean batch | way | ms | plain steps |", "| ---: | --- | ---: | ---: |"]
    for clean_size in (max(samples // 10, 1), samples):
        clean = batch(clean_size, device, seed=1)
        runs: dict[str, Callable[[], Any]] = {
            "plain step": lambda: plain_step(model, *data, optimizer),
            "l2rw_weights": lambda clean=clean: l2rw_weights(model, *data, *clean),  # type: ignore[misc]
            "two-step definition": lambda clean=clean: two_steps(model, *data, *clean),  # type: ignore[misc]
        }
        found = medians(runs, rounds, device)
        for name, taken in found.items():
            lines.append(f"| {clean_size} | {name} | {taken * 1e3:.1f} | {taken / found['plain step']:.2f} |")
    return lines


def machine(device: str) -> str:
    """What it ran on."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, Python {platform.python_version()}"


def main() -> None:
    """Print both tables, or one measurement in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--alone", choices=["grand", "vmap"])
    parser.add_argument("--chunk", type=int, default=CHUNK)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.alone:
        given = arguments.samples, arguments.rounds, arguments.device
        print(json.dumps(grand_alone(arguments.alone, arguments.chunk, *given)))
        return
    print(machine(arguments.device))
    print(f"\nGraNd of {arguments.samples} images, {sum(p.numel() for p in conv_net().parameters()):,} parameters\n")
    print("\n".join(grand_table(arguments)))
    print(f"\nL2RW's weights of a batch of {arguments.samples // 4}\n")
    print("\n".join(l2rw_table(arguments.samples // 4, arguments.rounds, arguments.device)))


if __name__ == "__main__":
    main()
