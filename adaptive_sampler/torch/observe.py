"""One scoring pass over a dataset: evaluation mode, no gradients, as the Data Diet protocol takes its scores."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.progress import Show, shown
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.data.rows import row_key, split

Observe = Callable[[nn.Module, Any], dict[str, Any]]


def observe(
    model: nn.Module,
    loader: Any,
    store: ScoreStore,
    *,
    observation: Observe | None = None,
    epoch: int | None = None,
    progress: Show = True,
) -> int:
    """Score every batch of `loader`, whose dataset is an `IndexedDataset` -> the number of samples scored.

    Takes scores as Paul et al. 2021 do: evaluation mode, no gradients; call it once a training run to average over runs.
    `observation(model, sample)`: the arrays by name; by default {"logits": model(inputs), "labels": labels} of
    (inputs, labels) samples, and model(**sample).logits and sample["labels"] of dict samples. The model's modes are left
    as found. Raises `InvalidValue` for batches without rows.
    """
    modes = {module: module.training for module in model.modules()}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    number, batches = 0, _length(loader)
    model.eval()
    try:
        with torch.no_grad(), shown(progress, "scoring, batches") as tell:
            for done, (rows, sample) in enumerate(split(loader, row_key(loader)), 1):
                seen = (observation or _default)(model, _moved(sample, device))
                store.update(rows, epoch=epoch, **seen)
                number += len(rows)
                tell(done, batches)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return number


def _length(loader: Any) -> int | None:
    """Batches of the loader, None where it does not say."""
    try:
        return len(loader)
    except TypeError:
        return None


def _default(model: nn.Module, sample: Any) -> dict[str, Any]:
    if isinstance(sample, Mapping):
        output = model(**sample)
        return {"logits": getattr(output, "logits", output), "labels": sample["labels"]}
    if not isinstance(sample, (tuple, list)) or len(sample) != 2:
        raise InvalidValue(
            f"a sample of type {type(sample).__name__} is neither (inputs, labels) nor a dict: pass observation=, a function of "
            "(model, sample) that returns the arrays by name."
        )
    inputs, labels = sample
    return {"logits": model(inputs), "labels": labels}


def _moved(sample: Any, device: torch.device) -> Any:
    if isinstance(sample, torch.Tensor):
        return sample.to(device)
    if isinstance(sample, Mapping):
        return {name: _moved(value, device) for name, value in sample.items()}
    return [_moved(value, device) for value in sample] if isinstance(sample, (tuple, list)) else sample
