"""Shards behind a real nginx: what it can be told to do to a tar, and what a reader says then."""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler.shards import (
    Access,
    Energon,
    RangesUnsupported,
    Retry,
    ShardChanged,
    ShardDamaged,
    ShardError,
    ShardIndex,
    ShardMissing,
    ShardReader,
    ShardUnreadable,
    ShardUnsupported,
    WrongRange,
)
from benchmarks.helpers.nginx import PROGRAM, WITHOUT, nginx
from benchmarks.helpers.server import serving
from tests.shards.others import prepared
from tests.shards.servers.conftest import COUNT, FAILURES, SIZE, Site
from tests.shards.tars import body, plan_of, shards

ONCE = Access(retry=Retry(attempts=1))
TWICE = Access(retry=Retry(attempts=2, delay=0))
N = 3 * COUNT

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=WITHOUT)


def read(index: ShardIndex, rows: Iterable[int] = range(0, N, 4), **options: Any) -> list[int]:
    """The rows that a reader delivers of `rows`, each with the bytes that were packed."""
    reader = ShardReader(index, plan_of(len(index), rows), window=0, **{"access": ONCE, **options})
    samples = list(reader)
    assert all(s["bin"] == body(s["__key__"], SIZE) for s in samples)
    return [s["__index__"] for s in samples]


def reads_all(urls: str | list[str], folder: Path, access: Access = ONCE) -> bool:
    """Whether the shards at `urls` are indexed, and every fourth sample is delivered."""
    index = ShardIndex.build(urls, folder / "index", access=access)
    return read(index, range(0, N, 4), access=access) == list(range(0, N, 4))


@pytest.fixture
def switched(site: Site) -> Iterator[Callable[[int], None]]:
    """Makes the second shard fail with a status, until the test is over."""
    yield lambda status: (site.switches / str(status)).touch()
    for file in site.switches.iterdir():
        file.unlink()


