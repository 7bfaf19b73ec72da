"""Accelerate: saves and restores a sampler whose batches are dealt out to processes, as the run that never stopped goes on."""

from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler

from adaptive_sampler.errors import InvalidValue, ResumeError, SelectionLost
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.data.chain import chain, find_sampler, primed
from adaptive_sampler.torch.hook.hook import LossHook
from adaptive_sampler.torch.ranks.sync import committed
from adaptive_sampler.walk.batches import Batches
from adaptive_sampler.walk.resume import check_fields

try:
    from accelerate import PartialState
    from accelerate.data_loader import BatchSamplerShard, DataLoaderDispatcher
except ImportError as error:
    raise ImportError('adaptive_sampler.torch.accelerate needs Accelerate: pip install "accelerate>=1.0"') from error


class SamplerCheckpoint:
    """Keeps scores and sampler in step with `accelerator.save_state` and `load_state`.

    Register it once the loader is prepared: `accelerator.register_for_checkpointing(SamplerCheckpoint(loader, hook))`.
    `loader`: the prepared loader, over an AdaptiveSampler. `hook`: the hook by which that loader is watched.

    `save_state` then also syncs the store (if it is distributed), commits it, and saves the walk, at any batch and
    between epochs; call it on every process, as Accelerate asks. To resume, open the store at the commit that
    `SamplerCheckpoint.commit_of(folder)` returns, call `load_state(folder)`, and go on with the loop's pass of
    `sampler.epoch`: within an epoch, it gives the rest of it.

    The store is the hook's. The sampler may plan from another one, if that is open only to read, as in the second stage
    of Just Train Twice. Raises `SelectionLost` and `InvalidValue` as `state_dict` does, and `InvalidValue` for two stores
    that are both written, because a checkpoint names one commit.
    """

    def __init__(self, loader: Any, hook: LossHook) -> None:
        self.loader, self.hook, self.sampler = loader, hook, _sampler(loader)
        planned = self.sampler.store
        if hook.store is not planned and planned.session.mode != "r":
            raise InvalidValue(
                f"the hook records in {hook.store.path}, the loader's sampler plans from {planned.path}, which is open to write "
                "too: a checkpoint names one commit. Give both the same store, or open the sampler's with mode='r'."
            )

    @staticmethod
    def commit_of(folder: Any) -> int:
        """The number of the store's commit that a checkpoint needs, for ScoreStore.open(..., version=...).

        `folder`: the one that `save_state` wrote. Raises `ResumeError` if no SamplerCheckpoint was registered then.
        """
        for file in sorted(Path(folder).glob("custom_checkpoint_*.pkl")):
            try:
                saved = torch.load(file, map_location="cpu", weights_only=True)
            except UnpicklingError:  # the state of something else that was registered
                continue
            if isinstance(saved, dict) and saved.keys() == {"walk", "commit"}:
                return int(saved["commit"])
        raise ResumeError(
            f"{folder} holds no sampler state: it was saved before SamplerCheckpoint(loader, hook) was registered with "
            "accelerator.register_for_checkpointing. Its epoch's plan cannot be known; train anew, or from another folder."
        )

    def state_dict(self) -> dict[str, Any]:
        """For `save_state`, which calls it on every process: the sampler's state, "walk", and the store's "commit"."""
        store = self.hook.store
        commit = committed(store, self.sampler if self.sampler.store is store else None)
        return {"walk": state_dict(self.loader, self.hook.delivered), "commit": commit}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """For `load_state`. Raises `ResumeError` if the store is not as it was at the state's commit."""
        commit, (now, updates) = state["commit"], self.hook.store.made_from
        if (now, updates) != (commit, 0):
            raise ResumeError(
                f"the checkpoint was saved at commit {commit}, the store is open at commit {now} with {updates} updates since: its "
                f"scores are others. Open it anew, ScoreStore.open(path, version={commit}) or distributed_store(..., "
                f"version={commit}), before load_state; SamplerCheckpoint.commit_of(folder) tells the number."
            )
        load_state_dict(self.loader, state["walk"])


def state_dict(loader: Any, delivered: int) -> dict[str, Any]:
    """The state of the sampler behind a prepared loader, for `load_state_dict`.

    `delivered`: the samples that this process was given, as its `LossHook.delivered` counts them. Each of N processes
    gets every N-th batch of one stream, and Accelerate always draws one batch ahead of those that it delivers. The
    state is exact, in the last batch of an epoch too. `SamplerCheckpoint` calls this; without it, what
    `accelerator.save_state` keeps of a loader, also with `use_stateful_dataloader`, and `skip_first_batches` do not keep
    the plan. Raises `SelectionLost` if no `AdaptiveSampler` is behind the loader, and `InvalidValue` if the first of
    several processes reads for all of them (`dispatch_batches`).
    """
    sampler = _sampler(loader)
    ahead = max(delivered - sampler.start, 0) * PartialState().num_processes
    return sampler.state_dict(delivered=min(sampler.start + ahead, sampler.drawn))


