"""`PlannedKeys` says what a plan visits, by key: exactly, for many processes in one copy, and for every kind of keys."""

import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="PyArrow reads these files")

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue, StoreDamaged, StoreError
from adaptive_sampler.tables import PlannedKeys
from tests.tables.planned.folders import InMemory, Line, written

LINES = [Line("a"), Line("b", 3, 0.5)], [], [Line("ü", 2, 2.0)]
ASKED = ["b", "x", "ü", "b", "", "a"]
REPEATS, WEIGHTS = [3, 0, 2, 3, 0, 1], [0.5, 0, 2, 0.5, 0, 1]


@pytest.fixture(scope="module")
def planned() -> PlannedKeys:
    return PlannedKeys(InMemory(*LINES))


@pytest.fixture(scope="module")
def numbers() -> PlannedKeys:
    return PlannedKeys(InMemory([Line(9), Line(4, 2, 0.5)], [Line(0)]))


def test_a_key_is_in_it_if_the_plan_visits_it(planned: PlannedKeys) -> None:
    assert [key in planned for key in ASKED] == [True, False, True, True, False, True]


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda keys: np.array(keys, object), pa.array])
def test_keys_have_their_repeats_and_weights_and_others_0(planned: PlannedKeys, kind: type) -> None:
    assert planned.repeats(kind(ASKED)).tolist() == REPEATS
    assert planned.weights(kind(ASKED)).tolist() == WEIGHTS


def test_keys_of_arrow_may_be_in_chunks_or_a_dictionary(planned: PlannedKeys) -> None:
    chunked = pa.chunked_array([ASKED[:2], [], ASKED[2:]], pa.string())
    assert planned.repeats(chunked).tolist() == REPEATS
    assert planned.repeats(pa.array(ASKED).dictionary_encode()).tolist() == REPEATS


@pytest.mark.parametrize("kind", [list, np.array, lambda rows: np.array(rows, np.int32), pa.array])
def test_row_numbers_are_asked_by_integers(numbers: PlannedKeys, kind: type) -> None:
    assert numbers.repeats(kind([4, 5, 9, -1, 0, 10])).tolist() == [2, 0, 1, 0, 1, 0]
    assert numbers.weights(kind([4, 5, 9])).tolist() == [0.5, 0, 1]
    assert 9 in numbers
    assert 10 not in numbers


def test_no_keys_have_no_repeats(planned: PlannedKeys, numbers: PlannedKeys) -> None:
    for keys in ([], np.empty(0, np.int64), pa.array([], pa.string())):
        assert planned.repeats(keys).tolist() == numbers.repeats(keys).tolist() == []


def test_it_tells_how_many_keys_and_samples_there_are(planned: PlannedKeys) -> None:
    assert (len(planned), planned.num_samples, planned.id) == (3, 6, "0123456789abcdef")


def test_a_folder_gives_what_the_plan_in_memory_gives(tmp_path: Path) -> None:
    assert PlannedKeys(written(tmp_path / "plan", *LINES)).repeats(ASKED).tolist() == REPEATS


@settings(max_examples=25)
@given(data=st.data())
def test_it_is_what_a_dict_of_the_lines_says(data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.text(max_size=2), min_size=1, max_size=30, unique=True))
    lines = [Line(key, data.draw(st.integers(1, 9))) for key in keys]
    asked = data.draw(st.lists(st.one_of(st.sampled_from(keys), st.text(max_size=2))))
    repeats = dict(zip(keys, (line.repeats for line in lines), strict=True))
    assert PlannedKeys(InMemory(lines)).repeats(asked).tolist() == [repeats.get(key, 0) for key in asked]


# -- what does not fit --------------------------------------------------------------------------------------------------


def test_keys_of_the_other_kind_are_refused_and_not_just_absent(planned: PlannedKeys, numbers: PlannedKeys) -> None:
    for asked in ([4], np.array([4]), pa.array([4])):
        with pytest.raises(InvalidValue, match=r"the keys that are asked for are integers, and plan .* has text"):
            planned.repeats(asked)
    for text in (["a"], pa.array(["a"])):
        with pytest.raises(InvalidValue, match=r"the keys that are asked for are text, and plan .* has row numbers"):
            numbers.repeats(text)


@pytest.mark.parametrize("asked", [["a", 3], ["a", None], [b"a"], [1.5]], ids=["number", "none", "bytes", "float"])
def test_what_is_no_key_is_refused(planned: PlannedKeys, asked: list[object]) -> None:
    with pytest.raises(InvalidValue):
        planned.repeats(asked)


