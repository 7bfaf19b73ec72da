"""Checks that the loader which a framework really uses still draws what our sampler selects, and says why if not."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch.distributed as dist
from torch.utils.data import DistributedSampler, Sampler

from adaptive_sampler.errors import SelectionLost
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.data.chain import chain, of_accelerate, several, shares
from adaptive_sampler.torch.data.dataset import IndexedDataset
from adaptive_sampler.torch.ranks.sampler import DistributedAdaptiveSampler, inner
from adaptive_sampler.walk.batches import Batches


def check(loader: Any, *, sampler: AdaptiveSampler | DistributedAdaptiveSampler | None = None) -> None:
    """Raise `SelectionLost` if `loader` does not draw what one of our samplers selects; the message says why.

    Call it once training has begun, with the loader that is really iterated: the one that `accelerator.prepare` or
    `fabric.setup_dataloaders` returned, or `trainer.train_dataloader`. `loader` may also be several loaders (a dict, a
    list, a CombinedLoader, torchdata nodes): at least one must have one of our samplers, and each that has one is
    checked. `sampler`: a sampler that must be among those found. Warns if a resume within an epoch is left to
    Accelerate itself, which does not restore the plan.
    """
    ours = [part for part in _parts(loader) if any(isinstance(link, AdaptiveSampler) for link in chain(part))]
    for part in ours or [loader]:
        _check_one(part)
    if sampler is not None and not any(link is inner(sampler) for link in chain(loader)):
        raise SelectionLost(
            f"another sampler of ours than {inner(sampler)} draws the indices of this {_name(loader)}: its rows are not the "
            "plan's. Give the loader the very sampler whose state is kept."
        )


def _parts(loader: Any) -> Iterator[Any]:
    """The single loaders in a nested collection of loaders; `loader` itself if it is no collection."""
    inside = several(loader)
    inside = getattr(loader, "flattened", None) if inside is None else inside
    if inside is None:
        yield loader
    else:
        for part in inside:
            yield from _parts(part)


def _check_one(loader: Any) -> None:
    links = list(chain(loader))
    sampler = _alive(loader, links)
    shards = [link for link in links if _splits(link)]
    _sharded_once(sampler, links, shards)
    _same_rows(sampler, links)
    for link in links:
        _same_epoch(sampler, link)
        _resumable(sampler, link)
        _kept_elsewhere(sampler, link)


def _alive(loader: Any, links: list[Any]) -> AdaptiveSampler:
    """Our sampler that draws the loader's indices. Raises `SelectionLost` if there is none."""
    ours = [link for link in links if isinstance(link, AdaptiveSampler)]
    for link in links:
        if isinstance(link, Batches) and not isinstance(link.sampler, (AdaptiveSampler, DistributedAdaptiveSampler)):
            raise SelectionLost(
                f"the sampler inside our batch sampler was replaced by {_name(link.sampler)}: its rows are not the plan's. Keep "
                "ours: Lightning needs Trainer(use_distributed_sampler=False), or sampler=DistributedAdaptiveSampler(...)."
            )
    drawing = getattr(loader, "batch_sampler", None)
    if drawing is not None and getattr(loader, "sampler", None) in ours:
        ours = [link for link in chain(drawing) if isinstance(link, AdaptiveSampler)]
    if not ours:
        drawn = [link for link in reversed(links) if hasattr(link, "__iter__") and link is not loader]
        foreign = next((link for link in drawn if isinstance(link, Sampler)), drawn[0] if drawn else loader)
        raise SelectionLost(
            f"{_name(foreign)} draws the indices of this {_name(loader)}, none of our samplers: the selection is lost. On many "
            'ranks, and for Lightning\'s strategy "ddp" on one device too, pass sampler=DistributedAdaptiveSampler(sampler) and '
            "batch_size=, no batch_sampler= (Lightning, Composer and Ray replace anything else), or tell the framework to keep "
            "it: use_distributed_sampler=False (Lightning), add_dist_sampler=False (Ray). Accelerate and Hugging Face's Trainer "
            "take the sampler itself."
        )
    return ours[0]


def _splits(link: Any) -> bool:
    """Whether a link gives each rank only a part of the rows that the link inside it yields."""
    return int(link.num_replicas) > 1 if isinstance(link, DistributedSampler) else shares(link)


