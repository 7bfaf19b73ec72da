"""Over HTTP only the kept bytes come, from real servers: with ranges, without, failing at first, and changing."""

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.remote.connect import connect
from adaptive_sampler.shards import (
    Access,
    RangesUnsupported,
    Retry,
    ShardChanged,
    ShardIndex,
    ShardMissing,
    ShardReader,
    WrongRange,
)
from benchmarks.helpers.server import Server, serving
from tests.shards.tars import body, plan_of, shards, write_tar

QUICK = Access(retry=Retry(4, 0.01))
SIZE = 40_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    shards(tmp_path, [20, 20, 20], size=SIZE)
    with serving(tmp_path) as running:
        yield running


def urls(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/shard-{{000..002}}.tar"


def built(server: Server, access: Access = QUICK) -> ShardIndex:
    return ShardIndex.build(urls(server), server.folder / "index", access=access)


def read(index: ShardIndex, rows: range, **options: Any) -> ShardReader:
    reader = ShardReader(index, plan_of(60, rows), access=options.pop("access", QUICK), **options)
    samples = list(reader)
    assert sorted(s["__index__"] for s in samples) == list(rows)
    assert all(s["bin"] == body(s["__key__"], SIZE) for s in samples)
    return reader


def test_the_header_pass_leaves_the_bodies_where_they_are(server: Server) -> None:
    index = built(server, Access(header_bytes=2048))
    assert len(index) == 60
    assert server.bytes_served < 60 * 2 * 2048 + 100_000 < 60 * SIZE / 5


def test_longer_requests_find_the_same_headers_with_fewer_of_them(server: Server) -> None:
    keys, few = built(server, Access(header_bytes=2048)).keys, server.requests
    server.reset()
    access = Access(retry=QUICK.retry, header_bytes=4 * SIZE)
    again = ShardIndex.build(urls(server), server.folder / "again", access=access)
    assert again.keys == keys
    assert server.requests < few / 3
    assert len(read(again, range(0, 60, 4)).index) == 60


def test_header_requests_shorter_than_a_header_are_refused() -> None:
    assert Access(header_bytes=512).header_bytes == 512
    with pytest.raises(InvalidValue, match=r"header_bytes=511: a tar header has 512; ask for that or more\."):
        Access(header_bytes=511)


@pytest.mark.parametrize("wrong", [{"io_threads": 0}, {"max_in_flight": 0}])
def test_at_least_one_request_and_one_byte_are_under_way(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidValue, match=r"Access\(io_threads=\d+, max_in_flight=\d+\): at least one request"):
        Access(**wrong)  # type: ignore[arg-type]


def test_what_may_be_secret_is_not_shown() -> None:
    access = Access(options={"secret_access_key": "hidden"})
    assert "hidden" not in repr(access)
    assert hash(access) == hash(Access())


def test_gaps_that_are_read_unless_they_are_given_are_no_more_than_half_as_much_again(server: Server) -> None:
    index = built(server)
    server.reset()
    reader = read(index, range(0, 60, 2))
    assert server.bytes_served <= 2.5 * 1.1 * reader.counts.bytes_kept


def test_kept_bytes_are_served_and_hardly_more(server: Server) -> None:
    index = built(server)
    server.reset()
    reader = read(index, range(0, 60, 4), merge_gap=0)
    assert server.bytes_served <= 1.1 * reader.counts.bytes_kept


def test_headers_between_the_parts_of_a_sample_are_the_gaps_that_are_merged(tmp_path: Path) -> None:
    members = [(f"{i:02d}.{part}", body(f"{i}{part}", 10_000)) for i in range(20) for part in ("a", "b")]
    write_tar(tmp_path / "pax.tar", members, tarfile.PAX_FORMAT, {"mtime": "1.5"})
    with serving(tmp_path) as server:
        index = ShardIndex.build(server.url("pax.tar"), tmp_path / "index", access=QUICK)
        server.reset()
        reader = ShardReader(index, plan_of(20, range(0, 20, 5)), access=QUICK, merge_gap=0)
        assert len(list(reader)) == 4
        between = 240 + 3 * 512  # the block that the first part does not fill, and the second one's three headers
        assert server.bytes_served <= 1.1 * reader.counts.bytes_kept + 4 * between


def test_merged_gaps_are_what_is_served_beside(server: Server) -> None:
    index = built(server)
    server.reset()
    reader = read(index, range(0, 60, 4), merge_gap=4 * SIZE)
    assert reader.counts.ranges == 3
    gaps = 3 * 4 * 3 * (SIZE + 3 * 512)
    assert server.bytes_served <= 1.1 * reader.counts.bytes_kept + gaps


def test_shards_without_kept_rows_are_not_asked_for(server: Server) -> None:
    index = built(server)
    server.reset()
    read(index, range(20, 23))
    assert server.requests == 1, "for the three samples: the answer opens the shard"


def test_a_shard_whose_server_is_known_is_opened_by_its_first_range(server: Server) -> None:
    index = built(server)
    server.reset()
    reader = read(index, range(0, 60, 4), merge_gap=0)
    assert server.requests == reader.counts.ranges == 15
    assert reader.counts.shards == 3


def test_a_shard_that_is_gone_is_lost_once_though_several_ranges_were_asked_for(server: Server) -> None:
    index, told = built(server), list[Exception]()
    (server.folder / "shard-001.tar").unlink()
    reader = ShardReader(index, plan_of(60, range(60)), merge_gap=0, access=QUICK, handler=lambda e: not told.append(e))
    assert sorted(s["__index__"] for s in reader) == [*range(20), *range(40, 60)]
    assert [type(error) for error in told] == [ShardMissing]
    assert (reader.counts.shards, reader.counts.shards_lost, reader.counts.samples_lost) == (2, 1, 20)


def test_a_shard_that_does_not_open_is_not_asked_for_again_for_each_of_its_ranges(server: Server) -> None:
    index = built(server)
    (server.folder / "shard-000.tar").unlink()
    server.reset()
    with pytest.raises(ShardMissing, match=r"shard-000\.tar"):
        read(index, range(0, 20, 2), merge_gap=0, access=Access(retry=QUICK.retry, io_threads=1))
    assert server.requests <= 3


def test_a_shard_that_became_a_pointer_of_git_lfs_is_told_as_such(server: Server) -> None:
    index = built(server)
    (server.folder / "shard-001.tar").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ShardMissing, match=r"shard-001\.tar: is a Git LFS pointer"):
        read(index, range(20, 40))


