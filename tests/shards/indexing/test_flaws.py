"""One flaw of a shard costs the samples that have it, and no others; a handler that stops keeps what comes before it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from adaptive_sampler.shards import DuplicateKey, ShardDamaged, ShardIndex, ShardUnsupported
from tests.shards.indexing.flawed import GNU_TAR, WHOLE, built, gnu_tar, link, samples, three, written
from tests.shards.indexing.handlers import go_on, stop
from tests.shards.tars import END, file, header, octal, pax, sparse, write_tar

# -- behind the end -------------------------------------------------------------------------------------------------------


BEHIND = {"a newline": b"\n", "junk": b"junk" * 300, "an archive": file("d.x", b"1") + END}


@pytest.mark.parametrize("filled_up", [True, False], ids=["records", "two blocks"])
@pytest.mark.parametrize("behind", BEHIND)
def test_data_behind_the_end_cost_no_sample_and_are_told(tmp_path: Path, behind: str, filled_up: bool) -> None:
    end = END if not filled_up else END + bytes(-(len(b"".join(three())) + len(END)) % 10240)
    path = written(tmp_path / "x.tar", *three(), end=end + BEHIND[behind])
    with pytest.raises(ShardDamaged, match=r"x\.tar: more data behind the end of the archive, from byte \d+ on"):
        ShardIndex.build(str(path), tmp_path / "index")
    for handler in (go_on, stop):
        index = built(path, handler)
        assert samples(index) == WHOLE
        assert [d["error"] for d in index.damage] == ["ShardDamaged"]


@pytest.mark.parametrize("hole", [512, 1536, 4096])
def test_a_hole_may_have_swallowed_parts_of_the_sample_before_it(tmp_path: Path, hole: int) -> None:
    pieces = three()
    path = written(tmp_path / "x.tar", *pieces[:3], bytes(hole), *pieces[4:])
    with pytest.raises(ShardDamaged, match="a block of zeros with more data behind it"):
        ShardIndex.build(str(path), tmp_path / "index")
    assert samples(built(path)) == {"a": WHOLE["a"]}


# -- handlers ---------------------------------------------------------------------------------------------------------------


FLAWS = {
    "a cut": (lambda: [b"".join(three())[: 4 * 1024 + 100]], {"a": WHOLE["a"]}),
    "a bad header": (lambda: [*three()[:4], b"\xff" * 512, *three()[4:], END], {"a": WHOLE["a"]}),
    "a part twice": (lambda: [*three()[:4], file("b.x", b"again"), *three()[4:], END], WHOLE),
    "a link": (lambda: [*three()[:2], three()[2], link("b.y", "a.y"), *three()[4:], END], {k: WHOLE[k] for k in "ac"}),
    "a hole": (
        lambda: [*three()[:2], three()[2], sparse("old", "b.y", [(4096, b"y")], 9000), *three()[4:], END],
        {k: WHOLE[k] for k in "ac"},
    ),
    "a tail": (lambda: [*three(), END, b"tail"], WHOLE),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_handler_that_goes_on_loses_the_samples_that_have_the_flaw(tmp_path: Path, flaw: str) -> None:
    pieces, kept = FLAWS[flaw]
    first = written(tmp_path / "1.tar", *pieces(), end=b"")
    second = written(tmp_path / "2.tar", file("z.x", b"z"))
    index = ShardIndex.build([str(first), str(second)], tmp_path / "index", handler=go_on)
    assert samples(index) == {**kept, "z": {"x": b"z"}}
    assert len(index.damage) == 1


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_handler_that_stops_keeps_what_comes_before_the_flaw(tmp_path: Path, flaw: str) -> None:
    pieces, _ = FLAWS[flaw]
    before = written(tmp_path / "0.tar", file("0.x", b"0"))
    first = written(tmp_path / "1.tar", *pieces(), end=b"")
    second = written(tmp_path / "2.tar", file("z.x", b"z"))
    index = ShardIndex.build([str(before), str(first), str(second)], tmp_path / "index", handler=stop)
    assert samples(index) == {"0": {"x": b"0"}, **(WHOLE if flaw == "a tail" else {"a": WHOLE["a"]})}
    assert len(index.damage) == 1


def test_a_handler_that_stops_at_a_key_that_repeats_keeps_the_rows_before_it(tmp_path: Path) -> None:
    urls = [
        str(write_tar(tmp_path / f"{i}.tar", [(f"{key}.x", b"1") for key in keys]))
        for i, keys in enumerate(["ab", "cbd", "e"])
    ]
    index = ShardIndex.build(urls, tmp_path / "index", handler=stop)
    assert index.keys == ["a", "b", "c"]
    assert index.urls == tuple(urls[:2])
    assert [d["error"] for d in index.damage] == ["DuplicateKey"]


# -- parts that lie apart ---------------------------------------------------------------------------------------------------


def test_parts_that_lie_apart_are_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("d/a.jpg", b"1"), ("d/b.jpg", b"2"), ("d/a.cls", b"3"), ("d/b.cls", b"4")])
    with pytest.raises(
        DuplicateKey,
        match=r"x\.tar: parts of sample 'd/a' lie apart: jpg \(row 0\) and cls \(row 2\), .*Pack with tar --sort=name \(GNU tar\)",
    ):
        ShardIndex.build(str(path), tmp_path / "index")
    assert built(path).keys == ["d/a", "d/b", "d/a", "d/b"]


SORTED = {
    "tar": "tar --sort=name --dereference --hard-dereference -cf x.tar d",
    "bsdtar": "find d -type f | LC_ALL=C sort | COPYFILE_DISABLE=1 bsdtar --no-read-sparse -cf x.tar -T -",
}


@pytest.mark.parametrize("program", SORTED)
def test_sorting_brings_parts_together(tmp_path: Path, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    folder = tmp_path / "d"
    (folder / "a").mkdir(parents=True)
    for name in ("a.jpg", "a-1.jpg", "aa.jpg", "a/0.jpg", "A.jpg", "a.cls", "A.cls", "aa.cls", "a/0.cls", "a-1.cls"):
        (folder / name).write_bytes(name.encode())
    subprocess.run(SORTED[program], shell=True, cwd=tmp_path, check=True)
    index = ShardIndex.build(str(tmp_path / "x.tar"), tmp_path / "index")
    assert samples(index) == {
        f"d/{key}": {part: f"{key}.{part}".encode() for part in ("cls", "jpg")}
        for key in ("A", "a-1", "a/0", "a", "aa")
    }


@pytest.fixture
def from_a_mac(tmp_path: Path) -> list[str]:
    (tmp_path / "d").mkdir()
    names = [f"d/{mark}{key}.{part}" for key in "ab" for part in ("cls", "jpg") for mark in ("._", "")]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    return names


def test_files_that_macos_adds_are_named(tmp_path: Path, from_a_mac: list[str]) -> None:
    path = write_tar(tmp_path / "x.tar", [(name, b"1") for name in from_a_mac])
    with pytest.raises(
        DuplicateKey,
        match=r"files like 'd/\._a\.cls' lie among the samples.*COPYFILE_DISABLE=1 .*--exclude='\._\*'",
    ):
        ShardIndex.build(str(path), tmp_path / "index")


@gnu_tar
def test_files_that_macos_adds_can_be_left_out(tmp_path: Path, from_a_mac: list[str]) -> None:
    command = [str(GNU_TAR), "--exclude=._*", "-cf", tmp_path / "x.tar", "-C", tmp_path, *from_a_mac]
    subprocess.run(command, check=True)
    assert ShardIndex.build(str(tmp_path / "x.tar"), tmp_path / "index").keys == ["d/a", "d/b"]


# -- no samples --------------------------------------------------------------------------------------------------------------


NO_SAMPLES = {
    "files without a part": [file("README", b"1"), file("d/LICENSE", b"2")],
    "a folder": [header(b"d/", octal(0), b"5")],
    "links without a part": [link("latest", "a.x")],
    "a comment": [pax([("comment", "an empty tree")], b"g")],
}


@pytest.mark.parametrize("what", NO_SAMPLES)
def test_a_shard_of_no_samples_is_an_error(tmp_path: Path, what: str) -> None:
    path = written(tmp_path / "x.tar", *NO_SAMPLES[what])
    with pytest.raises(ShardUnsupported, match=r"x\.tar: holds no sample: none of its members .* key\.part"):
        ShardIndex.build(str(path), tmp_path / "index")
    assert len(built(path)) == 0


def test_a_shard_of_links_alone_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "x.tar", *(link(f"{i}.x", "elsewhere") for i in range(5)))
    with pytest.raises(
        ShardUnsupported, match=r"'0\.x' at byte 512 is a hard link to 'elsewhere'.*; 5 samples have such"
    ):
        ShardIndex.build(str(path), tmp_path / "index")
