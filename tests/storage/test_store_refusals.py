"""A refused update names value, rule and remedy, and leaves the store as it was, bit for bit."""

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, RowError, StoreError, UnknownName
from adaptive_sampler.scoring import EL2N, Loss, Margin, Mean
from tests.libraries import LIBRARIES, ONE_EACH
from tests.snapshots import snapshot

GOOD = {"logits": np.array([[2.0, 0.0], [0.0, 1.0]], np.float32), "labels": np.array([0, 1]), "loss": np.ones(2)}


@pytest.fixture
def store():
    """Six rows with a history, so that 'as it was' is more than 'empty'."""
    with ScoreStore.create(None, 6, [EL2N(), Loss(), Margin()]) as made:
        made.update([0, 1], **GOOD)
        made.epoch = 3
        yield made


def refused(store, error, words, rows, **observation):
    before = snapshot(store)
    with pytest.raises(error, match=words):
        store.update(rows, **observation)
    assert snapshot(store) == before


@pytest.mark.parametrize("row", [-1, 6, 2**40, -(2**40)])
def test_a_row_outside_the_store(store, row):
    refused(store, RowError, rf"row {row} at position 1 of the batch is outside 0 … 5.*store.grow", [0, row], **GOOD)


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [
        (np.array([0.0, 1.0]), "float64"),
        (np.array([0.0, 1.0], np.float16), "float16"),
        (["0", "1"], "<U1"),
        ([None, 1], "object"),
    ],
)
def test_rows_that_are_no_integers(store, rows, dtype):
    refused(
        store, InvalidValue, rf"rows have dtype {dtype}: rows are integers 0 … 5.*Carry them as int64", rows, **GOOD
    )


def test_a_mask_in_the_place_of_rows(store):
    words = r"rows have dtype bool: rows are integers 0 … 5. Pass np.flatnonzero\(mask\)"
    refused(store, InvalidValue, words, np.array([True, False]), **GOOD)


MASKED = r"a masked array of shape \(.*\): its mask would be lost. Leave the masked rows out .*compressed"


def test_rows_of_a_masked_array(store):
    refused(store, InvalidValue, MASKED, np.ma.array([0, 1], mask=[False, True]), **GOOD)


@pytest.mark.parametrize("masked", ["logits", "labels", "loss"])
def test_an_observation_of_a_masked_array(store, masked):
    refused(store, InvalidValue, MASKED, [0, 1], **GOOD | {masked: np.ma.array(GOOD[masked])})


def test_values_of_a_masked_array_to_fold(store):
    before = snapshot(store)
    with pytest.raises(InvalidValue, match=MASKED):
        store.fold("loss", [0, 1], np.ma.array([1.0, 2.0], mask=[False, True]))
    assert snapshot(store) == before


@pytest.mark.parametrize("library", ONE_EACH)
def test_rows_that_are_floats_in_any_library(store, library):
    refused(store, InvalidValue, "rows are integers 0 … 5", LIBRARIES[library](np.array([0.0, 1.0])), **GOOD)


@pytest.mark.parametrize("rows", [3, np.array([[0, 1]]), np.array([[0], [1]])])
def test_rows_that_are_not_one_axis(store, rows):
    refused(store, InvalidValue, r"rows have shape .*: one axis of row numbers is needed. Flatten them", rows, **GOOD)


def test_a_row_beyond_int64(store):
    refused(store, InvalidValue, "does not fit int64", np.array([0, 2**63], np.uint64), **GOOD)


@pytest.mark.parametrize("rows", [[0], [0, 1, 2], []])
def test_a_batch_axis_unlike_the_rows(store, rows):
    refused(store, InvalidValue, rf"\(2,\) values for \({len(rows)},\) rows; one value a row", rows, **GOOD)


@pytest.mark.parametrize("wrong", ["logits", "labels", "loss"])
def test_batch_axes_that_disagree_among_the_observation(store, wrong):
    refused(store, InvalidValue, "disagree|one value a row", [0, 1], **GOOD | {wrong: GOOD[wrong][:1]})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("library", ONE_EACH)
def test_a_loss_that_is_not_finite_in_float32(store, bad, library):
    loss = LIBRARIES[library](np.array([1.0, bad]))
    words = (
        r"loss of row 5 is .* \(position 1 of the batch\): a score must be finite. Nothing of the batch was recorded"
    )
    refused(store, InvalidValue, words, [4, 5], loss=loss)


def test_a_float64_loss_that_overflows_float32(store):
    refused(store, InvalidValue, "loss of row 5 is inf", [4, 5], loss=np.array([1.0, 1e39]))


@pytest.mark.parametrize("library", ONE_EACH)
def test_logits_that_are_not_a_number(store, library):
    logits = LIBRARIES[library](np.array([[1.0, 0.0], [np.nan, 0.0]]))
    labels = LIBRARIES[library](np.array([0, 1]))
    refused(store, InvalidValue, "el2n of row 5 is nan", [4, 5], logits=logits, labels=labels)


def test_a_value_bad_for_the_last_score_alone_keeps_the_batch_from_all(store):
    logits = np.array([[1.0, 0.0], [np.inf, 0.0]])  # and the margin of the first row is good
    refused(store, InvalidValue, "row 5", [4, 5], loss=np.ones(2), logits=logits, labels=[0, 0])


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_outside_the_classes(store, label):
    refused(store, InvalidValue, f"label {label} at position 0", [0, 1], **GOOD | {"labels": np.array([label, 0])})


def test_a_label_beyond_int64_is_named(store):
    labels = np.array([2**64 - 1, 0], np.uint64)
    refused(store, InvalidValue, f"label {2**64 - 1} at position 0", [0, 1], **GOOD | {"labels": labels})