def test_a_server_that_serves_ranges_no_more_is_read_as_a_stream(server: Server) -> None:
    index = built(server)
    server.ranges = False
    assert read(index, range(0, 60, 5)).counts.shards_lost == 0


def test_connections_are_used_again(server: Server) -> None:
    index = built(server)
    server.reset()
    read(index, range(0, 60, 2), merge_gap=0, access=Access(retry=QUICK.retry, io_threads=4))
    assert server.requests >= 30
    assert server.connections <= 8, "four, and those that were begun for a request that another one then served"


def test_a_server_that_fails_at_first_is_asked_again(server: Server) -> None:
    server.failures = 3
    index = built(server)
    server.failures, server.drops = 1, 2
    read(index, range(0, 60, 7), merge_gap=0)
    assert server.failures == server.drops == 0


def test_a_server_that_keeps_failing_is_an_error_naming_the_shard(server: Server) -> None:
    index = built(server)
    server.failures = 10**6
    with pytest.raises(ShardMissing, match=r"shard-00\d\.tar: cannot be opened: .*503"):
        list(ShardReader(index, plan_of(60, range(60)), access=QUICK))


def test_a_shard_that_is_not_there_is_named(server: Server) -> None:
    index = built(server)
    (server.folder / "shard-001.tar").unlink()
    with pytest.raises(ShardMissing, match=r"shard-001\.tar"):
        list(ShardReader(index, plan_of(60, range(60)), access=QUICK))


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(("shift", "shorten"), [(512, 0), (0, 3), (-512, 0)])
def test_another_range_than_asked_for_is_refused_and_both_are_named(
    server: Server, verify: bool, shift: int, shorten: int
) -> None:
    index = built(server)
    server.shift, server.shorten = shift, shorten
    reader = ShardReader(index, plan_of(60, [5]), verify=verify, access=Access(retry=Retry(2, 0)))
    words = r"shard-000\.tar: asked for bytes \d+-\d+, answered by 'bytes \d+-\d+/\d+'"
    with pytest.raises(WrongRange, match=words):
        list(reader)


