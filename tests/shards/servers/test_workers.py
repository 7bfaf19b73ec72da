"""Remote shards in worker processes, also forked ones, and behind a line on which every answer takes its time."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler.shards import Access, Place, ShardIndex, ShardReader
from benchmarks.helpers.delay import delayed
from benchmarks.helpers.nginx import PROGRAM, WITHOUT, nginx
from benchmarks.helpers.server import serving
from tests.shards.tars import body, plan_of, shards

pytest.importorskip("obstore", reason="obstore is not installed (the extra cloud brings it)")

SIZE, EACH, SHARDS = 4_000, 20, 4
N = EACH * SHARDS


def rows_of(index: ShardIndex, worker: int, workers: int) -> list[int]:
    place = Place(0, 1, worker, workers)
    samples = list(ShardReader(index, plan_of(N, range(0, N, 2)), place=place, merge_gap=0))
    assert all(s["bin"] == body(s["__key__"], SIZE) for s in samples)
    return [s["__index__"] for s in samples]


def _work(path: str, worker: int, workers: int, found: Any) -> None:
    found.put(rows_of(ShardIndex.open(path), worker, workers))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_of_a_process_that_has_read_read_too(tmp_path: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    shards(tmp_path, [EACH] * SHARDS, SIZE)
    with serving(tmp_path) as server:
        index = ShardIndex.build(
            f"http://127.0.0.1:{server.port}/shard-{{000..003}}.tar", tmp_path / "index", progress=False
        )
        assert len(rows_of(index, 0, 1)) == N // 2
        found = context.Queue()
        workers = [context.Process(target=_work, args=(str(tmp_path / "index"), w, 2, found)) for w in range(2)]
        for worker in workers:
            worker.start()
        rows = sorted(row for _ in workers for row in found.get(timeout=30))
        for worker in workers:
            worker.join(60)
    assert rows == list(range(0, N, 2))


def test_where_a_server_lets_wait_more_requests_are_under_way(tmp_path: Path) -> None:
    shards(tmp_path, [EACH] * SHARDS, SIZE)
    with serving(tmp_path) as server:
        near = ShardIndex.build(f"http://127.0.0.1:{server.port}/shard-{{000..003}}.tar", tmp_path / "index")
        rows_of(near, 0, 1)
        with delayed(server.port, 0.02) as port:
            far = ShardIndex.build(f"http://127.0.0.1:{port}/shard-{{000..003}}.tar", tmp_path / "far")
            server.reset()
            assert len(rows_of(far, 0, 1)) == N // 2
        assert server.connections > 12
        server.reset()
        access = Access(io_threads=3)
        list(ShardReader(near, plan_of(N, range(0, N, 2)), merge_gap=0, access=access))
        assert server.connections <= 3


@pytest.mark.skipif(PROGRAM is None, reason=WITHOUT)
def test_over_a_line_with_latency_nginx_is_asked_for_each_range_once(tmp_path: Path) -> None:
    shards(tmp_path, [EACH] * SHARDS, SIZE)
    log = tmp_path / "log"
    with (
        nginx(f"root {tmp_path}; access_log {log};") as address,
        delayed(int(address.rpartition(":")[2]), 0.02) as port,
    ):
        index = ShardIndex.build(f"http://127.0.0.1:{port}/shard-{{000..003}}.tar", tmp_path / "index", progress=False)
        before = len(log.read_text().splitlines())
        assert len(rows_of(index, 0, 1)) == N // 2
        assert len(log.read_text().splitlines()) - before == N // 2
