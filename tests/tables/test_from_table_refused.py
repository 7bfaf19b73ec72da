"""What makes no store: refused by file, row group and line."""

import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Forgetting, Last, Loss, Mean, Score

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")
from pyarrow import feather, parquet  # noqa: E402

from adaptive_sampler.tables.arrow import columns  # noqa: E402
from adaptive_sampler.tables.arrow.sources import CsvFile  # noqa: E402
from tests.tables.helpers import QUALITY, at_once, made, observed, quality, refused  # noqa: E402

ENDINGS = [".parquet", ".feather", ".arrow", ".csv"]


def file(tmp_path, table, name="x"):
    """A Parquet file with two lines in a row group."""
    parquet.write_table(table, tmp_path / f"{name}.parquet", row_group_size=2)
    return tmp_path / f"{name}.parquet"


@pytest.mark.parametrize(
    ("values", "keys", "words"),
    [
        ([1, 2, 3], ["a", "b", "a"], r"row group 1, line 0 .*: key 'a' comes twice, at first in .*row group 0, line 0"),
        ([1, 2, 3, 4], ["a", "b", "c", None], r"row group 1, line 1 .*: id is null: every line has a key"),
        ([1, 2, float("inf")], None, r"row group 1, line 0 .*: quality is inf"),
        ([1, 2, 1e300], None, r"row group 1, line 0 .*: quality 1e\+300 does not fit float32"),
        (["a", "b"], None, r"x\.parquet: column 'quality' is string: values that were measured are numbers"),
        ([1, 2], [1, 2], r"x\.parquet: column 'id' is int64: keys are text"),
    ],
)
def test_a_bad_value_is_told_with_its_place(tmp_path, values, keys, words):
    refused(words, file(tmp_path, quality(values, keys)), QUALITY, key="id")


def test_a_table_without_a_line_is_refused(tmp_path):
    refused(r"x\.parquet: the table has no line", file(tmp_path, quality([1.0]).slice(1)), QUALITY, key="id")


def test_files_of_different_types_are_refused_by_the_file_and_column(tmp_path):
    file(tmp_path, quality([1.0]), "a")
    file(tmp_path, quality([1]), "b")
    refused(r"b\.parquet: column 'quality' is int64, in .*a\.parquet it is double", tmp_path, QUALITY, key="id")


def test_a_column_that_is_missing_is_told_with_those_that_there_are(tmp_path):
    refused(r"x\.parquet has no column 'loss': it has id, quality", file(tmp_path, quality([1.0])), [Loss()])


def test_keys_that_are_no_utf8_are_refused():
    octets = pa.array([b"a", b"\xff"]).view(pa.string())
    refused(r"line 1 .*: id b'\\xff' is no UTF-8", quality([1.0, 2.0], octets), QUALITY, key="id")


@pytest.mark.parametrize("lines", [1, 100])
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([1, 0, 0], "line 2 .*: row 0 comes twice, at first in the Table, line 1"),
        ([0, 1, 3], "line 2 .*: row 3 is outside 0 … 2"),
        ([0, 2, -1], "line 2 .*: row -1"),
    ],
)
def test_rows_that_leave_a_gap_are_refused(rows, words, lines):
    with at_once(lines):
        refused(words, pa.table({"row": rows, "quality": [1.0, 2.0, 3.0]}), QUALITY)


def test_a_row_in_two_files_is_named_with_both(tmp_path):
    for name in "ab":
        parquet.write_table(pa.table({"row": [1], "quality": [1.0]}), tmp_path / f"{name}.parquet")
    refused(r"b\.parquet, row group 0, line 0 .*row 1 comes twice, at first in .*a\.parquet", tmp_path, QUALITY)


