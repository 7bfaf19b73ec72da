"""Headers of a remote shard are read in large pieces where they lie close together, and one by one where they do not."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.shards import Access, ShardIndex
from adaptive_sampler.shards.sources import ahead
from adaptive_sampler.shards.sources.ahead import Ahead
from benchmarks.helpers.server import serving
from tests.shards.tars import body, write_tar


class Counted:
    """A source of `data` that counts what it is asked for."""

    parallel = 8

    def __init__(self, data: bytes, lone_gap: int) -> None:
        self.data, self.lone_gap, self.size, self.asked = data, lone_gap, len(data), list[tuple[int, int]]()

    def read(self, start: int, length: int) -> bytes:
        self.asked.append((start, length))
        return self.data[start : start + length]


def source(size: int, gap: int) -> Any:
    return Counted(bytes(i * i % 251 for i in range(size)), gap)


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), max_size=60),
    st.integers(0, 300),
    st.integers(1, 900),
    st.integers(0, 5000),
)
def test_whatever_is_read_ahead_the_bytes_are_the_shards(
    steps: list[tuple[int, int]], gap: int, piece: int, size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead, "PIECE", piece)
        under, start = source(size, gap), 0
        view = Ahead(under)
        for skip, length in steps:
            start += skip
            assert view.read(start, length) == under.data[start : start + length]
            memory, base = view.memory(start)
            assert not memory or under.data[base : base + len(memory)] == memory


def test_what_was_read_to_the_end_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PIECE", 10_000)
    under = source(5_000, 500)
    view = Ahead(under)
    for start in range(0, 5_000, 200):
        view.read(start, 100)
    assert view.read(4_900, 2_000) == under.data[4_900:]
    assert sum(start + length >= 5_000 for start, length in under.asked) == 1


def test_headers_that_lie_close_are_read_with_what_is_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PIECE", 10_000)
    under = source(100_000, 500)
    view = Ahead(under)
    for start in range(0, 100_000, 400):
        view.read(start, 20)
    assert [length for _, length in under.asked] == [20] * 4 + [10_000] * 10
    assert all(
        end <= start < end + 400 for (at, length), (start, _) in pairwise(under.asked[4:]) for end in [at + length]
    )


def test_headers_that_lie_far_apart_are_read_alone() -> None:
    under = source(100_000, 300)
    view = Ahead(under)
    for start in range(0, 100_000, 400):
        view.read(start, 20)
    assert under.asked == [(start, 20) for start in range(0, 100_000, 400)]


def test_where_samples_grow_or_shrink_the_way_changes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "PIECE", 1000)
    under = source(60_000, 300)
    view = Ahead(under)
    places = [*range(0, 10_000, 100), *range(10_000, 50_000, 2000), *range(50_000, 60_000, 100)]
    for start in places:
        view.read(start, 20)
    large = [start for start, length in under.asked if length == 1000]
    assert sum(start < 10_000 for start in large) >= 8
    assert sum(11_000 < start < 50_000 for start in large) == 0
    assert sum(start >= 50_000 for start in large) >= 8


@pytest.mark.parametrize("header_bytes", [None, 2048])
def test_an_index_made_over_http_is_the_one_of_the_files(tmp_path: Path, header_bytes: int | None) -> None:
    sizes = [10, 600, 5000, 40_000, 0, 511, 512, 513] * 40
    members = [(f"{i:04d}.bin", body(f"{i}", max(size, 20))[:size]) for i, size in enumerate(sizes)]
    write_tar(tmp_path / "a.tar", members)
    local = ShardIndex.build(tmp_path / "a.tar", tmp_path / "local")
    with serving(tmp_path) as server:
        access = Access(header_bytes=header_bytes)
        there = ShardIndex.build(server.url("a.tar"), tmp_path / "there", access=access)
    assert there.keys == local.keys
    assert there.starts.tolist() == local.starts.tolist()
    rows = np.arange(len(local))
    one, other = (index.extents(0, rows) for index in (there, local))
    assert one.start == other.start
    assert one.size == other.size