@pytest.mark.parametrize("observation", [{}, {"logits": np.zeros((2, 2))}, {"losses": np.ones(2)}])
def test_an_observation_that_feeds_no_score(store, observation):
    words = (
        r"feeds no score. They take el2n: logits \+ labels; loss: loss or logits \+ labels; margin: logits \+ labels"
    )
    refused(store, InvalidValue, words, [0, 1], **observation)


@pytest.mark.parametrize("epoch", [-1, 1.0, True, "3", 2**31])
def test_an_epoch_that_is_no_whole_number(store, epoch):
    refused(store, InvalidValue, r"epoch=.*: a whole number, 0 or more", [0, 1], **GOOD, epoch=epoch)


def test_values_that_are_no_real_numbers(store):
    before = snapshot(store)
    with pytest.raises(InvalidValue, match="values of dtype complex128 are no real numbers"):
        store.fold("loss", [0], np.array([1j]))
    assert snapshot(store) == before


def test_an_unknown_score_to_fold_into(store):
    before = snapshot(store)
    with pytest.raises(UnknownName, match=r"no score 'entropy'; it has el2n, loss, margin. Add it with store.add"):
        store.fold("entropy", [0], [1.0])
    assert snapshot(store) == before


@pytest.mark.parametrize("call", [lambda s: s.count("x"), lambda s: s.last_seen("x"), lambda s: s.observed("x")])
def test_an_unknown_score_to_read(store, call):
    with pytest.raises(UnknownName, match="no score 'x'; it has el2n, loss, margin"):
        call(store)


def test_a_slice_with_a_step(store):
    with pytest.raises(InvalidValue, match="slice step 2: scores are read in runs of rows"):
        store.values("loss", slice(0, 6, 2))


def test_shrinking(store):
    before = snapshot(store)
    with pytest.raises(InvalidValue, match=r"grow\(5\): the store has 6 rows already"):
        store.grow(5)
    assert snapshot(store) == before


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "6"])
def test_a_number_of_rows_that_is_none(n):
    with pytest.raises(InvalidValue, match=r"n=.*: the number of rows, 1 or more; usually len\(dataset\)"):
        ScoreStore.create(None, n, [Loss()])


@pytest.mark.parametrize("score", ["el2n", EL2N, None])
def test_what_is_no_score(score):
    with pytest.raises(InvalidValue, match=r"no score: pass one of adaptive_sampler.scoring, such as EL2N\(\)"):
        ScoreStore.create(None, 3, [score])


@pytest.mark.parametrize("name", ["my score", "1st", "a/b", ".."])
def test_a_score_name_that_names_no_column(name):
    with pytest.raises(InvalidValue, match="must be an identifier such as"):
        ScoreStore.create(None, 3, [Loss(name=name)])


def kept(path, **given):
    return ScoreStore.create(path, 3, [Loss(), EL2N()], **given)


def test_a_store_that_is_there_is_gone_on_with_where_that_is_asked_for(tmp_path):
    with kept(tmp_path / "s", keys="abc", fingerprint="f", exist_ok=True) as store:
        store.fold("loss", [1], [2.0])
        store.commit()
    with kept(tmp_path / "s", keys=iter("abc"), fingerprint="f", exist_ok=True) as again:
        assert again["loss"][1] == 2
        assert again.version == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n": 4}, "has 3 rows and the scores loss, el2n; asked for were 4"),
        ({"scores": [Loss()]}, "has 3 rows and the scores loss, el2n; asked for were 3 and loss"),
        ({"scores": [Loss(fold=Mean()), EL2N()]}, "scores made in two ways cannot share a column"),
        ({"keys": "abd"}, "has other keys than those passed, from row 2 on"),
        ({"keys": None}, "has other keys than those passed, from row 0 on"),
        ({"fingerprint": "g"}, "was made for the dataset 'f', not for 'g'"),
        ({"overwrite": True}, "overwrite=True, exist_ok=True"),
    ],
)
def test_another_store_is_not_gone_on_with(tmp_path, given, words):
    kept(tmp_path / "s", keys="abc", fingerprint="f").close()
    asked = {"n": 3, "scores": [Loss(), EL2N()], "keys": "abc", "fingerprint": "f", "exist_ok": True} | given
    with pytest.raises(InvalidValue, match=words):
        ScoreStore.create(tmp_path / "s", asked.pop("n"), asked.pop("scores"), **asked)
    ScoreStore.open(tmp_path / "s").close()  # nobody holds it


def test_a_script_that_adds_a_score_goes_on_with_the_store_that_has_it(tmp_path):
    for _ in range(2):  # the script and its resume
        with kept(tmp_path / "s", exist_ok=True) as store:
            if "margin" not in store.names:
                store.add(Margin())
            store.commit()
    with kept(tmp_path / "s", exist_ok=True) as store:
        assert store.names == ("loss", "el2n", "margin")
        assert store.about["made"]["margin"]["added"]


@pytest.mark.parametrize("scores", [[Loss()], [EL2N(), Loss()], [Margin()]])
def test_scores_that_a_store_was_made_with_are_asked_for_all_the_same_if_one_was_added(tmp_path, scores):
    with kept(tmp_path / "s") as store:
        store.add(Margin())
        store.commit()
    with pytest.raises(
        InvalidValue, match=r"the scores loss, el2n, margin \(added later: margin\); asked for were 3 and"
    ):
        ScoreStore.create(tmp_path / "s", 3, scores, exist_ok=True)


def test_what_is_no_store_is_not_gone_on_with(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match="there is no CURRENT"):
        kept(tmp_path, exist_ok=True)
