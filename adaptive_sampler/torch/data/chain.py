"""What stands between a loader and our sampler: the objects that frameworks wrap around one another."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch.utils.data import DistributedSampler, IterableDataset

from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.ranks.sampler import DistributedAdaptiveSampler, inner

# Where torch, torchdata and its nodes, Lightning, Fabric, Accelerate, tqdm and prefetchers keep what they wrap.
_INNER = (
    *("base_dataloader", "_dataloader", "flattened", "batch_sampler", "sampler", "_sampler", "dataset"),
    *("root", "source", "source_nodes", "iterable", "loader", "_loader", "dataloader", "data_loader"),
)


def chain(loader: Any) -> Iterator[Any]:
    """Everything that a loader draws its indices through, from the outside in; datasets only where they wrap a sampler.

    `loader` may be several: a dict or list of them, at any depth, as Lightning takes them.
    """
    waiting: list[Any]
    seen: dict[int, Any]
    waiting, seen = [loader], {}  # kept, so that no id is given to another object meanwhile
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
    """The loaders in a collection of them; None for what is no collection, or one of indices, as a sampler may be.

    A CombinedLoader of Lightning's is no collection here: it is a link, and the loaders inside are the next ones.
    """
    if isinstance(link, Mapping):
        return list(link.values())
    first = link
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    return list(link) if isinstance(link, (list, tuple)) and hasattr(first, "__iter__") else None


def _samples(dataset: Any) -> bool:
    """Whether a dataset holds the sampler: Lightning hides one there, and a stream of planned shards has its own."""
    return hasattr(dataset, "_sampler") or isinstance(getattr(dataset, "sampler", None), AdaptiveSampler)


def find_sampler(loader: Any) -> DistributedAdaptiveSampler | AdaptiveSampler | None:
    """Our sampler behind a loader, the outermost of them; None where there is none."""
    return sampler_in(chain(loader))


def sampler_in(links: Any) -> DistributedAdaptiveSampler | AdaptiveSampler | None:
    """The outermost of our samplers among these."""
    return next((k for k in links if isinstance(k, (DistributedAdaptiveSampler, AdaptiveSampler))), None)


def deals_out(link: Any) -> bool:
    """Whether a link that is not ours gives each rank a part of what comes from the inside, or makes an order of its own."""
    foreign = isinstance(link, DistributedSampler) and not isinstance(link, DistributedAdaptiveSampler)
    return foreign or shares(link)


def shares(link: Any) -> bool:
    """Whether a link that is no sampler gives each rank a part: a stream of planned shards, or Accelerate's shards."""
    if isinstance(link, IterableDataset):  # no other than planned shards is in the chain
        return True
    return int(getattr(link, "num_processes", 1)) > 1 and hasattr(link, "process_index")


def of_accelerate(link: Any) -> bool:
    """Whether a link is a loader of Accelerate's, which counts epochs by the passes that were not left early."""
    own = getattr(link, "__dict__", {})  # a wrapper may show its loader's attributes as its own
    return "iteration" in own and "base_dataloader" in own


def primed(link: Any, *, forget: bool = False) -> bool:
    """Whether a StatefulDataLoader, asked for its state before any pass, has its first batches under way.

    Accelerate asks when it prepares. `forget`: drop them, so that the pass which begins now draws its own.
    """
    if not getattr(link, "__dict__", {}).get("_initial_iter_for_state_dict") or not link.num_workers:
        return False
    if forget:
        link._iterator, link._initial_iter_for_state_dict = None, False
        sampler = find_sampler(link)
        if sampler is not None:
            inner(sampler).restart()
    return True
