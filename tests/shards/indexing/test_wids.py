"""The list that wids writes names the shards, whose headers are read; their numbers are held against it."""

import json
from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards import ShardChanged, ShardDamaged, ShardIndex, Wids
from benchmarks.helpers.server import serving
from tests.shards.others import listed
from tests.shards.tars import body, shards, write_tar

ANEW = r"Write that index anew, or index the shards themselves, ShardIndex\.build\(urls, path\)"
ITSELF = "index the shards themselves, ShardIndex.build(urls, path)"


def written(folder: Path, urls: list[str], **more: Any) -> Path:
    """A list by hand of shards of 3 samples."""
    said = {"wids_version": 1, "shardlist": [{"url": url, "nsamples": 3} for url in urls], **more}
    (folder / "list.json").write_text(json.dumps(said))
    return folder / "list.json"


def refused(file: Path, out: Path, base: str | None = None) -> str:
    with pytest.raises(InvalidValue) as error:
        ShardIndex.build(Wids(file, base), out)
    return str(error.value)


def test_the_shards_that_wids_lists_are_indexed_by_their_headers(tmp_path: Path) -> None:
    index = ShardIndex.build(Wids(listed(tmp_path)), tmp_path / "index")
    urls = [f"{tmp_path}/plain-00{i}.tar" for i in range(2)]
    assert index.urls == tuple(urls)
    assert index.digest == ShardIndex.build(urls, tmp_path / "other").digest
    assert len(index) == 7


def test_a_list_beside_which_one_stands_names_shards_as_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert ShardIndex.build(Wids("shardindex.json"), "index").urls == ("plain-000.tar", "plain-001.tar")


def test_a_list_on_a_server_names_shards_beside_it(tmp_path: Path) -> None:
    listed(tmp_path)
    with serving(tmp_path) as server:
        index = ShardIndex.build(Wids(server.url("shardindex.json")), tmp_path / "index")
        assert index.urls == (server.url("plain-000.tar"), server.url("plain-001.tar"))
    assert len(index) == 7


def test_a_base_says_where_the_shards_lie_and_full_names_below_it_are_taken(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    urls = shards(tmp_path / "data", [3, 3])
    file = written(tmp_path, [urls[0], "shard-001.tar"])
    assert "list.json lists" in refused(file, tmp_path / "index", str(tmp_path / "elsewhere"))
    assert ShardIndex.build(Wids(file, tmp_path / "data"), tmp_path / "index").urls == tuple(urls)


def test_samples_that_wids_miscounted_are_told_and_the_remedy_helps(tmp_path: Path) -> None:
    listed(tmp_path)  # wids 0.1.11 reads no long names, and counts none of the three
    with pytest.raises(ShardChanged, match=rf"named-000\.tar: is not the shard .* 3 samples, of 0\. {ANEW}"):
        ShardIndex.build(Wids(tmp_path / "miscounted.json"), tmp_path / "index")
    assert len(ShardIndex.build(tmp_path / "named-000.tar", tmp_path / "index")) == 3


def test_a_shard_of_another_size_is_told_before_its_headers_are_read(tmp_path: Path) -> None:
    file = listed(tmp_path)
    write_tar(tmp_path / "plain-001.tar", [(f"{i}.bin", body("", 9000)) for i in range(2)])
    with pytest.raises(ShardChanged, match=rf"plain-001\.tar: is not .*: \d+ bytes, of 10240\. {ANEW}"):
        ShardIndex.build(Wids(file), tmp_path / "index")


def test_a_shard_that_wids_does_not_list_as_it_is_can_be_left_out(tmp_path: Path) -> None:
    file = listed(tmp_path)
    write_tar(tmp_path / "plain-001.tar", [("a.bin", body("", 700))])
    index = ShardIndex.build(Wids(file), tmp_path / "index", handler=lambda error: True)
    assert index.urls == (f"{tmp_path}/plain-000.tar",)
    assert "1 samples, of 2" in index.damage[0]["message"]


def test_a_damaged_shard_is_told_as_such(tmp_path: Path) -> None:
    file = listed(tmp_path)
    raw = (tmp_path / "plain-001.tar").read_bytes()
    (tmp_path / "plain-001.tar").write_bytes(b"x" * 512 + raw[512:])
    with pytest.raises(ShardDamaged, match="a header whose checksum or size is wrong"):
        ShardIndex.build(Wids(file), tmp_path / "index")


@pytest.mark.parametrize(
    "name",
    [
        *("../shard-000.tar", "a/../shard-000.tar", "/shard-000.tar", "file:///shard-000.tar", "./shard-000.tar"),
        *("https://host/shard-000.tar", "%2E%2e/shard-000.tar", "a%2F..%2F..%2Fshard-000.tar", "a\0b", ""),
    ],
)
def test_a_shard_elsewhere_is_never_read(tmp_path: Path, name: str) -> None:
    said = refused(written(tmp_path, [name]), tmp_path / "index")
    assert f"list.json lists {name!r}, which names no shard below" in said
    assert ITSELF in said


@pytest.mark.parametrize("name", ["file:shard-000.tar", "file:/shard-000.tar", "pipe:cat shard-000.tar"])
def test_a_list_beside_which_one_stands_names_no_urls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    written(tmp_path, [name])
    monkeypatch.chdir(tmp_path)
    assert "which names no shard below its folder" in refused(Path("list.json"), tmp_path / "index")


def test_a_shard_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    (url,) = shards(tmp_path, [3])
    assert f"lists {url} twice" in refused(written(tmp_path, [url, "shard-000.tar"]), tmp_path / "index")


@pytest.mark.parametrize(
    "said",
    [
        *(None, 1, [], {}, "text", {"wids_version": 1}, {"wids_version": 1, "shardlist": []}),
        {"wids_version": 2, "shardlist": [{"url": "a.tar", "nsamples": 1}]},
        *({"wids_version": 1, "shardlist": [shard]} for shard in ("a.tar", {"url": "a.tar"}, {"nsamples": 1})),
        *({"wids_version": 1, "shardlist": [{"url": "a.tar", "nsamples": n}]} for n in (-1, 1.5, "1", True, None)),
        {"wids_version": 1, "shardlist": [{"url": "a.tar", "nsamples": 1, "filesize": "1"}]},
    ],
)
def test_what_is_no_list_of_wids_is_refused(tmp_path: Path, said: Any) -> None:
    (tmp_path / "list.json").write_text(json.dumps(said))
    words = refused(tmp_path / "list.json", tmp_path / "index")
    assert "is no list of shards by wids (version 1)" in words
    assert ITSELF in words


def test_a_list_that_refers_to_others_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, ["a.tar"], datasets=[{"source_url": "https://host/other.json"}])
    assert "refers to further lists (its `datasets`)" in refused(file, tmp_path / "index")


@pytest.mark.parametrize("kept", [0, 1, 100, 300])
def test_a_list_that_is_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    file = listed(tmp_path)
    file.write_bytes(file.read_bytes()[:kept])
    assert "is no JSON that can be read" in refused(file, tmp_path / "index")


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "none.json: cannot be read (FileNotFoundError: [Errno 2] No such file or directory" in refused(
        tmp_path / "none.json", tmp_path / "index"
    )
