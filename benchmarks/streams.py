"""What a pruned epoch over tar shards costs: ours against WebDataset's own ways and tarfile, in one run."""

import argparse
import io
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds

import adaptive_sampler.shards.indexing.build  # noqa: F401  (compiled before it is timed)
from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.commands.bench.base import Row
from adaptive_sampler.commands.bench.turns import take_turns
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import RandomPrune
from adaptive_sampler.shards import ShardIndex, ShardReader
from adaptive_sampler.shards.indexing.scan import scan
from adaptive_sampler.shards.sources.access import Access
from adaptive_sampler.webdataset import PlannedShards
from benchmarks.harness import options, save
from benchmarks.helpers.nginx import PROGRAM
from benchmarks.helpers.server import serving
from benchmarks.helpers.wire import over_nginx

ABOUT = (
    "Pruned epochs over tar shards: µs per stored sample keeping 1 … 100 %, and how many times ours each other way takes; the "
    "header pass beside tarfile's; bytes served over HTTP per kept byte; a whole DataLoader with JPEG decode."
)
KEEP = (0.01, 0.1, 0.5, 1.0)
COPIES = 12  # of the shards in an epoch with latency: a short one shows only how long the first answer takes
Way = Callable[[], int]


def write_shards(folder: Path, size: int, samples: int, count: int = 2, mtime: int | None = None) -> list[str]:
    """Write `count` shards of `samples` samples of `size` random bytes and a class, as wds.ShardWriter does -> paths.

    mtime=None is the writer's default. It is a float, and for a float every member gets a PAX header, even for 0.0.
    With mtime=0, an int, there are no PAX headers.
    """
    random, urls = np.random.default_rng(0), []
    for shard in range(count):
        path = folder / f"{size}-{shard}.tar"
        with wds.TarWriter(str(path), mtime=mtime) as writer:
            for i in range(samples):
                writer.write({"__key__": f"{shard}/{i:07d}", "bin": random.bytes(size), "cls": i % 10})
        urls.append(str(path))
    return urls


def drain(samples: Any) -> int:
    """Consume everything, and count it."""
    return sum(1 for _ in samples)


def plain(urls: list[str], **options: Any) -> wds.WebDataset:
    """WebDataset's usual way to read tar shards."""
    return wds.WebDataset(urls, shardshuffle=False, empty_check=False, **options)


def by_tarfile(urls: list[str], keep: set[str]) -> int:
    """Read only the kept members with tarfile, which seeks past the others -> the number of samples."""
    found = 0
    for url in urls:
        with tarfile.open(url, "r:") as archive:
            for member in archive:
                if member.name.rpartition(".")[0] in keep:
                    archive.extractfile(member).read()  # type: ignore[union-attr]  # None only for members that are no files
                    found += member.name.endswith(".cls")
    return found


def planned(index: ShardIndex, keep: float) -> PlannedShards:
    """Our stream of a random share `keep` of the samples."""
    return PlannedShards(index, AdaptiveSampler(ScoreStore.create(None, len(index), [Loss()]), RandomPrune(keep)))


def reading(folder: Path, size: int, samples: int, rounds: int, mtime: int | None) -> Iterator[dict[str, Any]]:
    """Yield a row for each share kept: µs per stored sample, for each way to read."""
    urls = write_shards(folder, size, samples, mtime=mtime)
    index = ShardIndex.build(urls, folder / f"index-{size}")
    for share in KEEP:
        # Made once, outside the timing: planning happens once per epoch, and the sampler's benchmark measures it.
        stream = planned(index, share)
        rows = np.array([s["__index__"] for s in stream])
        keep = {index.keys_of(int(row), int(row) + 1)[0] for row in rows}
        seconds = take_turns(_ways(urls, index, stream, keep), rounds)
        yield {"size": size, "keep": share} | {name: s / len(index) * 1e6 for name, s in seconds.items()}
    for url in urls:
        Path(url).unlink()


