"""Walks through one reader's share of an epoch: reads ahead in shard order, and delivers in the window's order."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from adaptive_sampler.shards.indexing.index import ShardIndex
from adaptive_sampler.shards.reading.bundle import Ticket
from adaptive_sampler.shards.reading.order import ShardOrder, check_taken
from adaptive_sampler.shards.reading.ranges import read
from adaptive_sampler.shards.reading.samples import OpenFiles
from adaptive_sampler.shards.reading.settings import Counts, ShardReading, Stop
from adaptive_sampler.shards.reading.share import Place, Stint
from adaptive_sampler.shards.reading.wanted import Raw

WINDOW_BYTES = 64 << 20  # for each worker; a small buffer also reuses its memory, which is faster than fresh memory


def bounded(window: int, index: ShardIndex) -> int:
    """Limit `window` to the samples that fit into 64 MiB on average. Only the index decides the limit."""
    return min(window, max(int(WINDOW_BYTES / max(index.bytes_per_sample, 1)), 1)) if window else 0


@dataclass
class _Position:
    taken: int


class Walk(Iterator[Raw]):
    """Iterates over one reader's samples, after the first `taken` visits. Nothing is read before the first draw.

    A resumed walk reads again only the samples that were in the buffer and not yet delivered.
    """

    def __init__(
        self,
        index: ShardIndex,
        order: ShardOrder,
        place: Place,
        reading: ShardReading,
        past: Sequence[Stint] = (),
        taken: int = 0,
    ) -> None:
        self._index, self._order, self._place, self._reading, self._past = index, order, place, reading, past
        self._position = _Position(taken)
        self._samples: Iterator[Raw] | None = None

    @property
    def taken(self) -> int:
        """How many visits were delivered, or lost because the handler returned True."""
        return self._position.taken

    @property
    def counts(self) -> Counts:
        """What was read and lost so far."""
        return self._reading.counts

    def __next__(self) -> Raw:
        if self._samples is None:
            self._samples = self._walk(self._position)
        return next(self._samples)

    def _walk(self, position: _Position) -> Iterator[Raw]:
        visits, leaving = self._order.own(self._place, self._past)
        check_taken(position.taken, len(visits), self._place)
        leaving = leaving[position.taken :]
        kept, places = self._order.kept, self._order.places(visits)
        weights = None if kept.weights is None else kept.weights[places[leaving]].tolist()
        arriving = np.sort(leaving)
        files = OpenFiles(self._index, self._reading)
        tickets = read(self._index, kept.rows[places[arriving]].astype(np.int64), self._reading, files)
        arrivals = zip(arriving.tolist(), tickets, strict=True)
        return _delivered(leaving.tolist(), weights or repeat(1.0), arrivals, position, self._reading.counts, files)


def _delivered(
    leaving: list[int],
    weights: Iterable[float],
    arrivals: Iterator[tuple[int, Ticket]],
    position: _Position,
    counts: Counts,
    files: OpenFiles,
) -> Iterator[Raw]:
    """Yield the samples in the order `leaving`, as they arrive.

    No method of `Walk`: then whoever drops a walk ends its threads at once, not when cycles of references are next looked for.
    """
    held: dict[int, Ticket] = {}
    try:
        for wanted, weight in zip(leaving, weights, strict=False):
            while wanted not in held:
                nth, ticket = next(arrivals)
                held[nth] = ticket
            hand_out, what = held.pop(wanted)
            sample = hand_out(what)
            position.taken += 1
            if sample is not None:
                sample["__loss_weight__"] = weight
                counts.samples += 1
                yield sample
    except Stop:
        return
    finally:
        files.close()
