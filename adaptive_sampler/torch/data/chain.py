"""Finds our sampler behind a loader, through the objects that frameworks wrap around one another."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import DistributedSampler, IterableDataset

from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.ranks.sampler import DistributedAdaptiveSampler, inner

# The attributes in which torch, torchdata (and its nodes), Lightning, Fabric, Accelerate, tqdm and prefetchers keep the
# object that they wrap.
_INNER = (
    *("base_dataloader", "_dataloader", "flattened", "batch_sampler", "sampler", "_sampler", "dataset"),
    *("root", "source", "source_nodes", "iterable", "loader", "_loader", "dataloader", "data_loader"),
)


def chain(loader: Any) -> Iterator[Any]:
    """All objects through which a loader draws its indices, beginning with the outermost.

    A dataset is among them only if it holds a sampler. `loader` may also be a dict or list of loaders, nested to any
    depth, as Lightning accepts it.
    """
    waiting: list[Any]
    seen: dict[int, Any]
    # `seen` keeps the objects alive, so that Python gives none of their ids to a new object meanwhile.
    waiting, seen = [loader], {}
    while waiting:
        link = waiting.pop(0)
        if link is None or id(link) in seen:
            continue
        seen[id(link)] = link
        inside = several(link)
        if inside is not None:
            waiting[:0] = inside
            continue
        yield link
        for name in _INNER:
            held = getattr(link, name, None) if not isinstance(link, AdaptiveSampler) else None
            if name != "dataset" or _samples(held):
                waiting.append(held)


def several(link: Any) -> list[Any] | None:
    """The loaders in a dict, list or tuple of loaders; None for anything else.

    A list of indices, which may serve as a sampler, is no collection of loaders. Neither is Lightning's CombinedLoader:
    it is one link of the chain, and the loaders inside it are the next links.
    """
    if isinstance(link, Mapping):
        return list(link.values())
    first = link
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    return list(link) if isinstance(link, (list, tuple)) and hasattr(first, "__iter__") else None


def _samples(dataset: Any) -> bool:
    """Whether a dataset holds a sampler: Lightning hides one in a dataset, and a stream of planned shards has its own."""
    return hasattr(dataset, "_sampler") or isinstance(getattr(dataset, "sampler", None), AdaptiveSampler)


def find_sampler(loader: Any) -> DistributedAdaptiveSampler | AdaptiveSampler | None:
    """The outermost of our samplers behind a loader; None if there is none."""
    return sampler_in(chain(loader))


def sampler_in(links: Any) -> DistributedAdaptiveSampler | AdaptiveSampler | None:
    """The first of our samplers among `links`, which `chain` gave; None if there is none."""
    return next((k for k in links if isinstance(k, (DistributedAdaptiveSampler, AdaptiveSampler))), None)


def deals_out(link: Any) -> bool:
    """Whether a foreign link gives each rank only a part of the rows that the link inside it yields, or reorders them."""
    foreign = isinstance(link, DistributedSampler) and not isinstance(link, DistributedAdaptiveSampler)
    return foreign or shares(link)


def shares(link: Any) -> bool:
    """Whether a link that is no sampler gives each rank only a part: a stream of planned shards, or Accelerate's shard."""
    if isinstance(link, IterableDataset):  # the only iterable datasets in a chain are streams of planned shards
        return True
    return int(getattr(link, "num_processes", 1)) > 1 and hasattr(link, "process_index")


def of_accelerate(link: Any) -> bool:
    """Whether a link is one of Accelerate's loaders, which count an epoch for each pass that was not left early."""
    own = getattr(link, "__dict__", {})  # its own attributes only: a wrapper may forward its loader's
    return "iteration" in own and "base_dataloader" in own


def primed(link: Any, *, forget: bool = False) -> bool:
    """Whether a StatefulDataLoader already loads its first batches because it was asked for its state before any pass.

    Accelerate asks for the state when it prepares a loader. `forget`: drop those batches and restart the sampler behind
    the loader, so that the pass that begins now draws its own batches.
    """
    if not getattr(link, "__dict__", {}).get("_initial_iter_for_state_dict") or not link.num_workers:
        return False
    if forget:
        link._iterator, link._initial_iter_for_state_dict = None, False
        sampler = find_sampler(link)
        if sampler is not None:
            inner(sampler).restart()
    return True
