"""Accelerate: saves and restores a sampler whose batches are dealt out to processes, without `set_epoch` undoing a resume."""

from typing import Any

from torch.utils.data import BatchSampler

from adaptive_sampler.errors import SelectionLost
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.data.chain import chain, find_sampler, primed
from adaptive_sampler.walk.batches import Batches
from adaptive_sampler.walk.resume import check_fields

try:
    from accelerate import PartialState
    from accelerate.data_loader import DataLoaderDispatcher
except ImportError as error:
    raise ImportError('adaptive_sampler.torch.accelerate needs Accelerate: pip install "accelerate>=1.0"') from error


def state_dict(loader: Any, delivered: int) -> dict[str, Any]:
    """The state of the sampler behind a prepared loader, for `load_state_dict`.

    `delivered`: the samples that this process was given, as its `LossHook.delivered` counts them. Each of N processes
    gets every N-th batch of one stream, and Accelerate always draws one batch ahead of those that it delivers. The
    state is exact, in the last batch of an epoch too, and it is the only way to resume within an epoch:
    `accelerator.save_state`, also with `use_stateful_dataloader`, and `skip_first_batches` do not keep the plan. Raises
    `SelectionLost` if no `AdaptiveSampler` is behind the loader.
    """
    sampler = _sampler(loader)
    ahead = (delivered - sampler.start) * PartialState().num_processes
    return sampler.state_dict(delivered=min(sampler.start + ahead, sampler.drawn))


def load_state_dict(loader: Any, state: dict[str, Any]) -> None:
    """Restore the sampler behind a prepared loader, and set the loader's own epoch, which would be 0 otherwise.

    Then continue the loop with the pass of epoch `sampler.epoch`. After a state that was saved in an epoch's last
    batch, that pass gives no batch. Raises `SelectionLost` if no `AdaptiveSampler` is behind the loader.
    """
    check_fields(state)
    sampler = _sampler(loader)
    for link in chain(loader):
        primed(link, forget=True)
    if state.get("length") is not None and not _batches_left(loader, state["length"] - state["position"]):
        state = state | {"position": state["length"]}
        if isinstance(loader, DataLoaderDispatcher):  # it raises for a pass without a batch: go on with the next
            over = {"epoch": state["epoch"] + 1, "position": 0, "length": None, "plans": [], "plan": None}
            state = {name: value for name, value in state.items() if name not in ("block", "mark")} | over
    sampler.load_state_dict(state)
    loader.iteration = sampler.epoch
    # Accelerate does not count a pass without a batch, and would set the same epoch again and again.
    sampler.when_nothing_is_left(lambda: setattr(loader, "iteration", sampler.epoch + 1))


def _batches_left(loader: Any, samples: int) -> int:
    """How many batches each process gets, at least, of the last `samples` samples of an epoch."""
    found = [link for link in chain(loader) if isinstance(link, BatchSampler | Batches)]
    drop_last = bool(found) and bool(getattr(found[-1], "drop_last", False))
    size = int(getattr(found[-1], "batch_size", 1) or 1) if found else 1
    alone = not found or getattr(found[0], "split_batches", False) or isinstance(loader, DataLoaderDispatcher)
    processes = 1 if alone else PartialState().num_processes
    left = samples // size if drop_last else -(-samples // size)
    return left // processes if drop_last else -(-left // processes)


def _sampler(loader: Any) -> AdaptiveSampler:
    """The sampler behind the loader. Raises `SelectionLost` if it is not an `AdaptiveSampler`."""
    sampler = find_sampler(loader)
    if not isinstance(sampler, AdaptiveSampler):
        raise SelectionLost(
            f"behind this {type(loader).__name__} is {type(sampler).__name__}, no AdaptiveSampler: Accelerate shares out batches "
            "itself. Prepare a loader over the sampler as it is, without DistributedAdaptiveSampler."
        )
    return sampler
