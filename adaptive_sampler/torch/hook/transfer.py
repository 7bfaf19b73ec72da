"""Moves measured values from the device to the host, without waiting for the device at every step."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from adaptive_sampler.arrays import as_compiled, to_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data.batches import tensor_of

_MANY = 32  # steps in flight, at most: more would hold memory, fewer could make the training wait


@dataclass
class Step:
    """The values that one training step measured, in host memory; a copy from a GPU is complete once `event` has happened."""

    rows: torch.Tensor  # (batch,) int64
    names: tuple[str, ...]  # of the scores
    values: torch.Tensor | np.ndarray  # (scores, batch) float32
    valid: torch.Tensor | None  # (batch,) bool: which samples to record; None for all
    labels: torch.Tensor | None  # (batch,) integers: the classes; None if they are not wanted
    epoch: int
    event: Any  # torch.cuda.Event, or None if there is nothing to wait for
    pieces: bool = False  # whether samples of the same row are pieces of one sample
    weights: np.ndarray | None = None  # (batch,) float32: the loss weights that were applied; None where each is 1

    def arrived(self) -> bool:
        """Whether the values can be read without waiting."""
        return self.event is None or bool(self.event.query())

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """-> the valid rows, (m,) int64, their values, (scores, m) float32, and their labels, (m,) or None."""
        rows, values = as_compiled(to_host(self.rows), np.int64), to_host(self.values)
        labels = None if self.labels is None else self.labels.numpy()
        if self.valid is None:
            return rows, values, labels
        valid = self.valid.numpy()
        return rows[valid], np.ascontiguousarray(values[:, valid]), None if labels is None else labels[valid]


class Transfer:
    """A queue, `steps`, in the order in which they were sent.

    A copy from a GPU is asynchronous only if it goes into pinned memory, and its contents are garbage until its event.
    """

    def __init__(self) -> None:
        self.steps: deque[Step] = deque()

    def __len__(self) -> int:
        return len(self.steps)

    def send(
        self,
        rows: torch.Tensor,
        values: dict[str, Any],
        valid: torch.Tensor | None,
        epoch: int,
        labels: torch.Tensor | None = None,
        *,
        pieces: bool = False,
        weights: np.ndarray | None = None,
    ) -> None:
        """Begin to move a step's values, which must not require a gradient, to the host.

        `rows` (batch,) int64; `values`: score name -> (batch,); `valid`: (batch,) bool, None for all; `labels`: (batch,)
        integers, or None; `pieces`, `weights`: as in `Step`. Raises `InvalidValue` for values that are not numbers.
        """
        if rows.device.type == "cpu" and valid is None and all(map(_is_float32, values.values())):
            matrix = np.array([*values.values()])
            self.steps.append(Step(rows, tuple(values), matrix, None, labels, epoch, None, pieces, weights))
            return
        stacked = torch.stack([_float32(name, value) for name, value in values.items()])
        devices = {t.device for t in (rows, stacked, valid, labels) if t is not None and t.device.type == "cuda"}
        counted, classes = (None if t is None else _to_host(t) for t in (valid, labels))
        step = Step(_to_host(rows), tuple(values), _to_host(stacked), counted, classes, epoch, None, pieces, weights)
        if devices:
            step.event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # untyped in torch
            step.event.record(torch.cuda.current_stream(devices.pop()))
        self.steps.append(step)

    def receive(self, *, wait: bool) -> Iterator[Step]:
        """Take the steps that have arrived from the queue, in order.

        With `wait`, take all steps, and wait for each. Without it, wait only as long as too many steps are in flight. A
        step is taken from the queue when it is yielded; so if the caller stops at a bad step, those behind it stay in
        the queue.
        """
        while self.steps and (wait or len(self.steps) > _MANY or self.steps[0].arrived()):
            step = self.steps.popleft()
            if step.event is not None:
                step.event.synchronize()
            yield step


def _float32(name: str, value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.to(torch.float32)
    array = to_host(value)
    if array.dtype.kind not in "biuf":
        raise InvalidValue(f"{name} has values of dtype {array.dtype}: numbers are needed, one a row.")
    return tensor_of(array).to(torch.float32)


def _is_float32(value: Any) -> bool:
    return type(value) is np.ndarray and value.dtype == np.float32


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the host; a copy from a GPU is asynchronous, into pinned memory."""
    if tensor.device.type == "cpu":
        return tensor
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