def load_state_dict(loader: Any, state: dict[str, Any]) -> None:
    """Restore the sampler behind a prepared loader, and set the loader's own epoch, which would be 0 otherwise.

    Then continue the loop with the pass of epoch `sampler.epoch`. After a state that was saved in an epoch's last
    batch, that pass gives no batch. Raises as `state_dict` does, and `ResumeError` where Accelerate would fill up the
    epoch's last batches with other rows than before: within an epoch of plans of blocks (`replan=k`).
    """
    check_fields(state)
    sampler = _sampler(loader)
    for link in chain(loader):
        primed(link, forget=True)
        if "next_iter_state" in getattr(link, "__dict__", {}):  # a StatefulDataLoader would skip once more
            link.next_iter_state = None
        if isinstance(link, BatchSamplerShard):
            _fill_as_before(link, sampler, state)
    if state.get("length") is not None and not _batches_left(loader, state["length"] - state["position"]):
        state = state | {"position": state["length"]}
        if isinstance(loader, DataLoaderDispatcher):  # it raises for a pass without a batch: go on with the next
            over = {"epoch": state["epoch"] + 1, "position": 0, "length": None, "plans": [], "plan": None}
            state = {name: value for name, value in state.items() if name not in ("block", "mark")} | over
    sampler.load_state_dict(state)
    loader.iteration = sampler.epoch
    # Accelerate does not count a pass without a batch, and would set the same epoch again and again.
    sampler.when_nothing_is_left(lambda: setattr(loader, "iteration", sampler.epoch + 1))


class FilledBatches(BatchSampler):
    """The batches of `batches`, to which a resumed epoch's end adds what Accelerate would have added without the resume.

    Where batches do not divide among processes, Accelerate fills up the last ones with the first rows that it saw, and
    after a resume these are not the epoch's first. Here the rest of the epoch is filled up before Accelerate sees it.
    `samples`: of all processes in one step, to whose multiple an epoch is filled up.
    """

    def __init__(self, batches: Any, sampler: AdaptiveSampler, samples: int) -> None:
        self.batch_sampler, self.sampler, self._ours, self._samples = batches, batches.sampler, sampler, samples
        self.batch_size, self.drop_last = batches.batch_size, batches.drop_last

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[list[int]]:
        short: list[int] = []
        for batch in self.batch_sampler:
            if len(batch) < self.batch_size:
                short = batch
            else:
                yield batch
        epoch = self._ours.walking
        if epoch is None or not 0 < epoch.start < len(epoch):
            rows = short
        else:
            first = epoch.take(0, min(self._samples, len(epoch)))
            missing = (epoch.start - len(epoch)) % self._samples
            rows = short + np.resize(first, missing).tolist()
        for start in range(0, len(rows), self.batch_size):
            yield rows[start : start + self.batch_size]


def _fill_as_before(shard: BatchSamplerShard, sampler: AdaptiveSampler, state: dict[str, Any]) -> None:
    """Have Accelerate's `shard` fill up a resumed epoch's last batches as it fills up a whole epoch's.

    Raises `ResumeError` if the epoch's first rows are not known any more.
    """
    if shard.drop_last or not shard.even_batches or shard.batch_size is None:
        return
    samples = shard.batch_size * (1 if shard.split_batches else shard.num_processes)
    if isinstance(sampler.replan, int) and state["position"] and (state["length"] - state["position"]) % samples:
        raise ResumeError(
            f"Accelerate fills up epoch {state['epoch']} of {state['length']} samples with its first rows, and those of plans of "
            f"blocks (replan={sampler.replan}) are not known any more at sample {state['position']}. Prepare the loader with "
            "DataLoaderConfiguration(even_batches=False), in the run that saves too, or give it drop_last=True."
        )
    if not isinstance(shard.batch_sampler, FilledBatches):
        shard.batch_sampler = FilledBatches(shard.batch_sampler, sampler, samples)


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
    """The sampler behind the loader.

    Raises `SelectionLost` if it is not an `AdaptiveSampler`, and `InvalidValue` if only the first process walks it.
    """
    sampler = find_sampler(loader)
    if not isinstance(sampler, AdaptiveSampler):
        raise SelectionLost(
            f"behind this {type(loader).__name__} is {type(sampler).__name__}, no AdaptiveSampler: Accelerate shares out batches "
            "itself. Prepare a loader over the sampler as it is, without DistributedAdaptiveSampler."
        )
    if isinstance(loader, DataLoaderDispatcher) and PartialState().num_processes > 1:
        raise InvalidValue(
            f"dispatch_batches=True on {PartialState().num_processes} processes: the first one reads for all, so the samplers of "
            "the others do not know where the epoch is. Prepare the loader with DataLoaderConfiguration(dispatch_batches=False)."
        )
    return sampler
