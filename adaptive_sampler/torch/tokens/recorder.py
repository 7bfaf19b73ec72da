"""Records the documents of a batch: joins their pieces, and leaves out those without a counted token."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.hook.pending import Fresh
from adaptive_sampler.torch.hook.recorder import Recorder
from adaptive_sampler.torch.hook.transfer import Step
from adaptive_sampler.torch.tokens.documents import Documents
from adaptive_sampler.torch.tokens.measured import counts_and_means
from adaptive_sampler.torch.tokens.pieces import Waiting, joined

_MISFIT = "bounds and rows"  # no score can have this name
_NOBODY = -1  # the row of a batch without documents


@dataclass
class DocumentRecorder(Recorder):
    """Records, in `store`, the means of documents. `tokens`: the name of the score that keeps their counts of tokens."""

    tokens: str = field(kw_only=True)
    joins: bool = field(kw_only=True)
    without: int = 0  # documents without a counted token
    waiting: Waiting = field(default_factory=Waiting)

    def record(
        self,
        rows: Tensor,
        fresh: Fresh,
        values: dict[str, Any],
        counted: Tensor,
        documents: Documents,
        *,
        pieces: bool,
    ) -> None:
        """Record the documents of a call that are `fresh`, from `values` of their tokens.

        `rows` (documents,) int64; `values`: score name -> (batch · tokens,); `counted` (batch, tokens) bool. `pieces`:
        whether documents of the same row are pieces of one.
        """
        counts, means = counts_and_means(values, counted, documents)
        sent = means | {self.tokens: counts}
        if documents.misfit is not None:
            if not documents.count:  # something must carry the misfit to the host
                rows, fresh = torch.full((1,), _NOBODY), True
                sent = {name: value.new_zeros(1) for name, value in sent.items()}
            sent[_MISFIT] = documents.misfit.float().expand(len(rows))
        self.send_fresh(rows, fresh, sent, None, pieces=pieces)

    def fold(self, step: Step) -> None:
        """Fold one step's documents into the store, or, if `joins`, keep those of a pack until the epoch is over."""
        rows, values, _ = step.read()
        names = step.names
        if names[-1] == _MISFIT:
            if len(rows) and values[-1].any():
                raise InvalidValue(
                    f"the bounds of a batch (position_ids, seq_idx or cu_seqlens) do not make the {int((rows >= 0).sum())} documents that "
                    "its rows are of, several of them disagree, or a label that counts is of no document. Nothing of that batch was recorded, but plan weights may have "
                    "met the wrong documents. One row a document, in the order of the pack, is needed; a row map may be easier."
                )
            if len(rows) and rows[0] == _NOBODY:
                return
            names, values = names[:-1], values[:-1]
        part = rows, values[:-1], values[-1].astype(np.float64)
        if not (self.joins and step.pieces):
            self._keep(step.epoch, names, joined(*part) if step.pieces else part)
            return
        if not self.waiting.fits(step.epoch, names):
            self._release()
        self.waiting.put(step.epoch, names, part)

    def flush(self) -> None:
        """Fold everything that was sent, and what waits for further pieces."""
        super().flush()
        self._release()

    @property
    def used(self) -> bool:
        """Whether anything was recorded so far."""
        return super().used or bool(self.without) or not self.waiting.fits(-1, ())

    def _release(self) -> None:
        if (part := self.waiting.take()) is not None:
            self._keep(self.waiting.epoch, self.waiting.names, part)

    def _keep(self, epoch: int, names: tuple[str, ...], part: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """Fold whole documents; those without a counted token are counted, and said once."""
        rows, means, counts = part
        there = counts > 0
        empty = len(rows) - int(there.sum())
        if len(rows) > empty:
            values = np.concatenate([means, counts[None].astype(np.float32)])
            self.keep(rows[there], names, np.ascontiguousarray(values[:, there]), epoch)
        first, self.without = not self.without, self.without + empty
        if empty and first:
            warnings.warn(
                f"{empty} of {len(rows)} documents have no label that counts (each is ignore_index, as a cut prompt's may be) "
                "and are not recorded. The hook's `skipped_documents` counts them.",
                RuntimeWarning,
                stacklevel=2,
            )
