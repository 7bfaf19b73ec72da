"""One flaw of a shard costs the samples that have it, and no others; a handler that stops keeps what comes before it."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from adaptive_sampler.shards import DuplicateKey, ShardDamaged, ShardIndex, ShardReader, ShardUnsupported
from tests.shards.tars import END, file, header, octal, pax, plan_of, sparse, write_tar

GNU_TAR = shutil.which("tar")
gnu_tar = pytest.mark.skipif(GNU_TAR is None, reason="needs GNU tar")


def go_on(error: Exception) -> bool:
    return True


def stop(error: Exception) -> bool:
    return False


def built(path: Path, handler: Any = go_on) -> ShardIndex:
    return ShardIndex.build(str(path), path.with_suffix(f".{handler.__name__}.index"), handler=handler)


def samples(index: ShardIndex) -> dict[str, dict[str, bytes]]:
    """The parts of each sample, by key."""
    read = ShardReader(index, plan_of(len(index), range(len(index))), window=0)
    return {s["__key__"]: {part: data for part, data in s.items() if not part.startswith("__")} for s in read}


def written(path: Path, *pieces: bytes, end: bytes = END) -> Path:
    path.write_bytes(b"".join(pieces) + end)
    return path


def link(name: str, target: str, kind: bytes = b"1") -> bytes:
    return header(name.encode(), octal(0), kind, fields={157: target.encode()})


def three() -> list[bytes]:
    return [file(f"{key}.{part}", f"{key}{part}".encode()) for key in "abc" for part in ("x", "y")]


WHOLE = {key: {part: f"{key}{part}".encode() for part in ("x", "y")} for key in "abc"}


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


# -- files that are no range of bytes -----------------------------------------------------------------------------------------


@pytest.fixture
def with_a_hole(tmp_path: Path) -> Path:
    folder = tmp_path / "d"
    folder.mkdir()
    for name in ("a.cls", "a.x", "b.cls", "b.x", "c.x"):
        (folder / name).write_bytes(name.encode())
    with (folder / "b.x").open("wb") as file:
        for place in range(1, 8):
            file.seek(place << 20)
            file.write(b"data")
        file.truncate(9 << 20)
    return folder


PACKED_WITH_HOLES = {
    "gnu": ["tar", "--format=gnu", "--sparse"],
    "posix 0.0": ["tar", "--format=posix", "--sparse", "--sparse-version=0.0"],
    "posix 0.1": ["tar", "--format=posix", "--sparse", "--sparse-version=0.1"],
    "posix 1.0": ["tar", "--format=posix", "--sparse", "--sparse-version=1.0"],
    "bsdtar": ["bsdtar"],
}


@pytest.mark.parametrize("how", PACKED_WITH_HOLES)
def test_a_sparse_file_costs_its_own_sample_alone(tmp_path: Path, with_a_hole: Path, how: str) -> None:
    program, *options = PACKED_WITH_HOLES[how]
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    path = tmp_path / "x.tar"
    files = sorted(f"d/{file.name}" for file in with_a_hole.iterdir())
    subprocess.run([program, *options, "-cf", path, "-C", tmp_path, *files], check=True)
    assert path.stat().st_size < 1 << 20, "the holes are not in the archive"
    with pytest.raises(
        ShardUnsupported, match=r"x\.tar: member 'd/b\.x' at byte \d+ is a sparse file.*--no-read-sparse"
    ):
        ShardIndex.build(str(path), tmp_path / "index")
    assert samples(built(path)) == {"d/a": {"cls": b"a.cls", "x": b"a.x"}, "d/c": {"x": b"c.x"}}


@pytest.mark.parametrize("command", [["tar"], ["bsdtar", "--no-read-sparse"]], ids=["GNU tar", "bsdtar"])
def test_packed_with_their_holes_sparse_files_are_read(tmp_path: Path, with_a_hole: Path, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    files = sorted(f"d/{file.name}" for file in with_a_hole.iterdir())
    subprocess.run([*command, "-cf", tmp_path / "x.tar", "-C", tmp_path, *files], check=True)
    index = ShardIndex.build(str(tmp_path / "x.tar"), tmp_path / "index")
    assert samples(index)["d/b"] == {"cls": b"b.cls", "x": (with_a_hole / "b.x").read_bytes()}


@pytest.mark.parametrize(("kind", "called"), [(b"1", "a hard link"), (b"2", "a symbolic link")])
def test_a_link_costs_its_own_sample_alone(tmp_path: Path, kind: bytes, called: str) -> None:
    path = written(
        tmp_path / "x.tar", *three()[:3], link("b.y", "a.y", kind), link("c.x", "a.x", kind), file("d.x", b"d")
    )
    with pytest.raises(
        ShardUnsupported, match=rf"'b\.y' at byte \d+ is {called} to 'a\.y'.*; 2 samples have such members"
    ):
        ShardIndex.build(str(path), tmp_path / "index")
    index = built(path)
    assert samples(index) == {"a": WHOLE["a"], "d": {"x": b"d"}}
    assert len(index.damage) == 1, "one error a shard, as handlers may warn, and wait, at each"


@gnu_tar
def test_links_are_packed_as_files_by_the_options_named(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a.x").write_bytes(b"1")
    os.link(folder / "a.x", folder / "b.x")
    (folder / "c.x").symlink_to("a.x")
    common = ["-cf", tmp_path / "x.tar", "-C", tmp_path, "d/a.x", "d/b.x", "d/c.x"]
    subprocess.run([str(GNU_TAR), *common], check=True)
    with pytest.raises(ShardUnsupported, match="--dereference --hard-dereference"):
        ShardIndex.build(str(tmp_path / "x.tar"), tmp_path / "index")
    subprocess.run([str(GNU_TAR), "--dereference", "--hard-dereference", *common], check=True)
    index = ShardIndex.build(str(tmp_path / "x.tar"), tmp_path / "index")
    assert samples(index) == {f"d/{key}": {"x": b"1"} for key in "abc"}


def test_links_that_would_be_no_part_are_passed_over_as_files_are(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x.tar", link("latest", "a"), link("__m__/a.x", "a.x"), file("a.x", b"1"), file("README", b"")
    )
    assert ShardIndex.build(str(path), tmp_path / "index").keys == ["a"]


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
