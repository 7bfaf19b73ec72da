"""What a plan over a table refuses: each fault is named with its file, row group and line, and the remedy works."""

import os

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import InfoBatch, Prune, RandomPrune, Threshold, Upsample, Window
from adaptive_sampler.tables import plan_table

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")
from pyarrow import parquet  # noqa: E402

from adaptive_sampler.tables.planning import twice  # noqa: E402

HALF = Prune(0.5, "loss")
HALF_OF_EACH = Prune(0.5, "loss", per_group="group")


def table(names="abcd", **columns):
    ids = pa.array(list(names), None if len(names) else pa.string())
    return pa.table({"id": ids, "loss": pa.array(np.arange(len(ids)), pa.float32()), **columns})


def refused(words, source, policy=HALF, **arguments):
    with pytest.raises(InvalidValue, match=words):
        plan_table(source, policy, **{"key": "id"} | arguments)


def files(folder, *tables, group=2):
    """The tables as Parquet files with row groups of two lines."""
    paths = [folder / f"part-{number}.parquet" for number in range(len(tables))]
    for path, one in zip(paths, tables, strict=True):
        parquet.write_table(one, path, row_group_size=group)
    return paths


# -- keys ---------------------------------------------------------------------------------------------------------------


def test_a_key_that_comes_twice_is_told_with_both_places(tmp_path):
    paths = files(tmp_path, table("abcd"), table("efgc"))
    where = r"part-1.parquet, row group 1, line 1 .*: key 'c' comes twice, at first in .*part-0.parquet, row group 1, line 0"
    refused(where, paths)
    refused("key 3 comes twice", [table([1, 2, 3]), table([3])])
    assert plan_table(paths[:1], HALF, key="id").num_rows == 2


def test_keys_are_not_looked_at_in_a_large_table_unless_asked(monkeypatch):
    monkeypatch.setattr(twice, "AT_ONCE", 3)
    assert plan_table(table("abca"), HALF, key="id").num_rows == 2
    assert plan_table(table("abc"), HALF, key="id", check_keys=True).num_rows == 2
    refused("key 'a' comes twice", table("abca"), check_keys=True)
    refused("key 'd' comes twice", [table("abcdef"), table("ghijkd")], check_keys=True)


def test_keys_are_not_looked_at_if_that_is_not_wanted():
    assert plan_table(table("aab"), HALF, key="id", check_keys=False).num_lines == 3
    refused("check_keys='no'", table(), check_keys="no")


def test_different_keys_of_equal_hash_are_no_fault(monkeypatch):
    monkeypatch.setattr(
        "adaptive_sampler.kernels.tally.hash_between", lambda text, borders: np.full(len(borders) - 1, 7, np.uint64)
    )
    one = pa.table({"id": list("dcbahgfe"), "loss": np.ones(8, np.float32)})
    plan = plan_table([one.slice(0, 3), one.slice(3)], HALF, key="id")
    assert [row for number in range(2) for row in plan.rows(number)["key"].to_pylist()] == list(
        "hgfe"
    )  # the last by name


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array(["a", None]), "line 1 .*: id is null: every line has a key"),
        (pa.array([0, -4]), "line 1 .*: id -4: row numbers are 0 or more"),
        (pa.array([0.5, 1.0]), "column 'id' is double: keys are text, or row numbers as integers"),
    ],
)
def test_a_key_that_is_none_is_told(tmp_path, column, words):
    refused(words, files(tmp_path, pa.table({"id": column, "loss": [1.0, 2.0]})))


def test_keys_of_different_types_in_two_files_are_told(tmp_path):
    refused(
        "part-1.parquet: column 'id' is int64, in .*part-0.parquet it is string",
        files(tmp_path, table(), table([1, 2])),
    )


@pytest.mark.parametrize("key", [None, 5, ["id"]], ids=repr)
def test_a_key_that_is_no_name_is_refused(key):
    refused("key=.*: the name of the column that names the lines", table(), key=key)


TWO_THINGS = [
    (Prune(0.5, "number"), "number"),
    (HALF & Threshold(0, "number"), "number"),
    (Prune(0.5, "loss", per_group="number"), "number"),
    (Prune(0.5, "number") & RandomPrune(0.5, per_group="number"), "id"),
]


