"""One scoring pass over a dataset, in evaluation mode and without gradients, as in Data Diet (Paul et al. 2021)."""

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
    """Score every sample of `loader`, whose dataset is an `IndexedDataset` -> the number of samples scored.

    Scores are taken as by Paul et al. 2021: in evaluation mode, without gradients. Call it once per training run to
    average scores over runs. Afterwards each module is back in the mode in which it was found.

    `observation(model, sample)` returns the arrays that the store's scores take, by name, each with a leading batch
    axis. The default returns {"logits": model(inputs), "labels": labels} for a sample (inputs, labels); for a dict
    sample it returns model(**sample).logits (or the output itself, if it has no `logits`) and sample["labels"]. Tensors
    of the sample are on the device of the model's parameters. `epoch`: the epoch that is recorded, None for the store's
    clock. On ranks each may score a part, and `sync` folds every sample that a rank scored, also those by which a
    sampler of torch's pads. `progress`: True for a bar on stderr, None for a bar only if stderr is a terminal, False for none, or a
    function of (done, of) batches.

    Raises `InvalidValue` for batches without rows, and for samples of another form if no `observation` is given.
    """
    modes = {module: module.training for module in model.modules()}
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    number, batches = 0, _length(loader)
    model.eval()
    try:
        with torch.no_grad(), store.session.apart(), shown(progress, "scoring, batches") as tell:
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
    """The number of batches of the loader; None if it has no length."""
    try:
        return len(loader)
    except TypeError:
        return None


def _default(model: nn.Module, sample: Any) -> dict[str, Any]:
    """The default observation, of (inputs, labels) and of dict samples. Raises `InvalidValue` for other samples."""
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
