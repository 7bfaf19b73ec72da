"""Helpers for a batch with any nesting: list its tensors, change them, find its length, take a part of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaptive_sampler.errors import InvalidValue


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Every tensor of a nested batch (mappings, lists, tuples), depth first."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_of(value)
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        for value in batch:
            yield from tensors_of(value)


def map_tensors(change: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """The same nesting with `change` applied to every tensor; any other value is kept as it is.

    A mapping becomes a dict, a list becomes a tuple.
    """
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: map_tensors(change, value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(map_tensors(change, value) for value in batch)
    return batch


def part(batch: Any, start: int, stop: int) -> Any:
    """The samples `start` … `stop` − 1 of every tensor; a tensor without axes is kept, because all samples share it."""
    return map_tensors(lambda tensor: tensor[start:stop] if tensor.ndim else tensor, batch)


def batch_size(inputs: Any) -> int:
    """The length of the leading axis of the first tensor in `inputs` that has axes. Raises `InvalidValue` if none has."""
    for tensor in tensors_of(inputs):
        if tensor.ndim:
            return len(tensor)
    raise InvalidValue("inputs hold no tensor with a batch axis: give (batch, …) tensors, alone or nested")


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """A NumPy array as a tensor that shares its memory, or a copy if torch cannot share it.

    torch refuses negative strides and a byte order other than the machine's, and warns about read-only memory.
    """
    if array.flags.carray and array.dtype.isnative:  # asked first, because `require` takes several times as long
        return torch.from_numpy(array)
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
