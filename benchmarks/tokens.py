"""What the token loss hook costs in a training step of a small language model with a large vocabulary.

`python -m benchmarks tokens --device cuda` writes tokens_cuda.json.
"""

import argparse
import resource
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_sampler import ScoreStore
from adaptive_sampler.commands.bench.turns import take_turns
from adaptive_sampler.scoring import EL2N, Entropy, Error, Loss
from adaptive_sampler.torch import TokenLossHook
from benchmarks.harness import Row, alone, options, save

ABOUT = (
    "A training step (AdamW) of a language model of two layers, width 256, on four documents of 256 tokens out of 32,000 words: "
    "plain, with the token loss hook that records each document's loss, EL2N, entropy and error, and with the same four "
    "computed by hand from torch's operations. `times plain`: the time over that of the plain step, in turns in one process. "
    "`peak MiB`: of a fresh process that makes three steps, or of torch's allocator on a GPU, and `peak of plain` over that of "
    "the plain step. `loaded MiB`: the peak after a step of the smallest size, mostly libraries; the hook's has Numba, once in a "
    "process. `beyond of plain`: what the whole size takes beyond that, over what it takes the plain step."
)
STEPS = ("plain", "hook", "by hand")
SMALLEST = {"tokens": 8, "words": 200, "width": 16, "rows": 1000}
ALONE_STEPS = 3  # of a process whose peak is measured: AdamW's state is there from the second on


class LanguageModel(nn.Module):
    """A causal transformer: (batch, tokens) int64 -> (batch, tokens, words) logits."""

    def __init__(self, words: int, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, words, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens) -> (batch, tokens, words)."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        logits: Tensor = self.head(self.layers(self.embedding(tokens), mask=mask, is_causal=True))
        return logits


def shifted(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(tokens, words) float32 logits and (tokens,) labels, each of the token after it, as Hugging Face's models have them."""
    return logits.float().flatten(0, 1), F.pad(labels, (0, 1), value=-100)[:, 1:].flatten()


class ByHand:
    """The loss, and the four means of each document as one writes them down with torch's operations."""

    def __init__(self, rows: int, device: str) -> None:
        self.scores = torch.zeros(4, rows, device=device)

    def __call__(self, logits: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """The mean loss over the counted tokens."""
        flat, target = shifted(logits, labels)
        losses = F.cross_entropy(flat, target, reduction="none")
        counted = target != -100
        with torch.no_grad():
            log_p = F.log_softmax(flat, dim=1)
            p = log_p.exp()
            mine = p.gather(1, target.clamp(min=0)[:, None])[:, 0]
            el2n = (p.square().sum(1) - 2 * mine + 1).sqrt()
            error = (flat.argmax(1) != target).float()
            values = torch.stack([losses, el2n, -(p * log_p).sum(1), error]) * counted
            documents = counted.view(labels.shape).sum(1)
            self.scores[:, rows.to(self.scores.device)] = values.view(4, *labels.shape).sum(2) / documents
        return losses.sum() / counted.sum()


def criterion(name: str, arguments: argparse.Namespace) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A function (logits, labels, rows) -> the loss, which records what `name` records."""
    if name == "hook":
        store = ScoreStore.create(None, arguments.rows, [Loss(), EL2N(), Entropy(), Error()])
        hook = TokenLossHook(store)
        return lambda logits, labels, rows: hook(logits, labels, rows=rows)
    if name == "by hand":
        return ByHand(arguments.rows, arguments.device)
    return lambda logits, labels, rows: F.cross_entropy(*shifted(logits, labels))


def stepper(name: str, arguments: argparse.Namespace) -> Callable[[], None]:
    """A training step on one batch, which waits for the device. The row numbers are on the host, as from a sampler."""
    torch.manual_seed(0)
    model = LanguageModel(arguments.words, arguments.width, arguments.layers).to(arguments.device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    tokens = torch.randint(arguments.words, (arguments.batch, arguments.tokens), device=arguments.device)
    rows, loss_of = torch.randperm(arguments.rows)[: arguments.batch], criterion(name, arguments)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(model(tokens), tokens, rows).backward()
        optimizer.step()
        if arguments.device == "cuda":
            torch.cuda.synchronize()

    return step


def peak(device: str) -> float:
    """The peak memory so far in MiB: of the process on a CPU, of torch's allocator on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def peaks(name: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """The peak memory in MiB of a step of the smallest size, and of `ALONE_STEPS` of the whole size.

    Run it `alone`.
    """
    stepper(name, argparse.Namespace(**vars(arguments) | SMALLEST))()
    before, step = peak(arguments.device), stepper(name, arguments)
    for _ in range(ALONE_STEPS):
        step()
    return before, peak(arguments.device)


def measured(arguments: argparse.Namespace) -> list[Row]:
    """A row for each of `STEPS`."""
    held = {name: alone(peaks, name, arguments) for name in STEPS}
    times = take_turns({name: stepper(name, arguments) for name in STEPS}, arguments.rounds)
    taken = {name: after - before for name, (before, after) in held.items()}
    return [
        {
            "step": name,
            "ms": 1e3 * times[name],
            "times plain": times[name] / times["plain"],
            "peak MiB": round(held[name][1]),
            "peak of plain": held[name][1] / held["plain"][1],
            "loaded MiB": round(held[name][0]),
            "beyond of plain": taken[name] / taken["plain"],
        }
        for name in STEPS
    ]


def main() -> None:
    """Measure, and write the table."""
    parser = options(ABOUT)
    parser.set_defaults(rounds=15)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    for option, default in (("batch", 4), ("tokens", 256), ("words", 32_000), ("width", 256), ("layers", 2)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update(SMALLEST, rounds=1)
    torch.set_num_threads(arguments.threads)
    rows = measured(arguments)
    if arguments.device == "cuda":
        rows = [{"device": torch.cuda.get_device_name(), **row} for row in rows]
    save("tokens" if arguments.device == "cpu" else "tokens_cuda", rows, arguments, ABOUT)


if __name__ == "__main__":
    main()