def _ways(urls: list[str], index: ShardIndex, stream: PlannedShards, keep: set[str]) -> dict[str, Way]:
    plan = stream.plans.owner.plan
    return {
        "ours": lambda: drain(ShardReader(index, plan)),
        "ours, whole epoch": lambda: drain(stream),
        "webdataset": lambda: drain(plain(urls)),
        ".select": lambda: drain(plain(urls).select(lambda sample: sample["__key__"] in keep)),
        "select_files": lambda: drain(plain(urls, select_files=lambda name: name.rpartition(".")[0] in keep)),
        "tarfile": partial(by_tarfile, urls, keep),
    }


def header_pass(folder: Path, samples: int, rounds: int, mtime: int | None) -> dict[str, Any]:
    """A row: µs per sample to find all members of a shard of 10 KB samples."""
    (url,) = write_shards(folder, 10_000, samples, count=1, mtime=mtime)

    def by_tarfile() -> int:
        with tarfile.open(url, "r:") as archive:
            return drain(archive)

    ways: dict[str, Way] = {"ours": lambda: len(scan(url, Access()).offsets), "tarfile": by_tarfile}
    found = {name: s / samples * 1e6 for name, s in take_turns(ways, rounds).items()}
    return {"headers": "PAX" if mtime is None else "ustar", **found, "ratio": found["tarfile"] / found["ours"]}


def over_http(folder: Path, samples: int, mtime: int | None) -> Iterator[dict[str, Any]]:
    """Yield a row per `merge_gap`: bytes that a server with ranges sends per kept byte, if a tenth is kept.

    The column `beside the gaps` leaves out the bytes between the parts of a sample and between merged samples.
    """
    write_shards(folder, 10_000, samples, mtime=mtime)
    with serving(folder) as server:
        urls = [server.url(f"10000-{shard}.tar") for shard in range(2)]
        index = ShardIndex.build(urls, folder / f"index-http-{mtime}")
        for gap in (0, None):
            stream = planned(index, 0.1)
            server.reset()
            reader = ShardReader(index, stream.plans.owner.plan, merge_gap=gap)
            start = time.perf_counter()
            drain(reader)
            kept = reader.counts.bytes_kept
            yield {
                "headers": "PAX" if mtime is None else "ustar",
                "merge_gap": "default" if gap is None else gap,
                "served per kept byte": server.bytes_served / kept,
                "beside the gaps": (server.bytes_served - gaps(index, stream, reader)) / kept,
                "requests": server.requests,
                "µs/kept sample": (time.perf_counter() - start) / reader.counts.samples * 1e6,
            }


def by_nginx(folder: Path, sizes: dict[int, int], rounds: int, copies: int) -> dict[str, list[dict[str, Any]]]:
    """Rows of epochs, of epochs with a latency added to each request, and of indexes, over a real web server on this machine.

    None where nginx is not installed. copies: see `over_nginx`.
    """
    rows: dict[str, list[dict[str, Any]]] = {"epoch": [], "latency": [], "index": []}
    for size, samples in sizes.items() if PROGRAM else ():
        (folder / f"nginx-{size}").mkdir()
        urls = write_shards(folder / f"nginx-{size}", size, samples, count=4, mtime=0)
        for kind, row in over_nginx(urls, rounds, copies, lambda index, keep: planned(index, keep).plans.owner.plan):
            rows[kind].append({"size": size, **row})
    return rows


def gaps(index: ShardIndex, stream: PlannedShards, reader: ShardReader) -> int:
    """Bytes read only to save requests: all but the samples' parts and the first header of each sample."""
    rows = stream.plans.owner.plan.rows
    shards = index.shard_of(rows)
    extents = [index.extents(shard, rows[shards == shard]) for shard in np.unique(shards)]
    wanted = sum(int((e.stop - e.offset).sum()) + 512 * len(e.keys) for e in extents)
    between_parts = wanted - 512 * len(rows) - reader.counts.bytes_kept
    return reader.counts.bytes_read - wanted + between_parts