@pytest.mark.parametrize(("policy", "key"), TWO_THINGS, ids=repr)
def test_a_column_that_is_asked_for_as_two_things_is_refused(policy, key):
    words = "column 'number' cannot be two of a score, the groups and the key.* another name, such as 'number_again'"
    refused(words, table(number=[0, 1, 2, 3]), policy, key=key)


def test_a_column_that_is_two_things_is_there_by_two_names():
    twice = table(number=[0, 1, 2, 3], number_again=[0, 1, 2, 3])
    assert plan_table(twice, Prune(0.5, "number"), key="number_again").rows(0)["key"].to_pylist() == [2, 3]


# -- scores and groups --------------------------------------------------------------------------------------------------


def test_a_column_that_is_not_there_is_told():
    refused("has no column 'el2n': it has id, loss", table(), Prune(0.5, "el2n"))
    refused("has no column 'name'", table(), key="name")


@pytest.mark.parametrize("policy", [Prune(0.5, "word"), Threshold(1, "word"), Upsample(2, "word")], ids=repr)
def test_a_column_that_is_no_number_is_told(policy):
    refused("column 'word' is string: scores are numbers", table(word=list("wxyz")), policy)


def test_a_group_of_a_dictionary_that_no_line_has_is_no_group():
    groups = pa.DictionaryArray.from_arrays([3, 0, 3, 0], ["a", "b", "b", "c"])
    plan = plan_table(table(group=groups), HALF_OF_EACH, key="id")
    assert plan.threshold == {"a": 3.0, "c": 2.0}
    twice = pa.DictionaryArray.from_arrays([0, 1, 2, 2], ["a", "a", "b"])
    plan = plan_table(table(group=twice), HALF_OF_EACH, key="id")
    assert plan.threshold == {"a": 1.0, "b": 3.0}


@pytest.mark.parametrize("labels", [[0, 1, 0, 1], [-(2**40), 2**40] * 2, [True, False] * 2, [2**63, 5] * 2], ids=repr)
def test_groups_are_integers_and_booleans_too(labels):
    kind = pa.uint64() if max(labels) > 2**62 else None
    plan = plan_table(table(group=pa.array(labels, kind)), Prune(0.5, "loss", per_group="group"), key="id")
    assert plan.threshold == {labels[0]: 2.0, labels[1]: 3.0}


def test_a_group_that_is_none_is_told(tmp_path):
    nulls = [
        pa.array(["x", "x", "y", None]),
        pa.array([0, 0, 1, None]),
        pa.array(["x", "x", "y", None]).dictionary_encode(),
    ]
    for groups in nulls:
        path = files(tmp_path, table(group=groups), group=2)
        refused("row group 1, line 1 .*: group is null: every line has a group", path, HALF_OF_EACH)
    refused(
        "column 'loss' is float: groups are texts, integers or booleans", table(), RandomPrune(0.5, per_group="loss")
    )
    refused("has no column 'source'", table(), RandomPrune(0.5, per_group="source"))


def test_a_number_that_float32_cannot_hold_is_told_with_its_place(tmp_path):
    wide = pa.table({"id": [*"abcd"], "loss": [1.0, 2.0, 3.0, 1e300]})
    refused("part-0.parquet, row group 1, line 1 .* does not fit float32", files(tmp_path, wide))


def test_in_many_small_tables_the_place_is_told_too():
    tables = [table([number]) for number in range(9)]
    tables[7] = pa.table({"id": [7], "loss": pa.array([None], pa.float32())})
    assert plan_table(tables, HALF, key="id").num_rows == 5
    tables[5] = table([-5])
    refused("partition 5.*, line 0 .*: id -5", tables)


def test_scores_that_nobody_observed_keep_everything():
    nothing = pa.table({"id": [*"abc"], "loss": pa.array([None] * 3, pa.float32())})
    assert plan_table(nothing, HALF, key="id").num_rows == 3


# -- policies -----------------------------------------------------------------------------------------------------------


def test_what_needs_more_than_a_table_is_refused_with_the_remedy():
    refused("does not say how old its scores are", table(), Prune(0.5, "loss", max_age=2))
    refused("ties='row' is not for tables.* Pass ties='random'", table(), Prune(0.5, "loss", ties="row"))
    refused("per_group='source'", table(), Prune(0.5, "loss", per_class=[0, 1, 0, 1]))
    refused("cannot plan a table: only KeepAll, .*from_table", table(), InfoBatch(epochs=3))