def _sharded_once(sampler: AdaptiveSampler, links: list[Any], shards: list[Any]) -> None:
    """Raise `SelectionLost` if the rows are shared out among the ranks twice, or not at all."""
    if len(shards) > 1:
        raise SelectionLost(
            f"the rows are shared among ranks twice, by {' and by '.join(map(_name, shards))}: most are never visited. Accelerate "
            "and Hugging Face's Trainer share them themselves: pass the sampler without DistributedAdaptiveSampler; or do "
            "not prepare this loader."
        )
    ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if not shards and ranks > 1:
        raise SelectionLost(
            f"each of {ranks} ranks draws all rows of {_name(sampler)}: every sample is visited {ranks} times. Pass "
            "sampler=DistributedAdaptiveSampler(sampler), or prepare the loader with Accelerate."
        )


def _same_rows(sampler: AdaptiveSampler, links: list[Any]) -> None:
    """Raise `SelectionLost` if an `IndexedDataset` and the sampler's store differ in length."""
    for link in links:
        dataset = getattr(link, "dataset", None)
        if isinstance(dataset, IndexedDataset) and len(dataset) != len(sampler.store):
            raise SelectionLost(
                f"the dataset has {len(dataset)} samples, the store of {_name(sampler)} {len(sampler.store)} rows: some are never "
                "visited, or do not exist. Make a store with n=len(dataset), or store.grow(len(dataset)) if samples were appended."
            )


def _kept_elsewhere(sampler: AdaptiveSampler, link: Any) -> None:
    """Raise or warn if Accelerate's own means are used to resume within an epoch.

    `skip_first_batches` and `accelerator.save_state` do not know the epoch's plan, and mostly not even its number.
    Raises `SelectionLost` if `skip_first_batches` skips what the sampler itself has skipped already.
    """
    skipped = vars(link).get("skip_batches", 0) if hasattr(link, "__dict__") else 0
    if skipped and sampler.start:
        raise SelectionLost(
            f"{_name(link)} skips {skipped} batches, and the sampler goes on at sample {sampler.start} of epoch {sampler.epoch} by "
            "itself: the rest would be cut short. Leave skip_first_batches out where the sampler's state was loaded."
        )
    stateful = of_accelerate(link) and hasattr(link.base_dataloader, "state_dict")
    if skipped or stateful:
        what = f"skips {skipped} batches of an epoch" if skipped else "is kept by accelerator.save_state"
        warnings.warn(
            f"{_name(link)} {what}, which restores no plan of {_name(sampler)}: a run resumed so may walk other rows. Exact is "
            "adaptive_sampler.torch.accelerate.SamplerCheckpoint(loader, hook), registered for checkpointing, with neither "
            "use_stateful_dataloader nor skip_first_batches.",
            RuntimeWarning,
            stacklevel=4,
        )


def _same_epoch(sampler: AdaptiveSampler, link: Any) -> None:
    """Raise `SelectionLost` if a link has reached a later epoch than our sampler: `set_epoch` did not reach the sampler."""
    told = getattr(link, "iteration", None)  # where Accelerate's loader counts epochs
    if told is None and isinstance(link, DistributedSampler) and not isinstance(link, DistributedAdaptiveSampler):
        told = link.epoch
    known = max(sampler.epoch, sampler.state_dict()["epoch"])
    # An earlier epoch is no fault: a loader that was replaced by one that skips batches stays behind.
    if isinstance(told, int) and told > known:
        raise SelectionLost(
            f"{_name(link)} is at epoch {told}, our sampler at epoch {sampler.epoch}: set_epoch({told}) never reached it. Load the "
            "sampler's state before the first iter (adaptive_sampler.torch has helpers: lightning, transformers, accelerate), "
            f"or call sampler.set_epoch({told})."
        )


def _resumable(sampler: AdaptiveSampler, link: Any) -> None:
    """Raise `SelectionLost` if torch's `DistributedSampler`, or a subclass that is not ours, lies around our sampler.

    Lightning and Fabric put one there, with strategy "ddp" on one device too; Lightning's shuffles. It lists a whole epoch
    at once, at a length taken when it was made, so that after a resume within an epoch it asks for rows that are not left.
    """
    if isinstance(link, DistributedAdaptiveSampler) or not isinstance(link, DistributedSampler):
        return
    order = "shuffles the plan's order anew, " if link.shuffle else ""
    raise SelectionLost(
        f"{_name(link)} lies around {_name(sampler)}: it {order}took the length of an epoch once, {link.total_size}, and can go on "
        "from no place within an epoch. Pass sampler=DistributedAdaptiveSampler(sampler), with batch_size=, on one device too: "
        "frameworks keep it as it is."
    )


def _name(link: Any) -> str:
    return type(link).__name__