def with_decode(folder: Path, samples: int, rounds: int) -> dict[str, Any]:
    """A row: seconds of an epoch through a DataLoader with 2 workers and JPEG decoding, if a tenth is kept."""
    from PIL import Image

    picture, random = io.BytesIO(), np.random.default_rng(0)
    pixels = random.integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).resize((512, 375), Image.Resampling.BICUBIC).save(picture, "jpeg", quality=95)
    urls = []
    for shard in range(2):
        urls.append(str(folder / f"jpeg-{shard}.tar"))
        with wds.TarWriter(urls[-1]) as writer:
            for i in range(samples):
                writer.write({"__key__": f"{shard}/{i:05d}", "jpg": picture.getvalue(), "cls": i % 10})
    index = ShardIndex.build(urls, folder / "index-jpeg")
    stages = [wds.decode("torchrgb"), wds.to_tuple("jpg", "cls")]
    stream = planned(index, 0.1)
    stream.stages = tuple(stages)
    plan = stream.plans.owner.plan
    keep = {index.keys_of(row, row + 1)[0] for row in plan.rows.tolist()}
    select = wds.DataPipeline(plain(urls).select(lambda s: s["__key__"] in keep), *stages)
    loaders = {"ours": stream.loader(batch_size=16, num_workers=2)} | {
        name: torch.utils.data.DataLoader(data, batch_size=16, num_workers=2)
        for name, data in {"webdataset": wds.DataPipeline(plain(urls), *stages), ".select": select}.items()
    }
    return {"samples": len(index)} | take_turns({n: partial(drain, loader) for n, loader in loaders.items()}, rounds)


def ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times as long as ours each other way takes, without planning, which is a fixed cost of an epoch."""
    others = [name for name in rows[0] if name not in ("size", "keep", "ours", "ours, whole epoch")]
    return [{"size": r["size"], "keep": r["keep"]} | {o: r[o] / r["ours"] for o in others} for r in rows]


def run(folder: Path, quick: bool, rounds: int) -> Iterator[tuple[str, list[Row]]]:
    """Run all measurements, and yield (case, rows) for each."""
    rounds, some = (1, 100) if quick else (rounds, 2000)
    sizes = {10_000: some} if quick else {10_000: 5000, 100_000: 1000, 1_000_000: 100}
    for headers, mtime in (("PAX, as ShardWriter writes", None), ("ustar", 0)):
        rows = [row for size, n in sizes.items() for row in reading(folder, size, n, rounds, mtime)]
        yield f"µs per stored sample, headers {headers}", rows
        yield f"times ours, headers {headers}", ratios(rows)
    yield "header pass, µs per sample", [header_pass(folder, some, rounds, mtime) for mtime in (None, 0)]
    yield "HTTP, keep 10 %", [row for mtime in (None, 0) for row in over_http(folder, max(some // 10, 50), mtime)]
    for kind, found in by_nginx(folder, sizes, rounds, 2 if quick else COPIES).items():
        yield f"nginx on loopback, {kind}: ratios of times", found
    decoded = with_decode(folder, some // 4, min(rounds, 3))
    yield "DataLoader, 2 workers, JPEG decode, keep 10 %, seconds", [decoded]


def main(arguments: argparse.Namespace) -> None:
    """Run everything, print each table when it is done, and save all."""
    warnings.filterwarnings("ignore", category=ResourceWarning)  # WebDataset leaves its shards open
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for case, found in run(Path(folder), arguments.quick, arguments.rounds):
            rows += [{"case": case} | row for row in found]
            print(case, *found, sep="\n", flush=True)
    save("streams", rows, arguments, ABOUT)


if __name__ == "__main__":
    parser = options(ABOUT)
    parser.add_argument("--folder", type=Path, help="where the shards are written; a temporary folder otherwise")
    main(parser.parse_args())