class Noted:
    """A handler that goes on, and notes the errors."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def __call__(self, error: Exception) -> bool:
        self.errors.append(error)
        return True


# -- an origin as it comes ----------------------------------------------------------------------------------------------


def test_kept_samples_are_read(site: Site, tmp_path: Path) -> None:
    assert reads_all(site.urls("plain"), tmp_path)


def test_only_the_ranges_of_kept_samples_are_read(site: Site, tmp_path: Path) -> None:
    index = ShardIndex.build(site.urls("plain"), tmp_path / "index", access=ONCE)
    reader = ShardReader(index, plan_of(N, [2, 9]), access=ONCE)
    assert len(list(reader)) == 2
    assert reader.counts.bytes_read < 2 * (SIZE + 3 * 512)


def test_compression_that_is_switched_on_for_tars_is_not_asked_for(site: Site, tmp_path: Path) -> None:
    assert reads_all(site.urls("gzip"), tmp_path)


def test_where_ranges_are_off_the_shard_is_streamed(site: Site, tmp_path: Path) -> None:
    assert reads_all(site.urls("no-ranges"), tmp_path)


def test_where_ranges_are_off_strict_ranges_refuse(site: Site, tmp_path: Path) -> None:
    with pytest.raises(RangesUnsupported, match=r"shard-000\.tar: the server answers a byte range with the whole file"):
        reads_all(site.urls("no-ranges"), tmp_path, Access(strict_ranges=True))


@pytest.mark.parametrize("path", ["/signed/shard%2D00{}.tar?sig=a%2Fb%3Ac%7Ed%27e", "/moved/shard-00{}.tar"])
def test_a_url_is_sent_as_it_is_given_because_its_bytes_may_be_signed(site: Site, tmp_path: Path, path: str) -> None:
    assert reads_all([site.address + path.format(shard) for shard in range(3)], tmp_path)


# -- what is no shard ---------------------------------------------------------------------------------------------------


def test_a_shard_that_is_sent_compressed_is_told(site: Site, tmp_path: Path) -> None:
    words = r"shard-000\.tar: is sent compressed \(Content-Encoding: gzip\).*Serve the tar itself without that header"
    with pytest.raises(ShardUnsupported, match=words):
        reads_all(site.urls("encoded"), tmp_path)


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("list", r"/list/: is a web page \(a folder's list of files.*Give the URLs of the shards themselves"),
        ("no-list", r"/no-list/: cannot be opened: .*403.*a folder is no shard"),
    ],
)
def test_a_folder_is_told(site: Site, tmp_path: Path, folder: str, words: str) -> None:
    with pytest.raises(ShardMissing, match=words):
        ShardIndex.build(f"{site.address}/{folder}/", tmp_path / "index", access=ONCE)


def test_an_empty_file_is_told_as_cut_off_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "empty.tar").touch()
    with nginx(f"root {tmp_path};") as address, pytest.raises(ShardDamaged, match=r"empty\.tar: cut off.*at byte 0"):
        ShardIndex.build(f"{address}/empty.tar", tmp_path / "index", access=ONCE)


# -- a server that fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", FAILURES)
def test_a_shard_refused_while_it_is_indexed_is_named_and_the_others_are_kept(
    site: Site, tmp_path: Path, switched: Callable[[int], None], status: int
) -> None:
    switched(status)
    noted = Noted()
    index = ShardIndex.build(site.urls(str(status)), tmp_path / "index", access=ONCE, handler=noted)
    assert list(index.urls) == [site.urls(str(status), shard) for shard in "02"]
    (error,) = noted.errors
    assert isinstance(error, ShardError)
    assert str(error).startswith(site.urls(str(status), "1"))


@pytest.mark.parametrize("status", FAILURES)
def test_samples_refused_while_they_are_read_are_told_and_the_others_come(
    site: Site, tmp_path: Path, switched: Callable[[int], None], status: int
) -> None:
    index = ShardIndex.build(site.urls(str(status)), tmp_path / "index", access=ONCE)
    switched(status)
    noted = Noted()
    delivered = read(index, range(N), handler=noted, merge_gap=0)
    late = [row for row in range(COUNT, 2 * COUNT) if row not in delivered]
    assert delivered == [row for row in range(N) if row not in late]
    assert 0 < len(late) == len(noted.errors) < COUNT
    assert all(isinstance(e, ShardError) and site.urls(str(status), "1") in str(e) for e in noted.errors)


@pytest.mark.parametrize(("status", "words"), [(403, "403"), (444, "error sending request")])
def test_the_bytes_that_a_server_does_not_give_are_named_with_the_cause(
    site: Site, tmp_path: Path, switched: Callable[[int], None], status: int, words: str
) -> None:
    index = ShardIndex.build(site.urls(str(status)), tmp_path / "index", access=ONCE)
    switched(status)
    with pytest.raises(ShardUnreadable, match=rf"shard-001\.tar: bytes \d+-\d+ cannot be read: .*{words}"):
        read(index, range(N), merge_gap=0)


def test_a_server_that_falls_silent_is_told(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ShardMissing, match=r"shard-000\.tar: cannot be opened: .*[Tt]imeout"):
        reads_all(site.urls("silent", "0"), tmp_path, Access(retry=Retry(1, silence=0.2)))


def test_a_server_that_stays_silent_costs_no_more_than_patience_and_one_silence(site: Site) -> None:
    retry, start = Retry(attempts=10**6, delay=0, silence=0.1, patience=0.25), time.monotonic()
    with pytest.raises(ShardMissing, match=r"shard-000\.tar: cannot be opened: .*timeout"):
        Access(retry=retry).open(site.urls("silent", "0"))
    assert time.monotonic() - start < 30  # a million tries would take a day


def test_a_server_that_asks_for_patience_gets_it(site: Site, tmp_path: Path) -> None:
    """One request a second, and Retry-After: 1. Our own pauses are 0 s here."""
    access = Access(retry=Retry(attempts=2, delay=0), header_bytes=1 << 16)
    assert len(ShardIndex.build(site.urls("busy", "0"), tmp_path / "index", access=access)) == COUNT


def test_a_server_that_asks_for_more_patience_than_there_is_is_told(site: Site, tmp_path: Path) -> None:
    access = Access(retry=Retry(attempts=2, delay=0, longest_wait=0.5), header_bytes=1 << 16)
    with pytest.raises(ShardError, match=r"shard-000\.tar: .*429"):
        ShardIndex.build(site.urls("busy", "0"), tmp_path / "index", access=access)


def test_answers_that_a_proxy_cuts_off_are_asked_for_again(tmp_path: Path) -> None:
    shards(tmp_path, [COUNT] * 3, SIZE)
    with serving(tmp_path) as origin, nginx(f"location / {{ proxy_pass {origin.url('')}; }}") as address:
        index = ShardIndex.build(f"{address}/shard-00{{0..2}}.tar", tmp_path / "index", access=TWICE)
        for shard in range(3):
            origin.drops = 1
            rows = range(shard * COUNT, shard * COUNT + 3)
            assert read(index, rows, access=TWICE) == list(rows)
            assert origin.drops == 0


def test_answers_that_a_proxy_always_cuts_off_are_told(tmp_path: Path) -> None:
    shards(tmp_path, [COUNT] * 3, SIZE)
    with serving(tmp_path) as origin, nginx(f"location / {{ proxy_pass {origin.url('')}; }}") as address:
        index = ShardIndex.build(f"{address}/shard-00{{0..2}}.tar", tmp_path / "index", access=TWICE)
        origin.drops = 10**6
        with pytest.raises(ShardError, match=r"shard-000\.tar: "):
            read(index, range(3), access=TWICE)


# -- proxies that cache -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", ["default", "sliced", "key-with-range"])
def test_a_cache_that_knows_of_ranges_is_read_through(site: Site, tmp_path: Path, cache: str) -> None:
    assert reads_all(site.urls(f"cache/{cache}"), tmp_path)
    assert reads_all(site.urls(f"cache/{cache}"), tmp_path / "again"), "now out of the cache"


def test_a_cache_whose_key_lacks_the_range_is_refused_with_both_ranges_and_the_remedy(
    site: Site, tmp_path: Path
) -> None:
    words = r"shard-000\.tar: asked for bytes \d+-\d+, answered by 'bytes 0-0/\d+'.*make the range part of its key"
    with pytest.raises(WrongRange, match=words):
        reads_all(site.urls("cache/key-without-range"), tmp_path)


# -- shards that change, and ETags --------------------------------------------------------------------------------------


def test_nodes_with_an_etag_each_are_told_with_the_switch_that_helps(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ShardChanged, match=r"shard-00\d\.tar.*pass Access\(etags=False\)"):
        reads_all(site.urls("nodes"), tmp_path)
    assert reads_all(site.urls("nodes"), tmp_path, Access(etags=False))


def test_an_index_made_with_etags_is_read_without_them(site: Site, tmp_path: Path) -> None:
    index = ShardIndex.build(site.urls("plain"), tmp_path / "index", access=ONCE)
    assert read(index, [3], access=Access(etags=False)) == [3]
    again = ShardIndex.build(site.urls("plain"), tmp_path / "other", access=Access(etags=False))
    assert read(again, [3], access=ONCE) == [3]


def test_a_weak_etag_beside_the_strong_one_of_the_same_text_is_no_change(site: Site, tmp_path: Path) -> None:
    assert reads_all(site.urls("weakened"), tmp_path)


def replace(path: Path) -> None:
    """Put another file of the same size in place of `path`, two seconds later by its clock."""
    later = path.stat().st_mtime_ns + 2 * 10**9
    shutil.copy(path, path.with_suffix(".new"))
    os.utime(path.with_suffix(".new"), ns=(later, later))
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("etags", [True, False])
def test_a_shard_that_is_replaced_by_one_of_the_same_size_is_told(tmp_path: Path, etags: bool) -> None:
    access = Access(etags=etags)
    (path,) = map(Path, shards(tmp_path, [COUNT], SIZE))
    with nginx(f"root {tmp_path};") as address:
        index = ShardIndex.build(f"{address}/{path.name}", tmp_path / "index", access=access)
        replace(path)
        with pytest.raises(ShardChanged, match=r"shard-000\.tar has changed"):
            read(index, [1], access=access)


@pytest.mark.parametrize("ranges", ["", "max_ranges 0;"], ids=["ranges", "stream"])
def test_a_shard_that_is_replaced_between_two_requests_is_told(tmp_path: Path, ranges: str) -> None:
    (path,) = map(Path, shards(tmp_path, [COUNT], SIZE))
    with nginx(f"root {tmp_path}; {ranges}") as address:
        source = ONCE.open(f"{address}/{path.name}")
        replace(path)
        with pytest.raises(ShardChanged, match=r"shard-000\.tar: was .* when opened and is"):
            source.read(0, 512)
        source.close()


# -- an index of Energon's ----------------------------------------------------------------------------------------------


def test_what_energon_wrote_is_read_from_a_web_server(tmp_path: Path) -> None:
    local = ShardIndex.build(Energon(prepared(tmp_path / "data")), tmp_path / "local")
    with nginx(f"location / {{ root {tmp_path}/data; }}") as address:
        index = ShardIndex.build(Energon(address), tmp_path / "index")
    assert index.digest == local.digest
    assert index.urls[-1] == f"{address}/val/more%20of%20it.tar"
