"""Documents, a store for their scores, and packs of them, for the tests of the token loss hook."""

import pytest
import torch

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Confidence, Entropy, Error, Loss, Margin, Variability
from adaptive_sampler.torch import TokenLossHook

N, WORDS = 27, 11
SCORES = (Loss, EL2N, Entropy, Error, Margin, Confidence, Variability)

of_two_documents = pytest.mark.parametrize(
    "bounds",
    [
        {"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])},
        {"seq_idx": torch.tensor([[0, 0, 0, 1, 1, 1]])},
        {"cu_seqlens": [0, 3, 6]},
    ],
    ids=lambda bounds: next(iter(bounds)),
)


def make_store(*scores, n=N):
    """A store of every score that a token can have unless told otherwise."""
    return ScoreStore.create(None, n, list(scores) or [kind() for kind in SCORES])


def hooked(*scores, **arguments):
    return TokenLossHook(make_store(*scores), **arguments)


def outputs(*lengths, words=WORDS, seed=0):
    """(logits, labels) of one row of the batch with documents of these lengths, (1, tokens, words) and (1, tokens)."""
    generator = torch.Generator().manual_seed(seed)
    tokens = sum(lengths)
    logits = 3 * torch.randn(1, tokens, words, generator=generator)
    return logits.requires_grad_(), torch.randint(words, (1, tokens), generator=generator)
