"""`selected` drops what is not planned from a sequential pipeline, before decoding, and fans out repeats."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
from torch.utils.data import DataLoader
from webdataset.gopen import gopen
from webdataset.tariterators import group_by_keys, tar_file_expander

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.scoring import Error, Loss
from adaptive_sampler.selection import KeepAll, Policy, Prune, Upsample
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.webdataset import selected
from tests.shards.tars import index_of, write_tar
from tests.webdataset.raising import lost

N = 30


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    return index_of(tmp_path_factory.mktemp("shards"), [10, 20])


def sampler(policy: Policy) -> AdaptiveSampler:
    store = ScoreStore.create(None, N, [Loss(), Error()])
    store.fold("loss", np.arange(N), np.arange(N, dtype=np.float32))
    store.fold("error", np.arange(N), (np.arange(N) == 12).astype(np.float32))
    return AdaptiveSampler(store, policy)


def pipes(index: ShardIndex) -> list[str]:
    return [f"pipe:cat {url}" for url in index.urls]


def tar_samples(sources: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """wds.tarfile_to_samples, but local files are closed again."""
    for source in sources:
        with gopen(source["url"]) as stream:
            yield from group_by_keys(tar_file_expander([{"url": source["url"], "stream": stream}]))


def pipeline(urls: list[str], *stages: Any) -> Any:
    return wds.DataPipeline(wds.SimpleShardList(urls), wds.split_by_worker, tar_samples, *stages)


def rows(samples: Any) -> list[int]:
    return sorted(sample["__index__"] for sample in samples)


@pytest.mark.parametrize("by", ["index", "keys"])
@pytest.mark.parametrize("piped", [False, True])
def test_only_planned_samples_pass(index: ShardIndex, by: str, piped: bool) -> None:
    stage = selected(index if by == "index" else index.keys, sampler(Prune(6, "loss")))
    assert rows(pipeline(pipes(index) if piped else list(index.urls), stage)) == list(range(24, 30))


def test_repeats_fan_out_with_their_weights(index: ShardIndex) -> None:
    samples = list(pipeline(list(index.urls), selected(index, sampler(Upsample(4)))))
    assert Counter(s["__index__"] for s in samples) == {r: 4 if r == 12 else 1 for r in range(N)}
    assert all(s["__loss_weight__"] == 1.0 for s in samples)
    assert len({id(s) for s in samples if s["__index__"] == 12}) == 4


def test_what_is_dropped_is_not_decoded(index: ShardIndex) -> None:
    decoded = []
    stage = selected(index, sampler(Prune(3, "loss")))
    list(pipeline(list(index.urls), stage, wds.map(lambda s: decoded.append(s["__key__"]))))
    assert len(decoded) == 3


def test_each_pass_is_the_next_epoch(index: ShardIndex) -> None:
    planned = sampler(KeepAll())
    flow = pipeline(list(index.urls), selected(index, planned))
    list(flow)
    list(flow)
    assert planned.epoch == 1


def test_workers_follow_set_epoch_and_a_missing_one_raises(index: ShardIndex) -> None:
    stage = selected(index, sampler(Prune(6, "loss")))
    loader = DataLoader(pipeline(list(index.urls), stage), batch_size=None, num_workers=2)
    lost(loader, "call set_epoch")
    stage.set_epoch(0)
    assert rows(loader) == list(range(24, 30))
    lost(loader, "set_epoch")


def test_an_unknown_key_is_an_error(index: ShardIndex, tmp_path: Path) -> None:
    url = str(write_tar(tmp_path / "x.tar", [("new.bin", b"1")]))
    for known in (index, index.keys):
        with pytest.raises(UnknownName, match=r"sample 'new' of .*x\.tar has no row"):
            list(pipeline([url], selected(known, sampler(KeepAll()))))


def test_keys_that_occur_twice_tell_nothing(index: ShardIndex) -> None:
    with pytest.raises(InvalidValue, match="1 keys occur twice"):
        list(selected(["a"] * 2 + [str(i) for i in range(N - 2)], sampler(KeepAll()))([]))
