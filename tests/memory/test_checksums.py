"""Checksums of columns, by which ranks are compared: equal values have equal ones, and any other value another one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.kernels import fold as kernels
from adaptive_sampler.memory import book
from adaptive_sampler.memory.records import Records
from adaptive_sampler.scoring import EL2N, Forgetting, Loss
from adaptive_sampler.scoring.base import Column
from tests.references import mixed_rows

N = 7
SPEC = {
    ("", "count"): Column("uint32", 0),
    ("a", "small"): Column("uint8", 1),
    ("a", "wide"): Column("float64", 0),
    ("b", "value"): Column("float32", np.nan),
}


def records(seed: int = 0, n: int = N) -> Records:
    """Columns of random bits."""
    made, rng = Records(SPEC, n), np.random.default_rng(seed)
    for column in made.columns.values():
        column[:] = rng.integers(0, 256, n * column.itemsize, np.uint8).view(column.dtype)
    return made


def told(made: Records) -> dict:
    return {key: lanes.tolist() for key, lanes in made.mixed({}).items()}


@given(
    words=st.lists(st.integers(0, 2**32 - 1), max_size=60), width=st.integers(1, 20), start=st.integers(0, 2**32 - 1)
)
def test_the_kernel_mixes_rows_as_its_twin_does(words, width, start) -> None:
    rows = np.array(words[: len(words) // width * width], np.uint32)
    lanes = np.full(width, start, np.uint32)
    kernels.mix_rows(rows, lanes)
    assert lanes.tolist() == mixed_rows(rows.reshape(-1, width).tolist(), [start] * width)


def test_a_column_is_told_apart_from_what_lies_beside_it() -> None:
    together = records()
    for key, column in SPEC.items():
        alone = Records({key: column}, N)
        alone.columns[key][:] = together.columns[key]
        assert told(alone)[key] == told(together)[key]


@pytest.mark.parametrize("first", range(1, N))
def test_rows_in_two_parts_are_told_as_all_at_once(first) -> None:
    whole, one, two = records(), Records(SPEC, first), Records(SPEC, N - first)
    for key in SPEC:
        one.columns[key][:], two.columns[key][:] = whole.columns[key][:first], whole.columns[key][first:]
    assert {key: lanes.tolist() for key, lanes in two.mixed(one.mixed({})).items()} == told(whole)


@pytest.mark.parametrize("key", SPEC)
def test_each_bit_of_each_value_counts_for_its_column_alone(key) -> None:
    before = told(records())
    for row in range(N):
        for bit in range(8 * records().columns[key].itemsize):
            made = records()
            octets = made.columns[key][row : row + 1].view(np.uint8)
            octets[bit // 8] ^= 1 << bit % 8
            after = told(made)
            assert [other for other in SPEC if before[other] != after[other]] == [key]


def test_two_values_that_change_their_signs_do_not_make_up_for_each_other() -> None:
    """As they would in a sum, or in a polynomial, of which the upper bits of a word reach no other."""
    column, before = ("b", "value"), told(records())[("b", "value")]
    for one in range(N):
        for other in range(one):
            made = records()
            made.columns[column].view(np.uint32)[[one, other]] ^= 1 << 31
            assert told(made)[column] != before


def test_values_in_another_order_are_others() -> None:
    made = records()
    for column in made.columns.values():
        column[:] = column[::-1].copy()
    assert all(told(made)[key] != lanes for key, lanes in told(records()).items())


@pytest.mark.parametrize("scores", [[Loss()], [Loss(), EL2N(), Forgetting()]], ids=["one score", "three"])
def test_what_is_on_disk_has_the_checksum_that_it_had_in_memory(tmp_path, monkeypatch, scores) -> None:
    monkeypatch.setattr(book, "CHUNK", 4)
    with ScoreStore.create(tmp_path / "s.zarr", 11, scores) as store:
        store.update([0, 3, 10], logits=np.eye(3, dtype=np.float32), labels=[0, 1, 0])
        store.commit()
        before = store.session.digest()
    with ScoreStore.open(tmp_path / "s.zarr") as store:
        assert all(one.on_disk and len(one.dirty) > 1 for one in store.session.table.books)
        assert store.session.digest() == before
        assert all(one.on_disk for one in store.session.table.books)
        assert store["loss"][3] >= 0  # which reads them
        assert store.session.digest() == before
