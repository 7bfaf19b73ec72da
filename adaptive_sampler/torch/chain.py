"""What stands between a loader and our sampler: the objects that frameworks wrap around one another."""

from collections.abc import Iterator
from typing import Any

from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.torch.distributed import DistributedAdaptiveSampler

# Where torch, torchdata, Lightning, Fabric and Accelerate keep what they wrap.
_INNER = ("base_dataloader", "_dataloader", "batch_sampler", "sampler", "_sampler", "dataset")


def chain(loader: Any) -> Iterator[Any]:
    """Everything that a loader draws its indices through, from the outside in; datasets only where they wrap a sampler."""
    waiting, seen = [loader], set()
    while waiting:
        link = waiting.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        for name in _INNER:
            inner = getattr(link, name, None) if not isinstance(link, AdaptiveSampler) else None
            if name != "dataset" or _samples(inner):
                waiting.append(inner)


def _samples(dataset: Any) -> bool:
    """Whether a dataset holds the sampler: Lightning hides one there, and a stream of planned shards has its own."""
    return hasattr(dataset, "_sampler") or isinstance(getattr(dataset, "sampler", None), AdaptiveSampler)


def find_sampler(loader: Any) -> DistributedAdaptiveSampler | AdaptiveSampler | None:
    """Our sampler behind a loader, the outermost of them; None where there is none."""
    for link in chain(loader):
        if isinstance(link, (DistributedAdaptiveSampler, AdaptiveSampler)):
            return link
    return None