def test_the_remedy_for_a_cache_that_ignores_ranges_is_named(server: Server) -> None:
    index = built(server)
    server.shift = 512
    with pytest.raises(WrongRange, match=r"make the range part of its key"):
        list(ShardReader(index, plan_of(60, [5]), access=Access(retry=Retry(1, 0))))


@pytest.mark.parametrize("etags", [True, False])
def test_a_shard_changed_since_indexing_is_named(server: Server, etags: bool) -> None:
    server.etags = etags
    index = built(server)
    path = server.folder / "shard-001.tar"
    path.write_bytes(path.read_bytes()[:-512] + (bytes(512) if not etags else b"\1" * 512) + bytes(512 * (not etags)))
    with pytest.raises(ShardChanged, match=r"shard-001\.tar has changed"):
        list(ShardReader(index, plan_of(60, range(60)), access=QUICK))


def test_a_shard_that_changes_while_it_is_read_is_named(server: Server) -> None:
    index = built(server)
    one_by_one = Access(retry=QUICK.retry, io_threads=1)  # else a slow machine has all samples under way by then
    walk = iter(ShardReader(index, plan_of(60, range(20)), window=0, access=one_by_one, merge_gap=0))
    next(walk)
    path = server.folder / "shard-000.tar"
    changed = path.with_suffix(".new")
    changed.write_bytes(b"\1" + path.read_bytes()[1:])
    changed.replace(path)
    with pytest.raises(ShardChanged, match=r"was \d+ bytes, .* when opened and is"):
        list(walk)


def test_only_changed_shards_are_indexed_again(server: Server) -> None:
    built(server)
    server.reset()
    built(server)
    assert server.requests == 3


def test_without_ranges_the_shard_is_streamed_and_the_rest_discarded(server: Server) -> None:
    server.ranges = False
    index = built(server)
    server.reset()
    read(index, range(20, 60, 5))
    assert server.bytes_served >= 2 * 18 * SIZE, "two shards, nearly whole"


def test_a_stream_that_breaks_off_is_taken_up_again(server: Server) -> None:
    server.ranges = False
    index = built(server)
    server.failures = 1
    walk = iter(ShardReader(index, plan_of(60, range(20)), window=0, access=QUICK))
    first = next(walk)
    server.drops = 1
    assert [first["__index__"], *(s["__index__"] for s in walk)] == list(range(20))


def test_strict_ranges_refuse_a_server_without_them(server: Server) -> None:
    server.ranges = False
    with pytest.raises(RangesUnsupported, match=r"shard-000\.tar: the server answers a byte range with the whole file"):
        built(server, Access(strict_ranges=True, retry=QUICK.retry))


def test_other_stores_are_read_by_the_same_client(server: Server) -> None:
    store, path = connect("memory://here/x.tar", {})
    store.put(path, (server.folder / "shard-000.tar").read_bytes())
    index = ShardIndex.build("memory://here/x.tar", server.folder / "index")
    samples = list(ShardReader(index, plan_of(20, range(0, 20, 3))))
    assert all(s["bin"] == body(s["__key__"], SIZE) for s in samples)
    with pytest.raises(ShardMissing, match=r"memory://here/none\.tar"):
        ShardIndex.build("memory://here/none.tar", server.folder / "other")


def test_retries_have_rules() -> None:
    with pytest.raises(InvalidValue, match="at least 1 attempt"):
        Retry(0)
    with pytest.raises(InvalidValue, match=r"patience=-1, longest=600\.0\): a wait is 0 s or more"):
        Retry(patience=-1)


def test_local_shards_import_no_obstore(tmp_path: Path) -> None:
    shards(tmp_path, [2])
    code = (
        "import sys; sys.modules['obstore'] = None\n"
        "from adaptive_sampler.shards import ShardIndex\n"
        f"assert len(ShardIndex.build({str(tmp_path / 'shard-000.tar')!r}, {str(tmp_path / 'index')!r})) == 2\n"
        f"try: ShardIndex.build('http://127.0.0.1:1/x.tar', {str(tmp_path / 'other')!r})\n"
        "except ImportError as error: print(error)\n"
        "assert 'torch' not in sys.modules and 'webdataset' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "adaptive-sampler[cloud]"' in done.stdout
