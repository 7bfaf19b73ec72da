"""Accelerate: the state of a sampler whose batches are dealt out to processes, and a resume that `set_epoch` cannot undo."""

from typing import Any

from torch.utils.data import BatchSampler

from adaptive_sampler.errors import SelectionLost
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.data.chain import chain, find_sampler, primed
from adaptive_sampler.walk.batches import Batches

try:
    from accelerate import PartialState
    from accelerate.data_loader import DataLoaderDispatcher
except ImportError as error:
    raise ImportError('adaptive_sampler.torch.accelerate needs Accelerate: pip install "accelerate>=1.0"') from error


def state_dict(loader: Any, delivered: int) -> dict[str, Any]:
    """The state of the sampler behind a prepared loader; `delivered` as this process's `LossHook.delivered` counts.

    Each of N processes gets every N-th batch of one stream, and one batch more than was delivered is always drawn. Exact,
    in the last batch of an epoch too, and the only way to go on within an epoch: `accelerator.save_state`, with
    `use_stateful_dataloader` too, and `skip_first_batches` keep no plan.
    """
    sampler = _sampler(loader)
    ahead = (delivered - sampler.start) * PartialState().num_processes
    return sampler.state_dict(delivered=min(sampler.start + ahead, sampler.drawn))


def load_state_dict(loader: Any, state: dict[str, Any]) -> None:
    """Restore the sampler behind a prepared loader, and tell the loader its epoch: it would set epoch 0 otherwise.

    Go on with the loop's pass of `sampler.epoch`: after a state of an epoch's last batch that one brings no batch.
    """
    sampler = _sampler(loader)
    for link in chain(loader):
        primed(link, forget=True)
    if state.get("length") is not None and not _batches_left(loader, state["length"] - state["position"]):
        state = state | {"position": state["length"]}
        if isinstance(loader, DataLoaderDispatcher):  # it raises for a pass of no batch: go on with the next epoch
            over = {"epoch": state["epoch"] + 1, "position": 0, "length": None, "plans": [], "plan": None}
            state = {name: value for name, value in state.items() if name not in ("block", "mark")} | over
    sampler.load_state_dict(state)
    loader.iteration = sampler.epoch
    # Accelerate does not count a pass of no batch, and would tell the same epoch for ever.
    sampler.when_nothing_is_left(lambda: setattr(loader, "iteration", sampler.epoch + 1))


def _batches_left(loader: Any, samples: int) -> int:
    """The batches that each process gets of the last `samples` of an epoch, at the least."""
    found = [link for link in chain(loader) if isinstance(link, BatchSampler | Batches)]
    drop_last = bool(found) and bool(getattr(found[-1], "drop_last", False))
    size = int(getattr(found[-1], "batch_size", 1) or 1) if found else 1
    alone = not found or getattr(found[0], "split_batches", False) or isinstance(loader, DataLoaderDispatcher)
    processes = 1 if alone else PartialState().num_processes
    left = samples // size if drop_last else -(-samples // size)
    return left // processes if drop_last else -(-left // processes)


def _sampler(loader: Any) -> AdaptiveSampler:
    sampler = find_sampler(loader)
    if not isinstance(sampler, AdaptiveSampler):
        raise SelectionLost(
            f"behind this {type(loader).__name__} is {type(sampler).__name__}, no AdaptiveSampler: Accelerate shares out batches "
            "itself. Prepare a loader over the sampler as it is, without DistributedAdaptiveSampler."
        )
    return sampler
