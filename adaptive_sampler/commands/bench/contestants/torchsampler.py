"""imbalanced-dataset-sampler, which pip calls torchsampler."""

from adaptive_sampler.commands.bench.base import Turn
from adaptive_sampler.commands.bench.contestants.torch import batched
from adaptive_sampler.commands.bench.data import labels


def balanced_batches(n: int) -> Turn:
    """ImbalancedDatasetSampler: n draws with replacement by the inverse size of the row's class."""
    from torchsampler import ImbalancedDatasetSampler

    return batched(ImbalancedDatasetSampler(range(n), labels=labels(n).tolist()))
