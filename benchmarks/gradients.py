"""What the gradient scores cost: GraNd against vmap(grad) at equal memory, L2RW against its two-step definition."""

import argparse
import resource
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from adaptive_sampler.commands.bench.base import Row
from adaptive_sampler.commands.bench.turns import take_turns
from adaptive_sampler.torch import grand, l2rw_weights
from adaptive_sampler.torch.gradients.functional import cross_entropy
from benchmarks.harness import alone, options, save

ABOUT = (
    "GraNd of 32 × 32 images through a convolutional net with batch norm (0.4 million parameters), memory "
    "in fresh processes, above what one sample needs; and L2RW's weights of one batch, in plain training steps."
)
VMAP_CHUNKS = (1, 2, 4, 8, 16, 32, 64, 128)


def conv_net() -> nn.Module:
    """A small net for 32 × 32 images: four convolutions with batch norm and a head, 0.4 million parameters."""
    torch.manual_seed(0)
    widths = ((3, 32, 2), (32, 64, 2), (64, 128, 2), (128, 256, 1))
    blocks = [
        nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
        for a, b, stride in widths
    ]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def batch(samples: int, device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(samples, 3, 32, 32) float32 random images, and their (samples,) int64 labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(samples, 3, 32, 32, generator=generator)
    return images.to(device), torch.randint(10, (samples,), generator=generator).to(device)


def by_vmap(model: nn.Module, inputs: Tensor, labels: Tensor, chunk: int) -> Tensor:
    """(batch,) GraNd as in torch's tutorial: per-sample gradients by vmap(grad), then their norms."""
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
    """(batch,) L2RW's weights by a differentiable look-ahead step, as in the paper (Ren et al. 2018, algorithm 1)."""
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
    """One ordinary training step: forward, backward, update."""
    optimizer.zero_grad()
    cross_entropy(model(inputs), labels).mean().backward()
    optimizer.step()


def waited(run: Callable[[], Any], device: str) -> Callable[[], Any]:
    """A function that calls `run` and then waits for the device."""

    def whole() -> None:
        run()
        if device == "cuda":
            torch.cuda.synchronize()

    return whole


def peak(device: str) -> float:
    """The peak memory so far in MiB: of the process on a CPU, of torch's allocator on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def ways(device: str) -> dict[str, Callable[[Tensor, Tensor, int], Tensor]]:
    """Two functions (inputs, labels, chunk) -> GraNd, in chunks of so many samples: ours, and torch's vmap(grad)."""
    model = conv_net().to(device).eval()
    return {
        "grand": lambda x, y, chunk: grand(model, x, y, chunk_size=chunk),
        "vmap(grad)": lambda x, y, chunk: by_vmap(model, x, y, chunk),
    }


def memory(way: str, chunk: int, samples: int, device: str) -> float:
    """The peak memory in MiB, above that of one sample. Run it `alone`."""
    run, (inputs, labels) = ways(device)[way], batch(samples, device)
    run(inputs[:1], labels[:1], chunk)
    before = peak(device)
    run(inputs, labels, chunk)
    return peak(device) - before


def grand_rows(arguments: argparse.Namespace) -> list[Row]:
    """Rows for GraNd, for vmap(grad) at every chunk, and last for the fastest vmap(grad) with no more memory than GraNd."""
    chunks = VMAP_CHUNKS[:2] if arguments.quick else VMAP_CHUNKS
    cases = [("grand", arguments.chunk), *(("vmap(grad)", chunk) for chunk in chunks)]
    held = [alone(memory, *case, arguments.samples, arguments.device) for case in cases]
    run, data = ways(arguments.device), batch(arguments.samples, arguments.device)
    times = take_turns(
        {str(c): waited(lambda c=c: run[c[0]](*data, c[1]), arguments.device) for c in cases},  # type: ignore[misc]  # a lambda with a default
        arguments.rounds,
    )
    taken = [times[str(case)] for case in cases]
    fair = [i for i in range(1, len(cases)) if held[i] <= held[0]] or [1]
    best = min(fair, key=taken.__getitem__)
    return [
        {
            "GraNd": cases[i][0] if place < len(cases) else "vmap(grad), same memory",
            "chunk": cases[i][1],
            "ms": 1e3 * taken[i],
            "peak MiB": round(held[i]),
            "times grand": taken[i] / taken[0],
        }
        for place, i in enumerate([*range(len(cases)), best])
    ]


def l2rw_rows(samples: int, rounds: int, device: str) -> list[Row]:
    """Rows for L2RW's time in plain training steps, with a clean batch of a tenth of the size and one of equal size."""
    model, data, rows = conv_net().to(device), batch(samples, device), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for clean_size in (max(samples // 10, 1), samples):
        clean = batch(clean_size, device, seed=1)
        runs = {
            "plain step": waited(lambda: plain_step(model, *data, optimizer), device),
            "l2rw_weights": waited(lambda clean=clean: l2rw_weights(model, *data, *clean), device),  # type: ignore[misc]  # as above
            "two-step definition": waited(lambda clean=clean: two_steps(model, *data, *clean), device),  # type: ignore[misc]  # as above
        }
        found = take_turns(runs, rounds)
        for name, taken in found.items():
            steps = taken / found["plain step"]
            rows.append({"L2RW": name, "batch": samples, "clean": clean_size, "ms": 1e3 * taken, "plain steps": steps})
    return rows


def main() -> None:
    """Write both tables."""
    parser = options(ABOUT)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--chunk", type=int, default=128, help="of grand; vmap(grad) takes every chunk up to it")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.samples, arguments.rounds = 8, 1
    torch.set_num_threads(arguments.threads)
    rows = grand_rows(arguments) + l2rw_rows(arguments.samples // 4, arguments.rounds, arguments.device)
    if arguments.device == "cuda":
        rows = [{"device": torch.cuda.get_device_name(), **row} for row in rows]
    save("gradients" if arguments.device == "cpu" else "gradients_cuda", rows, arguments, ABOUT)


if __name__ == "__main__":
    main()
