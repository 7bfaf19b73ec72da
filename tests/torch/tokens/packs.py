"""Packs of documents in all ways of telling them apart, made by Hypothesis."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from hypothesis import strategies as st

from tests.references.tokens import IGNORED
from tests.torch.tokens.samples import WORDS, N


@dataclass
class Pack:
    """A batch of packed documents: `logits` (batch, tokens, words), `labels`, `row_map` (batch, tokens), `rows` (pieces,)."""

    logits: torch.Tensor
    labels: torch.Tensor
    row_map: torch.Tensor
    rows: list[int]
    starts: torch.Tensor  # (batch, tokens) bool: where a piece begins

    @property
    def seq_idx(self):
        """Counts the pieces of each row of the batch; −1 for padding."""
        return torch.where(self.row_map < 0, -1, self.starts.long().cumsum(1) - 1)

    @property
    def position_ids(self):
        """Positions that begin at 0 with each piece; 0 for padding, as collators pad."""
        ids = torch.zeros_like(self.labels)
        for b in range(len(ids)):
            for t in range(1, ids.shape[1]):
                ids[b, t] = 0 if self.starts[b, t] or self.row_map[b, t] < 0 else ids[b, t - 1] + 1
        return ids

    @property
    def cu_seqlens(self):
        """Where pieces begin in the flattened batch, and its end; only without padding."""
        return [*self.starts.flatten().nonzero()[:, 0].tolist(), self.labels.numel()]

    def given(self, way):
        """The arguments rows= and, if there are any, bounds of a call."""
        if way == "row map":
            return {"rows": self.row_map}
        return {"rows": self.rows, way: getattr(self, way)}


WAYS = ["position_ids", "seq_idx", "cu_seqlens", "row map"]


def made(seed, width, height, *, padded, cut):
    """A random pack of `height` rows of the batch, `width` tokens each.

    Each document lies in one piece, or, with `cut`, in several that are no neighbours. With `padded` rows of the batch end
    early, and every label counts; else each ends with a document, and in every second pack three labels of ten are ignored.
    """
    rng = np.random.default_rng(seed)
    fresh, rows, row_map, starts = iter(rng.permutation(N)), [], [], []
    for _ in range(height):
        line, begins = [], []
        while len(line) < width and not (padded and line and rng.random() < 0.5):
            length = rng.integers(1, width - len(line), endpoint=True)
            row = int(rng.integers(3) if cut else next(fresh))
            if line and line[-1] == row:
                continue
            rows.append(row)
            line += [row] * length
            begins += [True] + [False] * (length - 1)
        row_map.append(line + [-1] * (width - len(line)))
        starts.append(begins + [False] * (width - len(begins)))
    row_map = torch.tensor(row_map)
    hidden = torch.from_numpy(rng.random(row_map.shape) < 0.3 * (seed % 2) * (not padded))
    labels = torch.where(hidden | (row_map < 0), IGNORED, torch.from_numpy(rng.integers(WORDS, size=row_map.shape)))
    logits = torch.from_numpy(3 * rng.normal(size=(*row_map.shape, WORDS)).astype(np.float32))
    return Pack(logits.requires_grad_(), labels, row_map, rows, torch.tensor(starts))


def packs(**kind):
    return st.builds(partial(made, **kind), st.integers(0, 10**6), st.integers(2, 9), st.integers(1, 3))
