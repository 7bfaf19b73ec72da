"""What a loader yields, taken apart: rows where it brings them, inputs, labels."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data import rows as indexed
from adaptive_sampler.torch.data.batches import map_tensors
from adaptive_sampler.torch.data.dataset import IndexedDataset


def samples(loader: Any, device: torch.device) -> Iterator[tuple[Tensor | None, Any, Any]]:
    """(rows, inputs, labels) of each batch, tensors on `device`.

    Rows are there for a loader over an IndexedDataset and for batches (rows, (inputs, labels)); else None. A dict sample
    gives its "labels" and, as inputs, the rest.
    """
    if isinstance(getattr(loader, "dataset", None), IndexedDataset):
        for rows, sample in indexed.split(loader, indexed.row_key(loader)):
            yield rows, *_inputs_labels(map_tensors(lambda tensor: tensor.to(device, non_blocking=True), sample))
        return
    for batch in loader:
        found, sample = _rows_sample(batch)
        yield found, *_inputs_labels(map_tensors(lambda tensor: tensor.to(device, non_blocking=True), sample))


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter is."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _rows_sample(batch: Any) -> tuple[Tensor | None, Any]:
    """A batch is (rows, sample) if it begins with a vector of integers and its second part is a sample of its own."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        rows, sample = batch
        if _is_sample(sample) and isinstance(rows, Tensor) and rows.ndim == 1 and not rows.is_floating_point():
            return rows, sample
    return None, batch


def _is_sample(value: Any) -> bool:
    return (isinstance(value, tuple | list) and len(value) == 2) or (isinstance(value, Mapping) and "labels" in value)


def _inputs_labels(sample: Any) -> tuple[Any, Any]:
    if not _is_sample(sample):
        shape = f"{len(sample)} items" if isinstance(sample, tuple | list) else type(sample).__name__
        raise InvalidValue(
            f"a sample of {shape}: it must be (inputs, labels), or a dict with 'labels', alone or after its row; give a "
            "loader whose dataset or collate_fn yields that"
        )
    if isinstance(sample, Mapping):
        return {name: value for name, value in sample.items() if name != "labels"}, sample["labels"]
    return sample[0], sample[1]
