"""The index that Megatron Energon writes beside shards gives the rows that their headers give, or is refused."""

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards import (
    Access,
    DuplicateKey,
    Energon,
    ShardChanged,
    ShardDamaged,
    ShardIndex,
    ShardMissing,
    ShardReader,
)
from benchmarks.helpers.server import serving
from tests.references import energon
from tests.shards.others import HERE, NAMES, dataset, prepared
from tests.shards.tars import END, body, file, plan_of, shards, sparse, write_tar

REMEDY = r"Run `energon prepare` again, or index the shards themselves, ShardIndex\.build\(urls, path\)\."
ANEW = r"Write that index anew, or index the shards themselves, ShardIndex\.build\(urls, path\)"


def of(folder: Path, names: list[str] | None = None, out: str = "index") -> ShardIndex:
    return ShardIndex.build(Energon(folder, names), folder / out)


def by_headers(folder: Path, names: list[str]) -> ShardIndex:
    return ShardIndex.build([str(folder / name) for name in names], folder / "by-headers")


def places(index: ShardIndex) -> list[object]:
    """Whatever an index says of its rows."""
    said: list[object] = [index.keys, index.urls, index.stamps, index.starts.tolist(), index.digest]
    for shard, (low, high) in enumerate(itertools.pairwise(index.starts.tolist())):
        found = index.extents(shard, np.arange(low, high))
        said += [found.offset.tolist(), found.stop.tolist(), found.names, found.start, found.size, found.heads]
    return said


def change(folder: Path, *questions: str) -> None:
    """Change the database."""
    database = sqlite3.connect(folder / ".nv-meta/index.sqlite")
    for question in questions:
        database.execute(question)
    database.commit()
    database.close()


def told(folder: Path, names: list[str] | None = None) -> str:
    """What `build` says as it refuses an index, which the remedy does not need."""
    with pytest.raises(InvalidValue) as refused:
        of(folder, names)
    assert len(by_headers(folder, ["plain-000.tar"])) == 5  # the remedy
    return str(refused.value)


# -- what it gives ------------------------------------------------------------------------------------------------------


