"""A small language model of bytes, trained from scratch on packed documents until it has seen a number of tokens.

What differs between two trainings is the rows that the sampler gives, and nothing else: the same network from the same
seed, as many tokens, the same rise and fall of the learning rate over them.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_sampler import AdaptiveSampler
from benchmarks.evidence.training import PEAK as OTHER_PEAK
from benchmarks.evidence.training import learning_rate

WIDTH, HEADS, LAYERS = 64, 4, 1
CONTEXT, PER_BATCH = 256, 8  # tokens of a row, rows of a batch
VOCABULARY, MARK = 128, 0  # ASCII; the mark, a byte that no text has, begins and ends a document
PEAK = 6e-3  # the highest learning rate
IGNORED = -100  # the label of padding


@dataclass(frozen=True)
class Pack:
    """Documents in rows of CONTEXT tokens. All are (PER_BATCH, CONTEXT) int64.

    `rows`: the dataset's row of the document that a token belongs to, −1 for padding. `positions` restart at 0 with each
    document. `labels` are the tokens, not shifted, and IGNORED for padding.
    """

    tokens: Tensor
    rows: Tensor
    positions: Tensor

    @property
    def labels(self) -> Tensor:
        """The tokens, and IGNORED for padding."""
        return self.tokens.masked_fill(self.rows < 0, IGNORED)

    @property
    def counted(self) -> Tensor:
        """(PER_BATCH, CONTEXT − 1) bool: where a token predicts the next one, which is of the same document."""
        return (self.rows[:, 1:] == self.rows[:, :-1]) & (self.rows[:, 1:] >= 0)


def packs(rows: Iterable[int], documents: list[bytes]) -> Iterator[Pack]:
    """Pack documents into batches in the order of `rows`. No document is cut: one that fits nowhere begins a new batch."""
    bins: list[list[int]] = [[] for _ in range(PER_BATCH)]
    free = [CONTEXT] * PER_BATCH
    for row in rows:
        size = len(documents[row]) + 2
        fitting = [place for place in range(PER_BATCH) if free[place] >= size]
        if not fitting:
            yield packed(bins, documents)
            bins, free, fitting = [[] for _ in range(PER_BATCH)], [CONTEXT] * PER_BATCH, [0]
        place = min(fitting, key=lambda at: free[at])  # the fullest, so that long documents find room elsewhere
        bins[place].append(row)
        free[place] -= size
    if any(bins):
        yield packed(bins, documents)


def packed(bins: list[list[int]], documents: list[bytes]) -> Pack:
    """The documents of each bin, one after another in a row."""
    tokens, owners, positions = (torch.full((PER_BATCH, CONTEXT), fill) for fill in (MARK, -1, 0))
    for place, rows in enumerate(bins):
        at = 0
        for row in rows:
            marked = torch.tensor([MARK, *documents[row], MARK])
            span = slice(at, at := at + len(marked))
            tokens[place, span], owners[place, span], positions[place, span] = marked, row, torch.arange(len(marked))
    return Pack(tokens, owners, positions)


class Layer(nn.Module):
    """Attention and a perceptron, each after a layer norm and beside a residual (a "pre-norm" transformer layer)."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.three, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, tokens, WIDTH) -> the same; `mask`: (batch, 1, tokens, tokens) bool, who may look at whom."""
        heads = self.three(self.norms[0](x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(*heads, attn_mask=mask).transpose(1, 2).flatten(2))
        return x + self.perceptron(self.norms[1](x))


class LanguageModel(nn.Module):
    """A causal transformer in which no document of a pack sees another. A token is embedded alone and with the one before it.

    It has 1.1 million parameters, all but 83,000 of them in the table of pairs. Among one and two layers, three learning
    rates, and embeddings with and without pairs, one layer with pairs did well on held-out documents for the time it takes.
    The choice used no sampler.
    """

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        super().__init__()
        self.token, self.place = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.pair = nn.Embedding(VOCABULARY**2, WIDTH)
        for embedding, std in ((self.token, 0.02), (self.place, 0.02), (self.pair, 0.0)):
            nn.init.normal_(embedding.weight, std=std)
        self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

    def forward(self, pack: Pack) -> Tensor:
        """The logits for the next token, (batch, tokens, VOCABULARY)."""
        mask = (pack.rows[:, None, :, None] == pack.rows[:, None, None, :]).tril()
        before = F.pad(pack.tokens, (1, -1), value=MARK)  # before a document lies a mark, whatever came before it
        x = self.token(pack.tokens) + self.pair(before * VOCABULARY + pack.tokens) + self.place(pack.positions)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(self.norm(x))


Loss = Callable[[Tensor, Pack], Tensor]  # (batch, tokens, VOCABULARY) logits of a pack -> the mean loss to train on


def losses(logits: Tensor, pack: Pack) -> Tensor:
    """(counted tokens,) nats: the loss of each token that is predicted."""
    counted = pack.counted
    return F.cross_entropy(logits[:, :-1][counted], pack.tokens[:, 1:][counted], reduction="none")


def mean_loss(logits: Tensor, pack: Pack) -> Tensor:
    """The loss of a training whose losses nobody records."""
    return losses(logits, pack).mean()


def train(
    documents: list[bytes], sampler: AdaptiveSampler, *, seed: int, tokens: int, loss: Loss = mean_loss
) -> LanguageModel:
    """A new model, trained on what `sampler` selects until it has predicted as many tokens, however many epochs that is."""
    model, done = LanguageModel(seed), 0
    optimizer = torch.optim.AdamW(model.parameters(), PEAK, betas=(0.9, 0.98))
    for pack in epochs_of(sampler, documents):
        if done >= tokens:
            break
        for group in optimizer.param_groups:
            group["lr"] = PEAK / OTHER_PEAK * learning_rate(done / tokens)
        value = loss(model(pack), pack)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done += int(pack.counted.sum())
    return model


def epochs_of(sampler: AdaptiveSampler, documents: list[bytes]) -> Iterator[Pack]:
    """The packs of one epoch of the sampler after another, without an end."""
    for epoch in itertools.count():
        sampler.set_epoch(epoch)
        yield from packs(sampler, documents)


def bits(model: LanguageModel, documents: list[bytes]) -> float:
    """The mean loss over all tokens of the documents, in bits a token: a byte, or a document's end."""
    model.eval()
    with torch.no_grad():
        found = torch.cat([losses(model(pack), pack) for pack in packs(range(len(documents)), documents)])
    model.train()
    return float(found.double().mean()) / math.log(2)
