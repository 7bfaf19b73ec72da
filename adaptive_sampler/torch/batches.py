"""What a loader yields, taken apart: rows where it brings them, inputs, labels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.functional import map_tensors


def split(batch: Any) -> tuple[Tensor | None, Any, Any]:
    """(rows or None, inputs, labels) of a batch (inputs, labels) or (rows, (inputs, labels))."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        first, second = batch
        if isinstance(second, tuple | list) and len(second) == 2 and _are_rows(first):
            return torch.as_tensor(first), second[0], second[1]
        if not isinstance(second, Mapping):
            return None, first, second
    shape = f"{len(batch)} items" if isinstance(batch, tuple | list) else type(batch).__name__
    raise InvalidValue(
        f"a batch of {shape}: it must be (inputs, labels), or (rows, (inputs, labels)) from an IndexedDataset; "
        "give a loader whose collate_fn yields that"
    )


def _are_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 1 and not value.is_floating_point()


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter is."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor on `device`; the copy does not wait where the source is pinned."""
    return map_tensors(lambda tensor: tensor.to(device, non_blocking=True), batch)
