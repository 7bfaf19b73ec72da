"""Workers read over HTTP with connections of their own, though the trainer has used its own before."""

from pathlib import Path

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import RandomPrune
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.webdataset import PlannedShards
from benchmarks.helpers.server import serving
from tests.shards.tars import shards
from tests.webdataset.planned import indices


def test_workers_share_no_connection_with_the_trainer(tmp_path: Path) -> None:
    shards(tmp_path, [20, 20])
    with serving(tmp_path) as server:
        index = ShardIndex.build(server.url("shard-{000..001}.tar"), tmp_path / "index")
        store = ScoreStore.create(None, len(index), [Loss()])
        planned = PlannedShards(index, AdaptiveSampler(store, RandomPrune(0.5)))
        first = [sample["__index__"] for sample in planned]
        loader = planned.loader(batch_size=4, num_workers=2, collate_fn=indices, multiprocessing_context="fork")
        rows = [row for batch in loader for row in batch]
    assert len(first) == len(set(rows)) == len(rows) == 20
