"""Our batches as a batch sampler of torch's."""

from torch.utils.data import BatchSampler

from adaptive_sampler.walk.batches import Batches


class AdaptiveBatchSampler(Batches, BatchSampler):  # type: ignore[misc]  # both bases type `sampler`, ours narrower
    """Batches of one of our samplers, as a `torch.utils.data.BatchSampler`, which some frameworks require.

    Raises `InvalidValue` for a sampler that is not ours.
    """
