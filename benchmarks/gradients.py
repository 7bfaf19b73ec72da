"""What the gradient scores cost: GraNd against vmap(grad) at equal memory and ghost norms, L2RW against its two-step definition."""

import argparse
import resource
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, vmap

from adaptive_sampler.commands.bench.base import Row
from adaptive_sampler.commands.bench.turns import take_turns
from adaptive_sampler.torch import grand, l2rw_weights
from adaptive_sampler.torch.gradients.functional import cross_entropy
from benchmarks.harness import alone, options, save
from benchmarks.helpers.judged import CONV, GHOSTS, MODELS, Judged

ABOUT = (
    "GraNd of 32 × 32 images through a convolutional net with batch norm (0.4 million parameters), of 64 × 64 images through a "
    "ResNet-18 and of 64 tokens through a transformer of 4 layers; memory in fresh processes, above what one sample needs. Ghost "
    "norms are opacus', where it takes the model. `forward and backward` are those of plain training in the same chunks: scores "
    "of gradients cannot take less. And L2RW's weights of one batch, in plain training steps; `its parts` are the clean loss's "
    "gradient and a forward-mode pass of the batch along it, by torch alone. `at least`, `at most`: the bars."
)
FLOOR = "forward and backward"
MOST = {6: 1.2, 64: 1.75}  # clean samples -> at most so many plain steps of 64
VMAP_CHUNKS = (1, 2, 4, 8, 16, 32, 64, 128)


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


