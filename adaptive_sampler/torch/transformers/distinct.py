"""Batches without duplicates, as sentence-transformers' losses of in-batch negatives want them, over our sampler's rows."""

import pickle
import warnings
from collections.abc import Collection, Iterator
from typing import Any

from torch.utils.data import BatchSampler

from adaptive_sampler.sampler import AdaptiveSampler

KINDS = "no_duplicates", "no_duplicates_hashed"  # of sentence-transformers' BatchSamplers: they differ in speed alone


class DistinctBatches(BatchSampler):
    """Batches of a sampler's rows, in its order, in which no two samples have a value in common.

    A sample that shares a value with one of the batch waits for the next. So every row is visited as often as the plan says,
    and an epoch has as many batches as without. Those that still wait at its end, and share a value, come together, and a
    warning says how many they are. `aside`: the columns whose values may be equal, such as labels.
    """

    def __init__(
        self, sampler: AdaptiveSampler, batch_size: int, drop_last: bool, dataset: Any, aside: Collection[str]
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self._own = sampler
        self._dataset = dataset.remove_columns([name for name in dataset.column_names if name in aside])

    def __iter__(self) -> Iterator[list[int]]:
        rows, together = iter(self._own), 0
        waiting: list[int] = []
        while True:
            batch: list[int] = []
            taken: set[Any] = set()
            left: list[int] = []
            for row in waiting:
                self._put(row, batch, taken, left)
            while len(batch) < self.batch_size and (drawn := next(rows, None)) is not None:
                self._put(drawn, batch, taken, left)
            lacking = self.batch_size - len(batch)
            together += len(left[:lacking])  # the sampler has no more: these have nothing else to come with
            batch, waiting = batch + left[:lacking], left[lacking:]
            if batch and (len(batch) == self.batch_size or not self.drop_last):
                yield batch
            if len(batch) < self.batch_size:
                break
        if together:
            warnings.warn(
                f"{together} samples at the end of epoch {self._own.epoch} share a text with one of their batch: no other "
                "samples were left to come with. Take smaller batches, or leave duplicates out of the dataset.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _put(self, row: int, batch: list[int], taken: set[Any], left: list[int]) -> None:
        """Put a row into the batch if it is not full and has none of its values, and else among those that wait."""
        if len(batch) == self.batch_size:
            left.append(row)
            return
        values = {x if isinstance(x, str) else pickle.dumps(x) for x in self._dataset[int(row)].values()}
        if taken.isdisjoint(values):
            taken |= values
            batch.append(row)
        else:
            left.append(row)
