"""One reader's way through its share of an epoch: reads ahead in shard order, delivers in the window's order."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from adaptive_sampler.shards.index import ShardIndex
from adaptive_sampler.shards.order import Order
from adaptive_sampler.shards.ranges import Counts, Raw, Reading, read
from adaptive_sampler.shards.share import Place, Stint

WINDOW_BYTES = 64 << 20  # a worker; memory that is used again and again is also faster than fresh memory


def bounded(window: int, index: ShardIndex) -> int:
    """`window` samples, or as many as fit into 64 MiB on average, which is a function of the index alone."""
    return min(window, max(int(WINDOW_BYTES / max(index.bytes_per_sample, 1)), 1)) if window else 0


class Walk(Iterator[Raw]):
    """Iterates over the samples of one reader from where `taken` visits are delivered. Nothing is read before a draw.

    Resuming reads again only what was in the buffer and not yet delivered.
    """

    def __init__(
        self,
        index: ShardIndex,
        order: Order,
        place: Place,
        reading: Reading,
        past: Sequence[Stint] = (),
        taken: int = 0,
    ) -> None:
        self._index, self._order, self._place, self._reading, self._past = index, order, place, reading, past
        self.taken = taken  # visits delivered or, with the handler's leave, lost
        self._samples: Iterator[Raw] | None = None

    @property
    def counts(self) -> Counts:
        """What was read and lost."""
        return self._reading.counts

    def __next__(self) -> Raw:
        if self._samples is None:
            self._samples = self._walk()
        return next(self._samples)

    def _walk(self) -> Iterator[Raw]:
        visits, leaving = self._order.own(self._place, self._past)
        leaving = leaving[self.taken :]
        arriving = np.sort(leaving)
        places = self._order.places(visits[arriving])
        kept = self._order.kept
        weights = np.ones(len(places)) if kept.weights is None else kept.weights[places]
        stream = read(self._index, kept.rows[places].astype(np.int64), self._reading)
        arrivals = zip(arriving.tolist(), weights.tolist(), stream, strict=False)
        held: dict[int, Any] = {}
        for wanted in leaving.tolist():
            if wanted not in held:
                for nth, weight, sample in arrivals:
                    if sample is not None:
                        sample["__loss_weight__"] = weight
                    held[nth] = sample
                    if nth == wanted:
                        break
            # Absent: the handler stopped the reading; what had arrived before still goes out.
            if wanted not in held:
                continue
            self.taken += 1
            sample = held.pop(wanted)
            if sample is not None:
                yield sample