@pytest.mark.parametrize("change", ["4\n", None], ids=["longer", "shorter"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, change):
    path = tmp_path / "x.csv"
    path.write_text("quality\n1\n2\n")
    count = CsvFile.count

    def changed(self):
        lines = count(self)
        path.write_text("quality\n1\n" if change is None else path.read_text() + change)
        return lines

    monkeypatch.setattr(CsvFile, "count", changed)
    refused("another number of lines than the 2 that were counted before", path, QUALITY)


@pytest.mark.parametrize("ending", ["parquet", "feather"])
@pytest.mark.parametrize(
    ("then", "words"),
    [({"row": ["0", "1"], "quality": [1, 2]}, "'row' is string"), ({"row": [0, 1], "other": [1, 2]}, "does not exist")],
    ids=["of another type", "without a column"],
)
def test_a_file_that_is_replaced_between_its_two_readings_is_refused(tmp_path, monkeypatch, ending, then, words):
    path, count = tmp_path / f"x.{ending}", columns.count
    write = {"parquet": parquet.write_table, "feather": feather.write_feather}[ending]
    write(pa.table({"row": [0, 1], "quality": [1, 2]}), path)

    def replaced(*told):
        lines = count(*told)
        path.unlink()
        write(pa.table(then), path)
        return lines

    monkeypatch.setattr(columns, "count", replaced)
    refused(f"{path.name}: .*{words}.* Was it changed while it was read", path, QUALITY)


def test_a_line_that_is_gone_when_the_first_of_its_row_is_looked_for_is_told(tmp_path, monkeypatch):
    path, read = file(tmp_path, pa.table({"row": [0, 0], "quality": [1, 2]})), columns.read

    def emptied(found, kinds):
        if [*kinds] == ["row"]:
            file(tmp_path, pa.table({"row": [1], "quality": [1]}))
        return read(found, kinds)

    monkeypatch.setattr(columns, "read", emptied)
    refused("row 0 came twice, and once now: the table was changed meanwhile", path, QUALITY)


@pytest.mark.parametrize("lines", [1, 100])
def test_an_entry_of_a_dictionary_that_is_no_text_is_told_with_the_line_that_has_it(lines):
    with at_once(lines):
        for entry, words in (
            (None, "line 2 .*site is null: only floats"),
            (b"\xff", r"line 2 .*site b'\\xff' is no UTF-8"),
        ):
            entries = pa.array([b"web", entry, b"books"]).cast(pa.string(), safe=False)
            table = pa.table({"quality": [1, 2, 3], "site": pa.DictionaryArray.from_arrays([0, 2, 1], entries)})
            refused(words, table, QUALITY, columns=["site"])
            store = made(table.slice(0, 2), QUALITY, columns=["site"])
            assert store.columns["site"].tolist() == ["web", "books"]


def test_a_name_of_a_column_that_is_no_text_is_refused():
    refused("has no column 3: it has id, quality", quality([1]), QUALITY, key=3)


def test_files_in_a_folder_within_the_folder_are_told_not_left_out(tmp_path):
    file(tmp_path, quality([1.0]))
    for name in ("day=2", "_delta_log", ".trash"):
        (tmp_path / name).mkdir()
        parquet.write_table(quality([1.0]), tmp_path / name / "y.parquet")
    (tmp_path / "images").mkdir()
    refused(r"day=2 is a folder within a folder. Pass a list of the folders", tmp_path, QUALITY, key="id")
    (tmp_path / "day=2" / "y.parquet").unlink()
    assert len(made(tmp_path, QUALITY, key="id")) == 1


def test_mixed_types_of_a_data_frame_are_refused():
    pandas = pytest.importorskip("pandas")
    refused(
        "the DataFrame is no Arrow table: .*column id", pandas.DataFrame({"id": ["a", 1], "quality": [1, 2]}), QUALITY
    )


@pytest.mark.parametrize(("source", "words"), [({"a": [1]}, "speaks the Arrow C interface"), ([], "no table in it")])
def test_what_is_no_table_is_refused(source, words):
    refused(words, source, QUALITY)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_is_none_of_its_kind_is_refused(tmp_path, ending):
    (tmp_path / f"x{ending}").write_bytes(b"" if ending == ".csv" else b"something else than a table")
    refused(rf"x\{ending} is no \{ending} file, or a damaged one", tmp_path / f"x{ending}", QUALITY)


def test_another_ending_and_an_empty_folder_are_refused(tmp_path):
    refused("a table is a file that ends with", tmp_path / "x.json", QUALITY)
    refused("the folder has no file that ends with", tmp_path, QUALITY)


def test_a_bad_number_in_csv_is_told_with_its_line(tmp_path):
    (tmp_path / "x.csv").write_text("quality\n1\n2\nthree\n")
    refused(r"x\.csv cannot be read .*Row #4.*'three'", tmp_path / "x.csv", QUALITY)


def test_scores_must_be_passed_for_a_table_that_does_not_tell_them():
    refused("scores=None: the table does not say how its scores were made", quality([1.0]))
    refused("scores is empty", quality([1.0]), [])


def test_a_fold_that_keeps_more_than_its_score_needs_its_state(tmp_path):
    table = pa.table({"forgetting": [1.0, 2.0]})
    refused(
        "forgetting: there is no column 'forgetting/count', and the score alone does not tell", table, [Forgetting()]
    )
    score = Score("forgetting", lambda value: value, Last())  # the remedy
    assert made(table, [score])["forgetting"].tolist() == [1, 2]


def test_counts_of_another_fold_are_refused(tmp_path):
    observed([("average", [(0, 1.0), (0, 2.0)])]).export(tmp_path / "x.parquet")
    refused("average: the file has it from .*decay", tmp_path / "x.parquet", [Loss(name="average", fold=Mean())])
    columns = parquet.read_table(tmp_path / "x.parquet").drop_columns(
        ["average/count", "average/last_seen"]
    )  # the remedy
    assert made(columns, [Loss(name="average", fold=Mean())]).count("average")[0] == 1


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("loss", 3.0, r"line 1 .*: loss is 3\.0, but it was observed 0 times"),
        ("loss/count", 1, r"line 1 .*: loss was observed 1 times, and last in epoch -1"),
        ("variability", 3.0, r"line 1 .*: variability is 3\.0, but its state says nan"),
    ],
)
def test_columns_that_contradict_each_other_are_refused(tmp_path, column, value, words):
    observed([("loss", [(0, 1.0)])]).export(tmp_path / "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet")
    changed = table.column(column).to_pylist()
    changed[1] = value
    kind = table.schema.field(column).type
    index = table.column_names.index(column)
    refused(words, table.set_column(index, column, pa.array(changed, kind)))


ODD = b'{"format": 1, "scores": {"a": {"kind": 3}}, "runs": [""], "epoch": 0, "fingerprint": null, "plan": null}'


@pytest.mark.parametrize("raw", [b"{", b"[]", b"{}", b'{"format": 1}', b'{"format": 2}', ODD])
def test_metadata_that_no_export_wrote_is_refused(raw):
    table = pa.table({"a": [1]}).replace_schema_metadata({"adaptive_sampler": raw})
    refused("metadata 'adaptive_sampler' was not written|has format 2", table)


def test_a_refused_table_leaves_no_store(tmp_path):
    with pytest.raises(InvalidValue):
        ScoreStore.from_table(tmp_path / "s", quality([float("inf")]), QUALITY)
    assert not (tmp_path / "s").exists()
