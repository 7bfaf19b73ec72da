"""Gathers the samples that were kept, until they are as many as a step is to train on."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import MALFORMED, InvalidValue, ResumeError


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
        full batch is a tuple of as many tensors, (size, …), where the newest parts are. Raises `InvalidValue`, and takes nothing,
        for other shapes, and for what cannot be joined with the samples that wait.
        """
        _check(keep, parts)
        kept = tuple(part[keep.to(part.device)] for part in parts)
        if len(self):
            _check_alike(self._waiting, kept)
            pairs = zip(self._waiting, kept, strict=True)
            kept = tuple(torch.cat((waiting.to(part.device), part)) for waiting, part in pairs)
        full = len(kept[0]) // self.size
        self._waiting = tuple(part[full * self.size :] for part in kept)
        return iter([tuple(p[n * self.size : (n + 1) * self.size] for p in kept) for n in range(full)])

    def rest(self) -> tuple[Tensor, ...]:
        """What waits, fewer than `size` samples, for a last step; nothing waits afterwards. () if nothing waits."""
        rest, self._waiting = self._waiting if len(self) else (), ()
        return rest

    def state_dict(self) -> dict[str, Any]:
        """What waits, for a checkpoint. Full batches are not in it: train on those that `add` gave before you save."""
        return {"size": self.size, "waiting": tuple(part.detach().clone() for part in self._waiting)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, with its `size`. Raises `ResumeError`, and changes nothing, for anything else."""
        try:
            size, waiting = whole_number("size", state["size"], 1), tuple(state["waiting"])
            whole = len({len(part) for part in waiting}) <= 1 and all(isinstance(part, Tensor) for part in waiting)
        except MALFORMED:
            whole = False
        if not whole:
            raise ResumeError("the state is none of KeptBatches, or damaged: load what kept.state_dict() gave.")
        self.size, self._waiting = size, waiting


def _check(keep: Tensor, parts: tuple[Tensor, ...]) -> None:
    """Raise `InvalidValue` unless keep is (batch,) bool and the parts are tensors (batch, …)."""
    for name, value in [("keep", keep), *((f"part {n}", part) for n, part in enumerate(parts))]:
        if not isinstance(value, Tensor):
            raise InvalidValue(
                f"{name} is a {type(value).__name__}: a tensor is needed. Of a dict or tuple give the tensors one by one, of "
                "a NumPy array torch.from_numpy(array)."
            )
    if not parts or keep.dtype != torch.bool or keep.ndim != 1 or any(p.shape[:1] != keep.shape for p in parts):
        shapes = ", ".join(str(tuple(part.shape)) for part in parts)
        raise InvalidValue(
            f"keep is {keep.dtype} of shape {tuple(keep.shape)}, and the parts have shapes {shapes or 'none'}: a bool for each "
            "sample is needed, and parts with one entry each."
        )


def _check_alike(waiting: tuple[Tensor, ...], parts: tuple[Tensor, ...]) -> None:
    """Raise `InvalidValue` unless the parts are as many as those that wait, with samples of the same shape and dtype."""
    if len(parts) != len(waiting):
        raise InvalidValue(f"{len(parts)} parts after {len(waiting)}: give the same ones each time.")
    for number, (before, now) in enumerate(zip(waiting, parts, strict=True)):
        if (before.dtype, before.shape[1:]) != (now.dtype, now.shape[1:]):
            raise InvalidValue(
                f"part {number} has samples of {now.dtype} and shape {tuple(now.shape[1:])}, and {len(before)} that wait "
                f"have {before.dtype} and {tuple(before.shape[1:])}: pad or cast them alike, or take those that wait by rest()."
            )