@pytest.mark.parametrize("policy", [Prune, Window, RandomPrune], ids=repr)
def test_shares_of_units_are_refused_with_a_remedy_that_works(policy):
    by = {} if policy is RandomPrune else {"by": "loss"}
    offset = {"offset": 0.0} if policy is Window else {}
    of_tokens, documents = policy(0.5, **offset, **by, size="tokens"), table(tokens=[5, 1, 1, 1])
    refused(r"of its lines, not of the units .*from_table\(..., columns=\['tokens'\]\)", documents, of_tokens)
    store = ScoreStore.from_table(None, documents, {"loss": Loss()}, key="id", columns=["tokens"])
    assert of_tokens.plan(store, epoch=0, seed=0).num_rows >= 1


@pytest.mark.parametrize("policy", [Prune, "half", None], ids=repr)
def test_what_is_no_policy_is_refused(policy):
    refused(r"is no policy: pass one of KeepAll, .*, such as Prune\(0.5, 'quality'\)", table(), policy)


def test_a_plan_without_a_line_is_refused():
    refused("keeps none of 4 lines", table(), Threshold(99, "loss"))
    refused("keeps none of 4 lines; .* keeps 1", table(), Threshold(3, "loss") & Threshold(1, "loss", order="lowest"))
    refused("the table has no line", table(""))
    refused("the table has no line", [table(""), table("")], RandomPrune(0.5))


def test_a_count_above_the_lines_is_refused():
    refused("keep=5 asks for 5 of 4 rows", table(), Prune(5, "loss"))


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"epoch": 1.5}, {"seed": True}], ids=repr)
def test_seed_and_epoch_are_whole_numbers(arguments):
    refused("|".join(arguments), table(), **arguments)


# -- files --------------------------------------------------------------------------------------------------------------


def rewritten(path, one):
    parquet.write_table(one, path)
    os.utime(path, ns=(1, 1))


def test_a_file_that_changes_between_two_passes_is_told(tmp_path, monkeypatch):
    from adaptive_sampler.tables.planning import passes

    paths, count = files(tmp_path, table("abcd"), table("efgh")), passes.merge_groups
    monkeypatch.setattr(passes, "merge_groups", lambda a, b: (rewritten(paths[1], table("efg")), count(a, b))[1])
    monkeypatch.setattr("adaptive_sampler.tables.planning.partitions.LEAST", 0)
    refused("part-1.parquet changed while a plan was made of it or used: .* plan again", paths)


def test_a_file_that_changed_since_is_told_by_rows_lines_and_write(tmp_path):
    paths = files(tmp_path, table("abcd"), table("efgh"))
    plan = plan_table(paths, HALF, key="id")
    rewritten(paths[1], table("efgh"))
    for use in (lambda: plan.rows(1), lambda: plan.lines(1), lambda: plan.write(tmp_path / "plan")):
        with pytest.raises(InvalidValue, match=r"part-1\.parquet changed"):
            use()
    assert not (tmp_path / "plan").exists()
    assert plan.rows(0)["key"].to_pylist() == [*"cd"]
    assert plan_table(paths, HALF, key="id").rows(1)["key"].to_pylist() == [*"gh"]


def test_a_file_that_is_gone_is_told(tmp_path):
    paths = files(tmp_path, table("abcd"))
    plan = plan_table(paths, HALF, key="id")
    paths[0].unlink()
    with pytest.raises(InvalidValue, match="the file is gone"):
        plan.rows(0)


def test_a_truncated_file_is_told(tmp_path):
    path = files(tmp_path, table("abcd"))[0]
    path.write_bytes(path.read_bytes()[:-9])
    refused("part-0.parquet is no .parquet file, or a damaged one", path)


def test_a_file_with_damaged_pages_is_told(tmp_path):
    path = files(
        tmp_path, pa.table({"id": np.arange(4000), "loss": np.random.default_rng(0).random(4000)}), group=4000
    )[0]
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)
    path.write_bytes(content)
    refused("part-0.parquet cannot be read", path)