def by_ghosts(model: nn.Module) -> Callable[[Tensor, Tensor, int], Tensor]:
    """(inputs, labels, chunk) -> GraNd by opacus' ghost norms, which are those of the samples' gradients, and no gradients."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    warnings.filterwarnings("ignore", "Full backward hook is firing")  # tokens need no gradient
    wrapped = GradSampleModuleFastGradientClipping(
        model, loss_reduction="sum", max_grad_norm=1.0, use_ghost_clipping=True
    )

    def norms(inputs: Tensor, labels: Tensor, chunk: int) -> Tensor:
        found = []
        for start in range(0, len(inputs), chunk):
            cross_entropy(wrapped(inputs[start : start + chunk]), labels[start : start + chunk]).sum().backward()
            found.append(wrapped.get_norm_sample())
            wrapped.zero_grad()
        return torch.cat(found)

    return norms


def by_training(model: nn.Module, inputs: Tensor, labels: Tensor, chunk: int) -> Tensor:
    """(batch,) the losses, after the forward and backward passes of plain training, in chunks of so many samples."""
    found = []
    for start in range(0, len(inputs), chunk):
        losses = cross_entropy(model(inputs[start : start + chunk]), labels[start : start + chunk])
        losses.sum().backward()
        found.append(losses.detach())
    model.zero_grad()
    return torch.cat(found)


def parts_alone(model: nn.Module, inputs: Tensor, labels: Tensor, clean_inputs: Tensor, clean_labels: Tensor) -> Tensor:
    """(batch,) how fast each loss falls along the clean loss's gradient: what L2RW's weights are made of, with nothing checked."""
    theta, buffers = dict(model.named_parameters()), {name: b.clone() for name, b in model.named_buffers()}
    clean = cross_entropy(functional_call(model, {**theta, **buffers}, (clean_inputs,)), clean_labels).mean()
    slopes = dict(zip(theta, torch.autograd.grad(clean, list(theta.values())), strict=True))

    with forward_ad.dual_level():
        duals = {name: forward_ad.make_dual(p.detach(), slopes[name]) for name, p in theta.items()}
        losses = cross_entropy(functional_call(model, {**duals, **buffers}, (inputs,)), labels)
        found: Tensor = forward_ad.unpack_dual(losses).tangent
    return found


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


def ways(judged: Judged, device: str) -> dict[str, Callable[[Tensor, Tensor, int], Tensor]]:
    """Functions (inputs, labels, chunk) -> GraNd, in chunks of so many samples: ours, torch's vmap(grad), and opacus' if it can."""
    model = judged.model().to(device).eval()
    found: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
        "grand": lambda x, y, chunk: grand(model, x, y, chunk_size=chunk),
        "vmap(grad)": lambda x, y, chunk: by_vmap(model, x, y, chunk),
    }
    if judged.ghosts and find_spec("opacus"):
        found["ghost norms"] = by_ghosts(judged.model().to(device))
    plain = judged.model().to(device).eval()
    found[FLOOR] = lambda x, y, chunk: by_training(plain, x, y, chunk)
    return found


def memory(way: str, chunk: int, judged: Judged, samples: int, device: str) -> float:
    """The peak memory in MiB, above that of one sample. Run it `alone`."""
    run, (inputs, labels) = ways(judged, device)[way], judged.batch(samples, device)
    run(inputs[:1], labels[:1], chunk)
    before = peak(device)
    run(inputs, labels, chunk)
    return peak(device) - before


def cases_of(arguments: argparse.Namespace, judged: Judged) -> tuple[int, list[tuple[str, int]]]:
    """(samples, what is measured with chunks of how many): ours first, then vmap(grad), ghost norms, and plain training."""
    samples = max(arguments.samples // judged.part, 2)
    chunks = VMAP_CHUNKS[:2] if arguments.quick else [chunk for chunk in VMAP_CHUNKS if chunk <= samples]
    ghosts = [("ghost norms", arguments.chunk)] if judged.ghosts and find_spec("opacus") else []
    return samples, [
        ("grand", arguments.chunk),
        *(("vmap(grad)", chunk) for chunk in chunks),
        *ghosts,
        (FLOOR, arguments.chunk),
    ]


def grand_rows(name: str, arguments: argparse.Namespace, held: list[float]) -> list[Row]:
    """Rows for every case, and last for the fastest vmap(grad) with no more memory than GraNd. `held`: the MiB of each case."""
    judged = MODELS[name]
    samples, cases = cases_of(arguments, judged)
    run, data = ways(judged, arguments.device), judged.batch(samples, arguments.device)
    times = take_turns(
        {str(c): waited(lambda c=c: run[c[0]](*data, c[1]), arguments.device) for c in cases},  # type: ignore[misc]  # a lambda with a default
        arguments.rounds,
    )
    taken = [times[str(case)] for case in cases]
    mapped = [i for i, (way, _) in enumerate(cases) if way == "vmap(grad)"]
    best = min([i for i in mapped if held[i] <= held[0]] or mapped[:1], key=taken.__getitem__)
    bars = {len(cases): judged.least} | {i: GHOSTS for i, (way, _) in enumerate(cases) if way == "ghost norms"}
    return [
        {
            "GraNd": cases[i][0] if place < len(cases) else "vmap(grad), same memory",
            "model": name,
            "samples": samples,
            "chunk": cases[i][1],
            "ms": 1e3 * taken[i],
            "peak MiB": round(held[i]),
            "times grand": taken[i] / taken[0],
            "at least": bars.get(place, ""),
        }
        for place, i in enumerate([*range(len(cases)), best])
    ]


def all_grand_rows(arguments: argparse.Namespace) -> list[Row]:
    """The rows of every model. Memory is measured first, as long as nothing has run here."""
    held = {
        name: [alone(memory, *case, judged, samples, arguments.device) for case in cases]
        for name, judged in MODELS.items()
        for samples, cases in [cases_of(arguments, judged)]
        if arguments.only in name
    }
    return [row for name, each in held.items() for row in grand_rows(name, arguments, each)]


def l2rw_rows(samples: int, rounds: int, device: str) -> list[Row]:
    """Rows for L2RW's time in plain training steps, with a clean batch of a tenth of the size and one of equal size."""
    model, data, rows = CONV.model().to(device), CONV.batch(samples, device), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for clean_size in (max(samples // 10, 1), samples):
        clean = CONV.batch(clean_size, device, seed=1)
        runs = {
            "plain step": waited(lambda: plain_step(model, *data, optimizer), device),
            "l2rw_weights": waited(lambda clean=clean: l2rw_weights(model, *data, *clean), device),  # type: ignore[misc]  # as above
            "its parts": waited(lambda clean=clean: parts_alone(model, *data, *clean), device),  # type: ignore[misc]  # as above
            "two-step definition": waited(lambda clean=clean: two_steps(model, *data, *clean), device),  # type: ignore[misc]  # as above
        }
        found = take_turns(runs, rounds)
        for name, taken in found.items():
            steps = taken / found["plain step"]
            most = MOST.get(clean_size, "") if name == "l2rw_weights" else ""
            row = {"L2RW": name, "batch": samples, "clean": clean_size, "ms": 1e3 * taken, "plain steps": steps}
            rows.append(row | {"at most": most})
    return rows


def main() -> None:
    """Write both tables."""
    parser = options(ABOUT)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="only the models whose name holds this")
    parser.add_argument("--chunk", type=int, default=128, help="of grand; vmap(grad) takes every chunk up to it")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.samples, arguments.rounds = 8, 1
    torch.set_num_threads(arguments.threads)
    rows = all_grand_rows(arguments) + l2rw_rows(arguments.samples // 4, arguments.rounds, arguments.device)
    if arguments.device == "cuda":
        rows = [{"device": torch.cuda.get_device_name(), **row} for row in rows]
    save("gradients" if arguments.device == "cpu" else "gradients_cuda", rows, arguments, ABOUT)


if __name__ == "__main__":
    main()
