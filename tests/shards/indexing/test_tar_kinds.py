"""Headers of every kind are stepped over to the byte, and name what they describe: as tarfile, or GNU tar, where they differ."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler.shards import ShardDamaged, ShardError
from adaptive_sampler.shards.indexing.tar import Member, Rangeless
from tests.shards.members import both, by_tarfile, walked
from tests.shards.tars import END, OLD_GNU, file, file_with_times, header, octal, pax, sparse

TAR = shutil.which("tar")
SPARSE = ["old", "0.0", "0.1", "1.0"]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data + END)
    return path


def names(path: Path) -> list[str]:
    return [member.name for member in walked(path)]


# -- sparse files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extents", [1, 4, 5, 25, 26, 60])
@pytest.mark.parametrize("version", SPARSE)
def test_a_sparse_file_is_named_and_stepped_over(tmp_path: Path, version: str, extents: int) -> None:
    parts = [(4096 * (i + 1), b"d" * 300) for i in range(extents)]
    hole = sparse(version, "a.x", parts, 1 << 20)
    path = written(tmp_path / "x.tar", file("0.x", b"0") + hole + file("b.x", b"b"))
    assert [(type(m), m.name) for m in walked(path)] == [(Member, "0.x"), (Rangeless, "a.x"), (Member, "b.x")]
    assert both(path) == [found for found in by_tarfile(path) if found[0] != "a.x"]


def test_a_sparse_file_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(file("0.x", b"0") + sparse("old", "a.x", [(4096, b"d" * 9000)], 1 << 20)[:2000])
    with pytest.raises(ShardDamaged, match="cut off: what begins at byte 1024"):
        walked(path)


@pytest.mark.parametrize("kind", [b"L", b"x", b"g", b"D", b"S", b"0"])
@pytest.mark.parametrize("length", [1 << 20, 1 << 80], ids=["beyond the end", "beyond all files"])
def test_a_size_that_the_archive_has_not_is_a_cut(tmp_path: Path, kind: bytes, length: int) -> None:
    size = octal(length) if length < 8**11 else b"\x80" + length.to_bytes(11, "big")
    path = written(tmp_path / "x.tar", header(b"a.x", size, kind))
    for mapped in (True, False):
        with pytest.raises(ShardDamaged, match="cut off: what begins at byte 0"):
            walked(path, mapped)


# -- links ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("target", ["a.x", pytest.param("t" * 130 + ".x", id="long")])
def test_links_say_where_they_point(tmp_path: Path, format: int, target: str) -> None:
    if format == tarfile.USTAR_FORMAT and len(target) > 100:
        return
    with tarfile.open(tmp_path / "x.tar", "w", format=format) as archive:
        for name, kind in (("h.x", tarfile.LNKTYPE), ("s.x", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    hard, symbolic = (member for member in walked(tmp_path / "x.tar") if isinstance(member, Rangeless))
    assert (hard.name, symbolic.name) == ("h.x", "s.x")
    assert hard.why.what == f"a hard link to {target!r}: it has no bytes of its own"
    assert symbolic.why.what == f"a symbolic link to {target!r}: it has no bytes of its own"


# -- old GNU headers -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(TAR is None, reason="needs tar")
def test_old_gnu_headers_have_times_and_no_prefix(tmp_path: Path) -> None:
    path = written(tmp_path / "x.tar", b"".join(file_with_times(f"d/{i}.x", b"1", 1_700_000_000 + i) for i in range(3)))
    assert [name for name, _, _ in both(path)] == ["d/0.x", "d/1.x", "d/2.x"]
    listed = subprocess.run([str(TAR), "-tf", path], capture_output=True, text=True, check=True).stdout
    assert listed.split() == names(path)


@pytest.mark.parametrize("magic", [OLD_GNU, bytes(8)], ids=["GNU", "none, before POSIX"])
def test_only_the_magic_of_posix_promises_a_prefix(tmp_path: Path, magic: bytes) -> None:
    path = written(tmp_path / "x.tar", header(b"a.x", octal(0), prefix=b"folder", magic=magic))
    assert [name for name, _, _ in both(path)] == ["a.x"]
    path = written(tmp_path / "x.tar", header(b"a.x", octal(0), prefix=b"folder"))
    assert [name for name, _, _ in both(path)] == ["folder/a.x"]


def test_the_kernel_runs_over_old_gnu_headers_with_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "x.tar", b"".join(file_with_times(f"{i}.x", b"1", 1_700_000_000) for i in range(50)))
    monkeypatch.setattr(
        "adaptive_sampler.shards.indexing.tar.name_in", lambda header: pytest.fail("left to the slow walk")
    )
    assert len(walked(path)) == 50


def test_a_global_comment_does_not_slow_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `git archive` writes it."""
    path = written(tmp_path / "x.tar", pax([("comment", "c0ffee")], b"g") + file("a.x", b"1") + file("b.x", b"2"))
    monkeypatch.setattr(
        "adaptive_sampler.shards.indexing.tar.name_in", lambda header: pytest.fail("left to the slow walk")
    )
    assert names(path) == ["a.x", "b.x"]