def test_what_energon_wrote_gives_the_rows_that_headers_give(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    index = of(folder)
    assert index.urls == tuple(str(folder / name) for name in NAMES)
    assert places(index) == places(by_headers(folder, NAMES))
    assert index.damage == ()


def test_what_it_gives_is_read(tmp_path: Path) -> None:
    index = of(prepared(tmp_path / "data"))
    samples = list(ShardReader(index, plan_of(len(index), range(len(index))), window=0))
    assert [sample["__key__"] for sample in samples] == index.keys
    assert samples[7]["jpg"] == body("a0/4", 2400)


def test_some_of_its_shards_are_taken_by_name_in_webdatasets_notation(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    index = ShardIndex.build(Energon(folder, "plain-{001,000}.tar"), tmp_path / "index")
    assert index.keys == ["a1/0", "a1/1", *(f"a0/{i}" for i in range(5))]


def test_a_later_build_from_headers_reads_only_what_is_new(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    of(folder)
    urls = [str(folder / name) for name in NAMES]
    assert ShardIndex.build(urls, folder / "index").urls == tuple(urls)
    assert len(list((folder / "index/manifests").iterdir())) == 1
    urls += shards(tmp_path, [3])
    assert len(ShardIndex.build(urls, folder / "index")) == 15


def test_the_twin_writes_what_energon_wrote(tmp_path: Path) -> None:
    energon.prepare(dataset(tmp_path), NAMES)
    for kept in (path for path in (HERE / "energon").rglob("*") if path.suffix in (".idx", ".json")):
        assert (tmp_path / kept.relative_to(HERE / "energon")).read_bytes() == kept.read_bytes()
    for table in ("samples", "sample_parts"):
        rows = []
        for folder in (tmp_path, HERE / "energon"):
            database = sqlite3.connect(folder / ".nv-meta/index.sqlite")
            rows.append(database.execute(f"SELECT * FROM {table} ORDER BY tar_file_id, sample_index, 4").fetchall())
            rows.append(database.execute(f"PRAGMA table_info({table})").fetchall())
            database.close()
        assert rows[:2] == rows[2:]


PART = st.tuples(st.sampled_from("abcAB"), st.integers(0, 1100))
PARTS = st.lists(PART, min_size=1, max_size=3, unique_by=lambda part: part[0].lower())


@given(st.lists(PARTS, min_size=1, max_size=8), st.sampled_from([0, 1, 2]), st.integers(0, 130))
def test_whatever_shard_energon_indexes_its_rows_are_those_of_headers(
    samples: list[list[tuple[str, int]]], format: int, length: int
) -> None:
    with TemporaryDirectory() as made:
        folder = Path(made)
        names = [f"{'n' * min(length, 90 if format == 0 else 130)}{i}" for i in range(len(samples))]
        members = [(f"{name}.{p}", body(p, n)) for name, parts in zip(names, samples, strict=True) for p, n in parts]
        write_tar(folder / "one.tar", members, format=format)
        energon.prepare(folder, ["one.tar"])
        assert places(of(folder)) == places(by_headers(folder, ["one.tar"]))


# -- another shard than it was ------------------------------------------------------------------------------------------


def written_again(folder: Path, change: Callable[[list[tuple[str, bytes]]], object]) -> None:
    members = [m for i in range(5) for m in ((f"a0/{i}.JPG", body(f"a0/{i}", 600 * i)), (f"a0/{i}.cls", b"%d" % i))]
    change(members)
    write_tar(folder / "plain-000.tar", members)


@pytest.mark.parametrize("member", [0, 4, 8])
def test_a_shard_with_another_first_middle_or_last_sample_is_told_and_the_remedy_helps(
    tmp_path: Path, member: int
) -> None:
    folder = prepared(tmp_path / "data")
    written_again(folder, lambda members: members.__setitem__(member, (f"b/{member}.JPG", members[member][1])))
    words = rf"plain-000\.tar: is not the shard that .*index\.sqlite tells of: at byte \d+ begins no sample .*{ANEW}"
    with pytest.raises(ShardChanged, match=words):
        of(folder)
    assert f"b/{member}" in by_headers(folder, NAMES).keys
    energon.prepare(folder, NAMES)
    assert places(of(folder)) == places(by_headers(folder, NAMES))


def test_another_sample_elsewhere_is_told_when_it_is_read_and_the_remedy_helps(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    written_again(
        folder, lambda members: members.__setitem__(slice(2, 4), [("b/1.JPG", body("b/1", 600)), ("b/1.cls", b"1")])
    )
    index = of(folder)
    with pytest.raises(
        ShardDamaged,
        match=r"'a0/1' .* is not at byte 2048: the header before it is of 'b/1\.JPG'. Index the shards anew, in another folder\.",
    ):
        list(ShardReader(index, plan_of(len(index), range(len(index))), window=0))
    anew = by_headers(folder, NAMES)
    assert len(list(ShardReader(anew, plan_of(len(anew), range(len(anew))), window=0))) == len(index)


@pytest.mark.parametrize("kept", [9_000, 14_848, 15_000])
def test_a_shard_that_is_cut_off_is_told(tmp_path: Path, kept: int) -> None:
    folder = prepared(tmp_path / "data")
    shard = folder / "plain-000.tar"
    shard.write_bytes(shard.read_bytes()[:kept])
    words = rf"plain-000\.tar: is not the shard that .* tells of: it is damaged, or ends, at byte \d+\. {ANEW}"
    with pytest.raises(ShardChanged, match=words):
        of(folder)


def test_a_shard_to_which_samples_were_added_is_told(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    written_again(folder, lambda members: members.append(("a0/5.cls", b"5")))
    with pytest.raises(ShardChanged, match=r"more samples follow behind 'a0/4', its last one"):
        of(folder)


def test_a_shard_that_is_gone_is_named_and_the_handler_goes_on_without_it(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    (folder / "plain-000.tar").unlink()
    with pytest.raises(ShardMissing, match=r"plain-000\.tar: cannot be opened"):
        of(folder)
    index = ShardIndex.build(Energon(folder), folder / "index", handler=lambda error: True)
    assert index.urls == tuple(str(folder / name) for name in NAMES if name != "plain-000.tar")


def test_another_archive_behind_the_end_is_told_as_without_energon(tmp_path: Path) -> None:
    (tmp_path / "one.tar").write_bytes(file("a.txt", b"a") + END)
    energon.prepare(tmp_path, ["one.tar"])
    with (tmp_path / "one.tar").open("ab") as archive:
        archive.write(file("b.txt", b"b") + END)
    with pytest.raises(ShardDamaged, match="more data behind the end of the archive"):
        of(tmp_path)


def test_two_members_of_one_part_name_are_told_as_without_energon(tmp_path: Path) -> None:
    write_tar(tmp_path / "one.tar", [("a.txt", b"a"), ("a.TXT", b"b")])
    energon.prepare(tmp_path, ["one.tar"])
    with pytest.raises(DuplicateKey, match="sample 'a' has a 'txt' already"):
        of(tmp_path)


def test_sparse_files_whose_places_energon_mistakes_are_refused(tmp_path: Path) -> None:
    holes = sparse("old", "a.bin", [(0, bytes(512)), (8192, bytes(512))], 8704)
    (tmp_path / "one.tar").write_bytes(holes + file("b.bin", b"b") + END)
    energon.prepare(tmp_path, ["one.tar"])
    with pytest.raises(InvalidValue, match=f"of one.tar some members overlap, as sparse files do there.*{REMEDY}"):
        of(tmp_path)


# -- a database of something else ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("DROP TABLE sample_parts", "it lacks the table samples or sample_parts"),
        ("ALTER TABLE samples RENAME TO other", "it lacks the table samples or sample_parts"),
        ("ALTER TABLE samples RENAME COLUMN sample_key TO key", "it cannot be read (no such column: sample_key)"),
        ("DELETE FROM samples WHERE sample_key = 'a0/4'", "another number of samples of plain-000.tar than `.info.json`, 5"),
        ("INSERT INTO samples VALUES (4, 'x', 0, 0, 1024)", "it has samples of 1 more shards than `.info.json`"),
        ("UPDATE samples SET sample_index = 3 WHERE sample_key = 'a0/4'", "are not counted from 0 on, each once"),
        ("UPDATE samples SET byte_offset = NULL WHERE sample_key = 'a0/4'", "or values of other kinds"),
        ("UPDATE samples SET byte_offset = 'x' WHERE sample_key = 'a0/4'", "or values of other kinds"),
        ("UPDATE samples SET sample_key = x'00' WHERE sample_key = 'a0/4'", "or values of other kinds"),
        ("UPDATE sample_parts SET content_byte_size = 1.5", "or values of other kinds"),
        ("DELETE FROM sample_parts", "it has no samples of named-000.tar"),
        ("UPDATE samples SET byte_offset = -512 WHERE sample_key = 'a0/0'", "some places are no numbers of bytes"),
        ("UPDATE sample_parts SET content_byte_size = 9223372036854775807", "some places are no numbers of bytes"),
        ("UPDATE samples SET byte_size = 512 WHERE sample_key = 'a0/1'", "samples do not follow one another"),
        ("UPDATE sample_parts SET sample_index = 0 WHERE sample_index = 1", "some samples have no parts"),
        ("INSERT INTO sample_parts VALUES (1, 9, 'JPG', 512, 1)", "or some parts no sample"),
        ("UPDATE sample_parts SET content_byte_offset = content_byte_offset + 1", "some members overlap"),
        ("UPDATE sample_parts SET content_byte_offset = 1024 WHERE part_name = 'JPG'", "some members overlap"),
        ("UPDATE sample_parts SET content_byte_size = 9999 WHERE part_name = 'cls'", "or lie outside of their sample"),
        ("UPDATE samples SET sample_key = 'a/0.b' WHERE sample_key = 'a0/0'", "are of other files than its samples"),
    ],
)  # fmt: skip
def test_a_database_of_something_else_is_refused_with_what_it_has(tmp_path: Path, question: str, words: str) -> None:
    folder = prepared(tmp_path / "data")
    change(folder, question)
    said = told(folder)
    assert words in said
    assert said.startswith(f"{folder}/.nv-meta/index.sqlite: is not as Energon writes it: ")
    energon.prepare(folder, NAMES)  # the other remedy
    assert len(of(folder)) == 12


def test_a_view_in_place_of_a_table_is_not_read(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    change(folder, "ALTER TABLE samples RENAME TO held", "CREATE VIEW samples AS SELECT * FROM held")
    assert "it lacks the table samples" in told(folder)


@pytest.mark.parametrize("kept", [0, 10, 100, 5_000, 20_000])
def test_a_database_that_is_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    folder = prepared(tmp_path / "data")
    database = folder / ".nv-meta/index.sqlite"
    database.write_bytes(database.read_bytes()[:kept])
    assert "index.sqlite: is not as Energon writes it: " in told(folder)


def test_whatever_byte_of_a_database_is_another_every_error_is_ours(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    database = folder / ".nv-meta/index.sqlite"
    raw = database.read_bytes()
    right = of(folder).keys
    for number, place in enumerate(range(0, len(raw), 199)):
        database.write_bytes(raw[:place] + bytes([raw[place] ^ 0xFF]) + raw[place + 1 :])
        with contextlib.suppress(InvalidValue, ShardChanged, DuplicateKey):
            assert len(of(folder, out=str(number))) == len(right)


def test_a_folder_without_a_database_is_refused(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    (folder / ".nv-meta/index.sqlite").unlink()
    assert "index.sqlite: is not as Energon writes it: it cannot be" in told(folder)


def test_a_folder_that_energon_has_not_prepared_is_refused(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data")
    assert f"{folder}/.nv-meta/.info.json: cannot be read (FileNotFoundError: " in told(folder)


# -- names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("../plain-000.tar", "val/../plain-000.tar", "./plain-000.tar", "%2e%2e/plain-000.tar"),
        *("/plain-000.tar", "file:///plain-000.tar", "https://host/plain-000.tar", "val//b.tar", "", "a\0b.tar"),
    ],
)
def test_a_shard_outside_of_the_folder_is_never_read(tmp_path: Path, name: str) -> None:
    folder = prepared(tmp_path / "data")
    info = folder / ".nv-meta/.info.json"
    info.write_text(info.read_text().replace('"plain-000.tar"', json.dumps(name)))
    assert "names no shard below" in told(folder)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", "[" * 100_000, '{"shard_counts": []}', '{"shard_counts": {}}', '{"shard_counts": {"a": "5"}}'),
        *('{"shard_counts": {"plain-000.tar": 0}}', '{"shard_counts": {"plain-000.tar": true}}'),
    ],
    ids=lambda text: text[:40],
)
def test_counts_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    folder = prepared(tmp_path / "data")
    (folder / ".nv-meta/.info.json").write_text(text)
    assert told(folder).startswith(f"{folder}/.nv-meta/.info.json: ")


def test_a_shard_that_is_counted_twice_is_refused(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    info = folder / ".nv-meta/.info.json"
    info.write_text(info.read_text().replace("plain-001", "plain-000"))
    assert "it has 'plain-000.tar' twice" in told(folder)


def test_a_name_that_the_dataset_has_not_is_refused(tmp_path: Path) -> None:
    assert "shards='none.tar': " in told(prepared(tmp_path / "data"), ["plain-000.tar", "none.tar"])


def test_a_folder_whose_name_a_url_writes_otherwise_is_read(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "50% of é?#")
    assert len(of(folder)) == 12
    assert len(ShardIndex.build(Energon(folder.as_uri()), tmp_path / "index", access=Access())) == 12


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    before = sorted(folder.rglob("*"))
    ShardIndex.build(Energon(folder), tmp_path / "index")
    assert sorted(folder.rglob("*")) == before


# -- over HTTP ----------------------------------------------------------------------------------------------------------


def test_over_http_it_spares_the_headers(tmp_path: Path) -> None:
    write_tar(tmp_path / "one.tar", [(f"{i}.bin", body(str(i), 40_000)) for i in range(100)])
    energon.prepare(tmp_path, ["one.tar"])
    with serving(tmp_path) as server:
        access = Access(header_bytes=2048)
        index = ShardIndex.build(Energon(f"http://127.0.0.1:{server.port}/"), tmp_path / "index", access=access)
        few = server.requests
        assert index.keys == [str(i) for i in range(100)]
        assert ShardIndex.build(server.url("one.tar"), tmp_path / "other", access=access).digest == index.digest
    assert few < 20
    assert server.requests - few >= 100


def test_a_database_that_a_server_does_not_give_is_named(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data")
    (folder / ".nv-meta/index.sqlite").unlink()
    with serving(folder) as server, pytest.raises(InvalidValue, match=r"index\.sqlite: cannot be read \("):
        ShardIndex.build(Energon(f"http://127.0.0.1:{server.port}"), tmp_path / "index")
