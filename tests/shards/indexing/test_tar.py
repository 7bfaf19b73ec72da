"""Members are found where tarfile finds them, and damage that tarfile passes over is an error."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler.kernels.keys import hash_keys
from adaptive_sampler.shards import ShardDamaged, ShardUnsupported
from adaptive_sampler.shards.indexing.tar import header_is, number, walk
from adaptive_sampler.shards.sources.local import LocalSource
from tests.references import hash_keys as slow_hash_keys
from tests.shards.members import Found, both, by_tarfile, members
from tests.shards.tars import END, header, padded, record, write_tar

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}

names = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=150).filter(
    lambda n: n not in (".", "..") and len(n.encode()) <= 250
)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@settings(max_examples=60, deadline=None)
@given(found=st.lists(st.tuples(paths, st.binary(max_size=1200)), max_size=8), format=st.sampled_from(sorted(FORMATS)))
def test_members_are_those_of_tarfile(tmp_path_factory: pytest.TempPathFactory, found: Found, format: str) -> None:
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    try:
        write_tar(path, found, FORMATS[format])  # type: ignore[arg-type]
    except ValueError:  # a name too long for ustar
        return
    assert both(path) == by_tarfile(path)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mtime", [0, 12.5, -3])
def test_times_before_1970_and_of_fractions_are_understood(tmp_path: Path, format: str, mtime: float) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=FORMATS[format]) as archive:
        for name in "ab":
            info = tarfile.TarInfo(f"{name}.x")
            info.size, info.mtime = 3, mtime if format != "ustar" else abs(mtime)  # type: ignore[assignment]
            archive.addfile(info, io.BytesIO(b"123"))
    assert both(tmp_path / "x.tar") == by_tarfile(tmp_path / "x.tar")


def test_directories_and_devices_are_no_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind in (("d.x" * 60, tarfile.DIRTYPE), ("p.x", tarfile.FIFOTYPE), ("c.x", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
        info = tarfile.TarInfo("a.x")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"1"))
    assert [name for name, _, _ in both(tmp_path / "x.tar")] == ["a.x"]
    assert both(tmp_path / "x.tar") == by_tarfile(tmp_path / "x.tar")


def test_a_global_header_names_what_follows_until_the_next(tmp_path: Path) -> None:
    first, second = record("path", "g/all.x"), record("comment", "no name")
    data = header(b"g", b"%011o" % len(first), b"g") + padded(first)
    data += header(b"a.x", b"%011o" % 3) + padded(b"abc")
    data += header(b"g", b"%011o" % len(second), b"g") + padded(second)
    own = record("path", "own.x")
    data += header(b"x", b"%011o" % len(own), b"x") + padded(own) + header(b"b.x", b"%011o" % 1) + padded(b"b")
    (tmp_path / "x.tar").write_bytes(data + END)
    assert [name for name, _, _ in both(tmp_path / "x.tar")] == ["g/all.x", "own.x"]
    assert both(tmp_path / "x.tar") == by_tarfile(tmp_path / "x.tar")


def test_a_pax_size_overrules_the_header(tmp_path: Path) -> None:
    size = record("size", "700")
    data = header(b"x", b"%011o" % len(size), b"x") + padded(size) + header(b"a.x", b"%011o" % 0) + padded(b"y" * 700)
    data += header(b"b.x", b"%011o" % 1) + padded(b"b")
    (tmp_path / "x.tar").write_bytes(data + END)
    assert both(tmp_path / "x.tar") == by_tarfile(tmp_path / "x.tar")
    assert [size for _, _, size in both(tmp_path / "x.tar")] == [700, 1]


def test_sizes_in_base_256_are_understood(tmp_path: Path) -> None:
    data = header(b"a.x", b"\x80" + (600).to_bytes(11, "big")) + padded(b"y" * 600)
    (tmp_path / "x.tar").write_bytes(data + header(b"b.x", b"%011o" % 1) + padded(b"b") + END)
    assert both(tmp_path / "x.tar") == by_tarfile(tmp_path / "x.tar")
    assert number(b"\x80" + (1 << 70).to_bytes(11, "big")) == 1 << 70
    assert number(b"\xff" + b"\xff" * 11) == -1


def test_an_old_directory_is_a_file_whose_name_ends_in_a_slash(tmp_path: Path) -> None:
    data = header(b"d/", b"%011o" % 0, b"\0") + header(b"a.x", b"%011o" % 1, b"\0") + padded(b"a")
    (tmp_path / "x.tar").write_bytes(data + END)
    assert [name for name, _, _ in both(tmp_path / "x.tar")] == ["a.x"]


def test_signed_checksums_are_accepted(tmp_path: Path) -> None:
    raw = bytearray(header("é.x".encode(), b"%011o" % 1))
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(b - 256 * (b > 127) for b in raw)
    (tmp_path / "x.tar").write_bytes(bytes(raw) + padded(b"a") + END)
    assert both(tmp_path / "x.tar") == by_tarfile(tmp_path / "x.tar") == [("é.x", 512, 1)]


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "x.tar", [(f"{i}.x", bytes([i]) * 600) for i in range(5)])


def test_a_corrupt_header_in_the_middle_is_an_error_not_the_end(sound: Path) -> None:
    data = bytearray(sound.read_bytes())
    data[2 * 1536 + 3] ^= 1
    sound.write_bytes(data)
    assert len(by_tarfile(sound)) == 2, "tarfile, and with it WebDataset, takes it for the end"
    for mapped in (True, False):
        with pytest.raises(ShardDamaged, match=r"x\.tar: corrupt: a header .* at byte 3072\. Fetch or write"):
            members(sound, mapped)


@pytest.mark.parametrize("cut", [512 * 3 + 200, 512 * 4 + 100, 5 * 1536], ids=["header", "body", "end marker"])
def test_a_cut_off_archive_is_an_error(sound: Path, cut: int) -> None:
    sound.write_bytes(sound.read_bytes()[:cut])
    for mapped in (True, False):
        with pytest.raises(ShardDamaged, match="cut off"):
            members(sound, mapped)


def test_zeros_in_the_middle_are_an_error_not_the_end(sound: Path) -> None:
    data = bytearray(sound.read_bytes())
    data[1536 : 2 * 1536] = bytes(1536)
    sound.write_bytes(data)
    with pytest.raises(ShardDamaged, match="a block of zeros with more data behind it, at byte 1536"):
        members(sound)


def test_an_extended_header_without_a_member_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(header(b"L", b"%011o" % 5, b"L") + padded(b"long") + END)
    with pytest.raises(ShardDamaged, match="extended header without its member"):
        members(tmp_path / "x.tar")


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_a_compressed_shard_is_named_as_such(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "x.tar", f"w:{mode}") as archive:
        archive.addfile(tarfile.TarInfo("a.x"))
    path = tmp_path / "x.tar"
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(ShardUnsupported, match=r"compressed with .*Decompress the shard"):
        members(path)


def test_bodies_are_not_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [(f"{i}.x", bytes(1 << 20)) for i in range(4)])
    source = LocalSource(str(path))
    asked = []

    def read(start: int, length: int) -> bytes:
        asked.append(length)
        return source.read(start, length)

    list(walk(read, "x", source.size))
    source.close()
    assert sum(asked[:-1]) <= 5 * 2048


def test_a_header_is_recognised_by_checksum_and_size() -> None:
    raw = header(b"a.x", b"%011o" % 9)
    assert header_is(raw, 9)
    assert not header_is(raw, 8)
    assert not header_is(raw[:-1], 9)
    assert not header_is(b"b" + raw[1:], 9)
    assert not header_is(bytes(512), 0)


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_the_hash_kernel_equals_its_twin(keys: list[bytes]) -> None:
    ends = np.cumsum([len(k) for k in keys], dtype=np.int64)
    assert hash_keys(np.frombuffer(b"".join(keys), np.uint8), ends).tolist() == slow_hash_keys(keys)