# -- damage that a checksum does not show ---------------------------------------------------------------------------------

RECORDS = {
    "longer than the header": b"99 path=x.txt\n",
    "shorter than itself": b"5 path=x.txt\n",
    "of length 0": b"0 path=x.txt\n",
    "without a length": b"path=x.txt\n",
    "without an end": b"14 path=x.txt!",
    "behind a sound one": b"11 mtime=1\nrest",
}


@pytest.mark.parametrize("records", RECORDS.values(), ids=RECORDS)
def test_records_that_gnu_tar_calls_malformed_are_damage(tmp_path: Path, records: bytes) -> None:
    extended = header(b"pax", octal(len(records)), b"x") + records + bytes(-len(records) % 512)
    path = written(tmp_path / "x.tar", extended + file("a.txt", b"1"))
    with pytest.raises(ShardDamaged, match="corrupt: a PAX record whose length or form is wrong, at byte 0"):
        walked(path)


@pytest.mark.parametrize("kind", [b"x", b"L"])
def test_what_fills_up_the_block_of_an_extended_header_says_nothing(tmp_path: Path, kind: bytes) -> None:
    said = b"14 path=x.txt\n" if kind == b"x" else b"x.txt"
    rest = b"14 path=y.txt\n" if kind == b"x" else b"y" * 10
    extended = header(b"extended", octal(len(said)), kind) + (said + rest).ljust(512, b"\0")
    assert names(written(tmp_path / "x.tar", extended + file("a.txt", b"1"))) == ["x.txt"]


def test_a_header_that_begins_a_byte_late_is_damage_though_its_sum_is_right(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes((file("b1.txt", b"b") + END)[1:] + b"\0")
    with pytest.raises(ShardDamaged, match="a header whose checksum or size is wrong, at byte 0"):
        walked(path)


# -- all of them ----------------------------------------------------------------------------------------------------------

texts = st.text("abä.", min_size=1, max_size=40)
bodies = st.binary(max_size=1100)
extents = st.lists(st.binary(min_size=1, max_size=700), min_size=1, max_size=30).map(
    lambda parts: [(8192 * (i + 1), part) for i, part in enumerate(parts)]
)


def by_python(format: int, name: str, body: bytes, kind: bytes, times: bool) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "t" * 120 if kind in b"12" else ""
    info.size, info.mtime = (len(body) if kind == b"0" else 0), 1.5 if times else 1
    return info.tobuf(format) + (body + bytes(-len(body) % 512) if kind == b"0" else b"")


pieces = st.one_of(
    st.builds(sparse, st.sampled_from(SPARSE), texts, extents, st.just(1 << 20)),
    st.builds(
        by_python,
        st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
        texts,
        bodies,
        st.sampled_from([b"0", b"1", b"2", b"3", b"5", b"6", b"7"]),
        st.booleans(),
    ),
    st.just(pax([("comment", "of all")], b"g")),
)


@settings(max_examples=60, deadline=None)
@given(found=st.lists(pieces, max_size=8))
def test_any_mixture_of_kinds_is_walked_as_tarfile_walks_it(
    tmp_path_factory: pytest.TempPathFactory, found: list[bytes]
) -> None:
    path = written(tmp_path_factory.mktemp("tar") / "x.tar", b"".join(found) + file("last.x", b"1"))
    with tarfile.open(path, "r:") as archive:
        every = [m for m in archive if m.isreg() or m.islnk() or m.issym()]
    assert names(path) == [m.name for m in every]
    assert both(path) == [(m.name, m.offset_data, m.size) for m in every if m.isreg() and not m.issparse()]


def told(path: Path, mapped: bool) -> list[Member | Rangeless] | str:
    try:
        return walked(path, mapped)
    except ShardError as error:
        return str(error)


old_gnu = st.builds(file_with_times, texts, bodies, st.integers(0, 2**31))
plain = st.builds(file, texts, bodies)


@settings(max_examples=60, deadline=None)
@given(
    found=st.lists(pieces | old_gnu | plain, min_size=1, max_size=6),
    changes=st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), max_size=2),
    which=st.integers(0, 5),
)
def test_the_kernel_sees_what_the_slow_walk_sees_in_any_header(
    tmp_path_factory: pytest.TempPathFactory, found: list[bytes], changes: list[tuple[int, int]], which: int
) -> None:
    raw = bytearray(found[which % len(found)])
    for at, value in changes:
        raw[at] = value
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    found[which % len(found)] = bytes(raw)
    path = written(tmp_path_factory.mktemp("tar") / "x.tar", b"".join(found))
    assert told(path, mapped=True) == told(path, mapped=False)
