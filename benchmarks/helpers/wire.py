"""Shards behind an nginx on loopback, read by the package, by WebDataset and by clients that keep nothing."""

import http.client
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import obstore
import webdataset as wds
from obstore.store import HTTPStore

from adaptive_sampler.commands.bench.turns import take_turns
from adaptive_sampler.plan import Plan
from adaptive_sampler.shards import ShardIndex, ShardReader
from benchmarks.helpers.delay import delayed
from benchmarks.helpers.nginx import nginx

LATENCY = 0.02  # seconds, of each request over the slow line
GAP = 64 << 10  # bytes, where both sides are given the gap
KEPT = (0.01, 0.1, 0.5, 1.0)


def over_nginx(
    paths: list[str], rounds: int, copies: int, planned: Callable[[ShardIndex, float], Plan]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("epoch", "latency" or "index", a row) of the shards at `paths`, which have samples of one size.

    copies: how often an epoch with latency has each shard, under as many names: it has to be longer than some round trips.
    planned: makes a plan that keeps a share of the rows.
    Ratios are of times: above 1 the other one takes longer than ours, but for those called "… of": ours as a share of it.
    """
    folder = Path(paths[0]).parent
    again = f"location ~ ^/[0-9]+/(.*)$ {{ alias {folder}/$1; }}"
    with nginx(f"root {folder}; keepalive_requests 1000000; {again}") as address:
        urls = [f"{address}/{Path(path).name}" for path in paths]
        built = take_turns({"ours": partial(_build, urls, folder), "whole shards": partial(whole, urls)}, rounds)
        yield "index", {"ours of whole shards": built["ours"] / built["whole shards"], "seconds": built["ours"]}
        index = ShardIndex.open(folder / "index")
        for share in KEPT:
            yield "epoch", {"keep": share, **_epoch(index, planned(index, share), urls, rounds)}
        names = [f"{nth}/{Path(path).name}" for nth in range(copies) for path in paths]
        port = int(address.rpartition(":")[2])
        yield from (("latency", row) for row in _far(port, names, folder, rounds, planned))


def _far(
    port: int, names: list[str], folder: Path, rounds: int, planned: Callable[[ShardIndex, float], Plan]
) -> Iterator[dict[str, Any]]:
    """Rows of epochs through a proxy, where each request takes `LATENCY` longer, and through the same where none does."""
    indexes = {}
    with delayed(port, 0.0) as near, delayed(port, LATENCY) as far:
        for line, there in (("near", near), ("far", far)):
            urls = [f"http://127.0.0.1:{there}/{name}" for name in names]
            # The handler keeps all samples, though their keys repeat from copy to copy.
            indexes[line] = ShardIndex.build(urls, folder / f"index-{line}", progress=False, handler=lambda error: True)
        for share in KEPT:
            plan = planned(indexes["near"], share)
            readers = {line: partial(_read_all, index, plan) for line, index in indexes.items()}
            readers["far"]()  # so that the process knows the line, as it does after its first epoch
            seconds = take_turns(readers, rounds)
            ratio = {"far of near": seconds["far"] / seconds["near"]}
            yield {"keep": share} | ratio | {f"seconds, {line}": s for line, s in seconds.items()}


def _read_all(index: ShardIndex, plan: Plan) -> int:
    return _drain(ShardReader(index, plan))


def _epoch(index: ShardIndex, plan: Plan, urls: list[str], rounds: int) -> dict[str, Any]:
    reader = ShardReader(index, plan)
    _drain(reader)
    seconds = take_turns(
        {
            "ours": lambda: _drain(ShardReader(index, plan)),
            "ours, gap given": lambda: _drain(ShardReader(index, plan, merge_gap=GAP)),
            "webdataset": lambda: _drain(wds.WebDataset(urls, shardshuffle=False, empty_check=False)),
            "get_ranges": _ranges(index, plan),
            "whole": partial(whole, urls),
            "http.client": partial(by_http_client, urls),
        },
        rounds,
    )
    ours = seconds["ours"]
    return {
        "webdataset": seconds["webdataset"] / ours,
        "ours, gap given, of get_ranges": seconds["ours, gap given"] / seconds["get_ranges"],
        "ours of whole shards": ours / seconds["whole"],
        "ours of http.client": ours / seconds["http.client"],
        "bytes read per kept byte": reader.counts.bytes_read / max(reader.counts.bytes_kept, 1),
        "seconds": ours,
    }


def _build(urls: list[str], folder: Path) -> None:
    shutil.rmtree(folder / "index", ignore_errors=True)
    ShardIndex.build(urls, folder / "index", progress=False)


def _drain(samples: Any) -> int:
    return sum(1 for _ in samples)


def _store(url: str) -> tuple[HTTPStore, str]:
    parts = urlsplit(url)
    return HTTPStore(f"{parts.scheme}://{parts.netloc}", client_options={"allow_http": True}), parts.path[1:]


def whole(urls: list[str]) -> int:
    """Receive whole shards with obstore, and drop them."""
    store = _store(urls[0])[0]
    return sum(len(chunk) for url in urls for chunk in obstore.get(store, _store(url)[1]).stream())


def by_http_client(urls: list[str]) -> int:
    """Receive whole shards with Python's own client, and drop them."""
    line, received = http.client.HTTPConnection(urlsplit(urls[0]).netloc), 0
    for url in urls:
        line.request("GET", urlsplit(url).path)
        answer = line.getresponse()
        while data := answer.read(1 << 20):
            received += len(data)
    line.close()
    return received


def _ranges(index: ShardIndex, plan: Plan) -> Callable[[], None]:
    """Asks obstore for the ranges of the kept samples, with gaps up to `GAP` between them, and for nothing else."""
    store, shards = _store(index.urls[0])[0], index.shard_of(plan.rows)
    asked = []
    for shard in np.unique(shards).tolist():
        extents = index.extents(shard, plan.rows[shards == shard])
        asked.append((_store(index.urls[shard])[1], (extents.offset - 512).tolist(), extents.stop.tolist()))

    def ask() -> None:
        for path, starts, ends in asked:
            obstore.get_ranges(store, path, starts=starts, ends=ends, coalesce=GAP)

    return ask