def test_a_null_and_a_column_of_floats_are_refused(planned: PlannedKeys) -> None:
    with pytest.raises(InvalidValue, match=r"line 1 \(the first is 0\): the key is null"):
        planned.repeats(pa.array(["a", None]))
    with pytest.raises(InvalidValue, match="the keys are double"):
        planned.repeats(pa.array([1.5]))


@pytest.mark.parametrize(
    ("lines", "name"), [([Line("a"), Line("b"), Line("a")], "key 'a'"), ([Line(3), Line(3)], "row 3")]
)
def test_a_key_that_comes_twice_is_damage(lines: list[Line], name: str) -> None:
    with pytest.raises(StoreDamaged, match=f"{name} comes twice in plan"):
        PlannedKeys(InMemory(lines))


def test_a_plan_that_visits_nothing_is_refused() -> None:
    with pytest.raises(InvalidValue, match="visits nothing"):
        PlannedKeys(InMemory([], []))


# -- processes ----------------------------------------------------------------------------------------------------------


def test_another_process_maps_the_same_files(planned: PlannedKeys) -> None:
    sent = pickle.dumps(planned)
    assert len(sent) < 500
    code = f"import pickle; print(pickle.loads({sent!r}).repeats({ASKED!r}).tolist())"
    asked = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == str(REPEATS)
    assert planned.repeats(ASKED).tolist() == REPEATS  # the other's end did not delete the files


def test_the_files_are_gone_with_the_object_and_what_was_sent_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = PlannedKeys(InMemory(*LINES))
    sent = pickle.dumps(made)
    assert len([*tmp_path.iterdir()]) == 1
    del made
    gc.collect()
    assert not [*tmp_path.iterdir()]
    with pytest.raises(
        StoreError, match=r"which is gone, or on another machine. Make them there: PlannedKeys\(folder\)"
    ):
        pickle.loads(sent)


def test_a_forked_worker_that_lets_its_copy_go_leaves_the_files() -> None:
    held = [PlannedKeys(InMemory(*LINES))]
    worker = os.fork()
    if not worker:
        held.clear()
        gc.collect()
        os._exit(0)
    assert os.waitpid(worker, 0)[1] == 0
    assert pickle.loads(pickle.dumps(held[0])).repeats(ASKED).tolist() == REPEATS


def test_nothing_is_left_of_one_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StoreDamaged):
        PlannedKeys(InMemory([Line("a"), Line("a")]))
    assert not [*tmp_path.iterdir()]


# -- tables -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["table", "batch"])
def test_the_lines_of_a_table_that_are_visited_come_as_often_as_they_are(planned: PlannedKeys, kind: str) -> None:
    lines = pa.table({"uid": ["x", "b", "a"], "n": [0, 1, 2]})
    found = planned.visited(lines if kind == "table" else lines.to_batches()[0], key="uid")
    assert found.to_pydict() == {"uid": ["b"] * 3 + ["a"], "n": [1, 1, 1, 2], "loss_weight": [0.5] * 3 + [1.0]}
    assert found.schema.field("loss_weight").type == pa.float32()


def test_a_table_of_which_nothing_is_visited_gives_no_line(planned: PlannedKeys) -> None:
    assert len(planned.visited(pa.table({"key": ["x", "y"]}))) == 0
    assert planned.visited(pa.table({"key": pa.array([], pa.string())})).column_names == ["key", "loss_weight"]


@pytest.mark.parametrize("columns", [["uid"], ["key", "loss_weight"]])
def test_a_table_without_the_keys_or_with_a_weight_is_refused(planned: PlannedKeys, columns: list[str]) -> None:
    with pytest.raises(
        InvalidValue, match=f"the table has the columns {', '.join(columns)}: name the one with the keys"
    ):
        planned.visited(pa.table({name: ["a"] for name in columns}))


def test_texts_that_pyarrow_cannot_pick_are_told_with_a_remedy_that_works(planned: PlannedKeys) -> None:
    table = pa.table({"uid": pa.array(["a", "b"], pa.string_view())})
    with pytest.raises(InvalidValue, match=r"cannot pick lines of this table: .*string_view.* to large_string"):
        planned.visited(table, key="uid")
    assert len(planned.visited(table.cast(pa.schema([("uid", pa.large_string())])), key="uid")) == 4
