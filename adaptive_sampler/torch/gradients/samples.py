"""Takes the batches of a loader apart into rows, if they carry any, inputs and labels."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data import rows as indexed
from adaptive_sampler.torch.data.batches import map_tensors
from adaptive_sampler.torch.data.dataset import IndexedDataset


def samples(loader: Any, device: torch.device) -> Iterator[tuple[Tensor | None, Any, Any]]:
    """(rows, inputs, labels) of each batch; the tensors of inputs and labels are moved to `device`.

    Rows, (batch,) integers, come from a loader over an IndexedDataset and from batches (rows, (inputs, labels));
    otherwise they are None. Of a dict sample, the entry "labels" gives the labels, and the other entries are the
    inputs. Raises `InvalidValue` for any other sample.
    """
    if isinstance(getattr(loader, "dataset", None), IndexedDataset):
        for rows, sample in indexed.split(loader, indexed.row_key(loader)):
            yield rows, *_inputs_labels(map_tensors(lambda tensor: tensor.to(device, non_blocking=True), sample))
        return
    for batch in loader:
        found, sample = _rows_sample(batch)
        yield found, *_inputs_labels(map_tensors(lambda tensor: tensor.to(device, non_blocking=True), sample))


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter; the CPU if it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _rows_sample(batch: Any) -> tuple[Tensor | None, Any]:
    """(rows, sample) if the batch is a vector of integers and a sample; otherwise None and the batch."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        rows, sample = batch
        if _is_sample(sample) and isinstance(rows, Tensor) and rows.ndim == 1 and not rows.is_floating_point():
            return rows, sample
    return None, batch


def _is_sample(value: Any) -> bool:
    """Whether `value` is (inputs, labels), or a dict with "labels"."""
    return (isinstance(value, tuple | list) and len(value) == 2) or (isinstance(value, Mapping) and "labels" in value)


def _inputs_labels(sample: Any) -> tuple[Any, Any]:
    """Inputs and labels of a sample. Raises `InvalidValue` for anything else."""
    if not _is_sample(sample):
        shape = f"{len(sample)} items" if isinstance(sample, tuple | list) else type(sample).__name__
        raise InvalidValue(
            f"a sample of {shape}: it must be (inputs, labels), or a dict with 'labels', alone or after its row; give a "
            "loader whose dataset or collate_fn yields that"
        )
    if isinstance(sample, Mapping):
        return {name: value for name, value in sample.items() if name != "labels"}, sample["labels"]
    return sample[0], sample[1]
