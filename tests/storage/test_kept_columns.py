"""Columns of the user's own on disk: a part of each version, as plain Zarr, checked, and written only when they changed."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreDamaged, StoreError
from adaptive_sampler.memory import book
from adaptive_sampler.scoring import Loss

N = 5
OWN = {"source": ["web", "books", "web", "ü", "web"], "tokens": [3, 1, 4, 1, 5], "checked": [True, False] * 2 + [True]}


def made(path: Path | str, **arguments) -> ScoreStore:
    return ScoreStore.create(path, N, [Loss()], **({"columns": OWN} | arguments))


def read(store: ScoreStore) -> dict[str, list]:
    return {name: values.tolist() for name, values in store.columns.items()}


@pytest.mark.parametrize("place", ["folder", "memory://kept-columns"])
def test_columns_come_back_with_the_version_that_they_were_committed_in(tmp_path: Path, place: str) -> None:
    where = tmp_path / "s" if place == "folder" else place
    with made(where) as store:
        store.commit()
        store.columns["tokens"] = [0] * N
        del store.columns["checked"]
        store.columns["late"] = [0.5] * N
        store.commit()
        store.columns["late"] = ["lost"] * N
    with ScoreStore.open(where, version=1, mode="r") as old, ScoreStore.open(where, mode="r") as new:
        assert read(old) == OWN
        assert read(new) == {"source": OWN["source"], "tokens": [0] * N, "late": [0.5] * N}


def test_a_new_store_has_its_columns_before_its_first_commit(tmp_path: Path) -> None:
    made(tmp_path / "s").close()
    with ScoreStore.open(tmp_path / "s") as store:
        assert read(store) == OWN
        assert store.made_from == (0, 0)


def test_a_pickled_store_opens_with_its_columns(tmp_path: Path) -> None:
    with made(tmp_path / "s") as store:
        store.commit()
        assert read(pickle.loads(pickle.dumps(store))) == OWN


def test_any_zarr_client_reads_the_columns(tmp_path: Path) -> None:
    with made(tmp_path / "s") as store:
        store.commit()
    group = zarr.open_group(tmp_path / "s" / "v1", mode="r")
    assert group["tokens"].attrs["column"] == "int64"
    assert group["tokens/values"][:].tolist() == OWN["tokens"]
    assert group["checked/values"][:].tolist() == OWN["checked"]
    texts = bytes(group["source/text"][:]).decode().split("\0")
    assert [texts[code] for code in group["source/codes"][:]] == OWN["source"]
    assert group["source/ends"][:].tolist() == [3, 9, 12]
    arrays = [array for name in OWN for _, array in group[name].members()]
    assert all(array.attrs["description"] for array in arrays)


def test_columns_of_several_chunks_come_back_and_end_in_a_full_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "CHUNK", 4)
    n, texts = 10, [f"text {i % 7}" for i in range(10)]
    with ScoreStore.create(tmp_path / "s", n, [Loss()], columns={"t": texts, "x": np.arange(n)}) as store:
        store.commit()
    group = zarr.open_group(tmp_path / "s" / "v1", mode="r")
    assert (tmp_path / "s/v1/x/values/c/2").stat().st_size == 4 * 8
    assert group["x/values"][:].tolist() == [*range(n)]
    assert read(ScoreStore.open(tmp_path / "s", mode="r")) == {"t": texts, "x": [*range(n)]}


def test_a_commit_writes_only_the_columns_that_were_set_to_other_values(tmp_path: Path) -> None:
    with made(tmp_path / "s") as store:
        store.commit()
        store.columns["tokens"] = [0] * N
        store.columns["source"] = OWN["source"]
        store.commit()
    files = {path.relative_to(tmp_path / "s/v2"): path for path in (tmp_path / "s/v2").rglob("c/0")}
    written = {str(name) for name, path in files.items() if not path.samefile(tmp_path / "s/v1" / name)}
    assert written == {"tokens/values/c/0"}


def test_columns_that_nobody_read_outlive_the_version_that_they_were_written_in(tmp_path: Path) -> None:
    made(tmp_path / "s").close()
    with ScoreStore.open(tmp_path / "s") as store:
        for _ in range(3):
            store.fold("loss", [0], [1])
            store.commit(keep=1)
        assert not (tmp_path / "s/v0").exists()
        assert read(store) == OWN


def test_a_column_that_was_changed_on_disk_is_told(tmp_path: Path) -> None:
    made(tmp_path / "s").close()
    for name in ("tokens/values", "source/codes", "source/text", "source/ends"):
        place = tmp_path / "s/v0" / name / "c/0"
        data = place.read_bytes()
        place.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(StoreDamaged, match=rf"{name}/c/0: .* \(checksum differs"):
            _ = ScoreStore.open(tmp_path / "s", mode="r").columns[name.split("/")[0]]
        place.write_bytes(data)


def test_a_failed_commit_loses_no_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with made(tmp_path / "s") as store:
        store.columns["tokens"] = [7] * N
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                store.commit()
        store.commit()
    assert read(ScoreStore.open(tmp_path / "s", mode="r")) == OWN | {"tokens": [7] * N}


def test_a_store_that_has_grown_keeps_its_last_version_until_its_columns_are_set(tmp_path: Path) -> None:
    with made(tmp_path / "s") as store:
        store.grow(N + 1)
        with pytest.raises(StoreError, match="column 'source' has 5 values for 6 rows"):
            store.commit()
        assert store.version == 0
        store.columns.clear()
        store.columns["tokens"] = range(N + 1)
        store.commit()
    assert read(ScoreStore.open(tmp_path / "s", mode="r")) == {"tokens": [*range(N + 1)]}
    assert read(ScoreStore.open(tmp_path / "s", mode="r", version=0)) == OWN


def test_a_reader_changes_no_column(tmp_path: Path) -> None:
    made(tmp_path / "s").close()
    with ScoreStore.open(tmp_path / "s", mode="r") as store:
        with pytest.raises(StoreError, match=r"open to read \(mode='r'\)"):
            store.columns["tokens"] = range(N)
        with pytest.raises(StoreError, match=r"open to read \(mode='r'\)"):
            del store.columns["tokens"]


# -- a script that is run again -----------------------------------------------------------------------------------------


def test_a_store_that_is_there_is_gone_on_with_if_its_columns_are_the_same(tmp_path: Path) -> None:
    made(tmp_path / "s").close()
    with made(tmp_path / "s", exist_ok=True) as store:
        assert (read(store), store.made_from) == (OWN, (0, 0))
    with made(tmp_path / "s", exist_ok=True, columns=None) as store:
        assert read(store) == OWN


def test_columns_that_it_lacks_are_added_and_lasting_with_a_commit(tmp_path: Path) -> None:
    made(tmp_path / "s").close()
    with made(tmp_path / "s", exist_ok=True, columns={"late": [1] * N}) as store:
        assert store.made_from == (0, 1)
        store.commit()
    assert read(ScoreStore.open(tmp_path / "s", mode="r")) == OWN | {"late": [1] * N}


def test_a_store_with_other_values_in_a_column_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    made(tmp_path / "s").close()
    with pytest.raises(InvalidValue, match=r"another column 'tokens', from row 2 on: 4 there, 9 passed"):
        made(tmp_path / "s", exist_ok=True, columns={"late": [1] * N, "tokens": [3, 1, 9, 1, 5]})
    with ScoreStore.open(tmp_path / "s") as store:  # the lock was given back
        assert read(store) == OWN
        store.columns["tokens"] = [3, 1, 9, 1, 5]  # the remedy


def test_a_bad_column_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="column 'tokens': values of shape"):
        made(tmp_path / "s", columns={"tokens": [1]})
    with pytest.raises(InvalidValue, match="column name 'loss': a score has that name"):
        made(tmp_path / "s", columns={"loss": range(N)})
    assert not (tmp_path / "s").exists()
