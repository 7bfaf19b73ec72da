"""A stage for pipelines that must read sequentially: it drops samples that are not planned before they are decoded."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
from torch.utils.data import get_worker_info

from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.shards.indexing.index import ShardIndex
from adaptive_sampler.tables.planned.keys import PlannedKeys
from adaptive_sampler.webdataset.plans import Plans, PublishedEpoch


@overload
def selected(index_or_keys: PlannedKeys) -> "SelectedKeys": ...
@overload
def selected(index_or_keys: ShardIndex | Sequence[str], sampler: AdaptiveSampler) -> "Selected": ...
def selected(
    index_or_keys: ShardIndex | Sequence[str] | PlannedKeys, sampler: AdaptiveSampler | None = None
) -> "Selected | SelectedKeys":
    """Make a pipeline stage that passes only the samples that are planned, each as often as it is planned.

    Put it behind the tar stages of `wds.DataPipeline` or `.compose`. It adds __index__ and __loss_weight__ to samples.

    index_or_keys: the index of the shards, or (n,) the key of each row. A sample is found by its `__key__`, which must
    be unique; with an index that knows its `__url__`, it is found by shard and key. `sampler` plans; under a DataLoader with
    workers, call `set_epoch` on the stage before every epoch.

    Or the `PlannedKeys` of a table, without a sampler: every epoch visits the same, no `set_epoch` is needed, and samples, which
    have no row, get no __index__. Raises InvalidValue for a sampler beside those, and for none beside anything else.
    """
    if isinstance(index_or_keys, PlannedKeys) != (sampler is None):
        raise InvalidValue(
            f"sampler={sampler!r}: an index or keys need an AdaptiveSampler, which plans; PlannedKeys are a plan, and take none."
        )
    if isinstance(index_or_keys, PlannedKeys):
        return SelectedKeys(index_or_keys)
    assert sampler is not None
    return Selected(index_or_keys, sampler)


class SelectedKeys:
    """The stage that `selected` makes of `PlannedKeys`."""

    def __init__(self, planned: PlannedKeys) -> None:
        self._planned = planned

    def __call__(self, samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the planned samples of `samples`. Samples whose keys the plan does not have are dropped."""
        for sample in samples:
            key = [sample["__key__"]]
            if times := int(self._planned.repeats(key)[0]):
                yield from _visits(sample, times, {"__loss_weight__": float(self._planned.weights(key)[0])})


def _visits(sample: dict[str, Any], times: int, added: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The sample as often as it is visited: a dict for each, all made before a later stage writes into the first."""
    sample.update(added)
    yield from [sample, *(dict(sample) for _ in range(times - 1))][:times]


class Selected:
    """The stage that `selected` makes."""

    def __init__(self, index_or_keys: ShardIndex | Sequence[str], sampler: AdaptiveSampler) -> None:
        self._index = index_or_keys if isinstance(index_or_keys, ShardIndex) else None
        self._keys = None if self._index is not None else tuple(index_or_keys)  # type: ignore[arg-type]  # no index, so they are keys
        starts = np.array([0, len(index_or_keys)]) if self._index is None else self._index.starts
        self._plans = Plans(sampler, starts)

    def set_epoch(self, epoch: int) -> None:
        """Plan `epoch` from all scores, including those that the hooks still hold, and publish it to the workers."""
        self._plans.set_epoch(epoch, dict)

    def __call__(self, samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the planned samples of `samples`.

        Raises UnknownName for a key that has no row, InvalidValue if keys are not unique, and SelectionLost if a worker
        begins an epoch that `set_epoch` has not planned.
        """
        epoch = self._begin()
        find = _ByShard(self._index, epoch) if self._index is not None else _ByKey(self._keys or (), epoch)
        for sample in samples:
            row, times, weight = find(sample)
            yield from _visits(sample, times, {"__index__": row, "__loss_weight__": weight})

    def _begin(self) -> PublishedEpoch:
        info = get_worker_info()
        if info is None:
            return self._plans.begin(dict, publish=False)
        return self._plans.enter(self._plans.ticket(), info.id)


Found = tuple[int, int, float]
"""A sample's row, how often it is visited, and its loss weight."""


def _planned(epoch: PublishedEpoch, start: int, stop: int) -> tuple[list[int], list[float]]:
    """For rows start … stop − 1: (rows,) how often each is visited, and (rows,) its loss weight."""
    kept = epoch.kept
    low, high = np.searchsorted(kept.rows, [start, stop])
    here = kept.rows[low:high].astype(np.int64) - start
    times, weights = np.zeros(stop - start, np.int64), np.zeros(stop - start)
    before = 0 if kept.ends is None or low == 0 else kept.ends[low - 1]
    times[here] = 1 if kept.ends is None else np.diff(kept.ends[low:high], prepend=before)
    weights[here] = 1 if kept.weights is None else kept.weights[low:high]
    return times.tolist(), weights.tolist()


class _ByKey:
    """Finds a sample by its key alone, among the keys of all rows."""

    def __init__(self, keys: Sequence[str], epoch: PublishedEpoch) -> None:
        self._rows = {key: row for row, key in enumerate(keys)}
        if len(self._rows) != len(keys):
            raise InvalidValue(
                f"{len(keys) - len(self._rows)} keys occur twice: a sample cannot be told by its key. Give the index."
            )
        self._times, self._weights = _planned(epoch, 0, len(keys))

    def __call__(self, sample: dict[str, Any]) -> Found:
        row = self._rows.get(sample["__key__"])
        if row is None:
            raise _unknown(sample)
        return row, self._times[row], self._weights[row]


class _ByShard:
    """Finds a sample by its shard and key. Holds the keys of one shard at a time, because shards come one by one."""

    def __init__(self, index: ShardIndex, epoch: PublishedEpoch) -> None:
        self._index, self._epoch = index, epoch
        self._shards = {url: shard for shard, url in enumerate(index.urls)}
        self._anywhere: _ByKey | None = None
        self._url: str | None = None

    def __call__(self, sample: dict[str, Any]) -> Found:
        url = sample.get("__url__")
        shard = self._shards.get(url) if url is not None else None
        if shard is None:  # read through a pipe, or a shard that was moved: the key alone decides
            if self._anywhere is None:
                self._anywhere = _ByKey(self._index.keys, self._epoch)
            return self._anywhere(sample)
        if url != self._url:
            start, stop = self._index.starts[shard : shard + 2].tolist()
            self._rows = {key: nth for nth, key in enumerate(self._index.keys_of(start, stop))}
            self._times, self._weights = _planned(self._epoch, start, stop)
            self._url, self._start = url, start
        nth = self._rows.get(sample["__key__"])
        if nth is None:
            raise _unknown(sample)
        return self._start + nth, self._times[nth], self._weights[nth]


def _unknown(sample: dict[str, Any]) -> UnknownName:
    return UnknownName(
        f"sample {sample['__key__']!r} of {sample.get('__url__', 'an unknown shard')} has no row. Index its shard, or "
        "list its key."
    )
