"""Gathers the samples that were kept, until they are as many as a step is to train on."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue


class KeptBatches:
    """Batches of `size` samples each, made of what is kept of the batches that arrive.

    So a step has the same number of samples whatever share is kept, as in Fan et al. 2018, section 5.1.2; trainings then differ by
    what is kept, and not by the size of their batches. `len` is how many samples wait for more.
    """

    def __init__(self, size: int) -> None:
        """Nothing waits. `size`: samples of a step. Raises `InvalidValue` for less than 1."""
        self.size = whole_number("size", size, 1, what="samples of a step")
        self._waiting: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self._waiting[0]) if self._waiting else 0

    def add(self, keep: Tensor, *parts: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Take the samples of a batch that are kept -> the batches that are full now, mostly none or one, in order of arrival.

        `keep` (batch,) bool; `parts`: tensors with that leading axis, such as inputs, labels and rows, each time the same ones. A
        full batch is a tuple of as many tensors, (size, …). Raises `InvalidValue`, and takes nothing, for other shapes.
        """
        if (
            not parts
            or keep.dtype != torch.bool
            or any(not p.ndim or len(p) != len(keep) for p in parts)
            or keep.ndim != 1
        ):
            shapes = ", ".join(str(tuple(part.shape)) for part in parts)
            raise InvalidValue(
                f"keep is {keep.dtype} of shape {tuple(keep.shape)}, and the parts have shapes {shapes or 'none'}: a bool for each "
                "sample is needed, and parts with one entry each."
            )
        if self._waiting and len(parts) != len(self._waiting):
            raise InvalidValue(f"{len(parts)} parts after {len(self._waiting)}: give the same ones each time.")
        kept = tuple(part[keep.to(part.device)] for part in parts)
        joined = tuple(map(torch.cat, zip(self._waiting, kept, strict=True))) if self._waiting else kept
        full = len(joined[0]) // self.size
        self._waiting = tuple(part[full * self.size :] for part in joined)
        return iter([tuple(p[n * self.size : (n + 1) * self.size] for p in joined) for n in range(full)])

    def rest(self) -> tuple[Tensor, ...]:
        """What waits, fewer than `size` samples, for a last step; nothing waits afterwards. () if nothing waits."""
        rest, self._waiting = self._waiting if len(self) else (), ()
        return rest

    def state_dict(self) -> dict[str, Any]:
        """What waits, for a checkpoint."""
        return {"size": self.size, "waiting": tuple(part.clone() for part in self._waiting)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, with its `size`."""
        self.size, self._waiting = state["size"], tuple(state["waiting"])
