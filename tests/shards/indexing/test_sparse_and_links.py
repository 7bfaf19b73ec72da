"""Files that are no range of bytes: a sparse file or a link costs its own sample, and its error names how to pack it as a file."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from adaptive_sampler.shards import ShardIndex, ShardUnsupported
from tests.shards.indexing.flawed import GNU_TAR, WHOLE, built, gnu_tar, link, samples, three, written
from tests.shards.tars import file


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
