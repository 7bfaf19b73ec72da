"""Accelerate: the state of a sampler whose batches are dealt out to processes, and a resume that `set_epoch` cannot undo."""

from typing import Any

from adaptive_sampler.errors import SelectionLost
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.chain import find_sampler

try:
    from accelerate import PartialState
except ImportError as error:
    raise ImportError('adaptive_sampler.torch.accelerate needs Accelerate: pip install "accelerate>=1.0"') from error


def state_dict(loader: Any, delivered: int) -> dict[str, Any]:
    """The state of the sampler behind a prepared loader; `delivered` as this process's `LossHook.delivered` counts.

    Each of N processes gets every N-th batch of one stream, and one batch more than was delivered is always drawn.
    """
    sampler = _sampler(loader)
    ahead = (delivered - sampler.start) * PartialState().num_processes
    return sampler.state_dict(delivered=min(sampler.start + ahead, sampler.drawn))


def load_state_dict(loader: Any, state: dict[str, Any]) -> None:
    """Restore the sampler behind a prepared loader, and tell the loader its epoch: it would set epoch 0 otherwise."""
    sampler = _sampler(loader)
    sampler.load_state_dict(state)
    loader.iteration = sampler.epoch


def _sampler(loader: Any) -> AdaptiveSampler:
    sampler = find_sampler(loader)
    if not isinstance(sampler, AdaptiveSampler):
        raise SelectionLost(
            f"behind this {type(loader).__name__} is {type(sampler).__name__}, no AdaptiveSampler: Accelerate shares out batches "
            "itself. Prepare a loader over the sampler as it is, without DistributedAdaptiveSampler."
        )
    return sampler
