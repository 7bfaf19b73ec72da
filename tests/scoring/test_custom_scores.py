"""A score of one's own: a measure and a fold, fed and kept as the built-in ones are."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreError
from adaptive_sampler.scoring import Column, Last, Loss, Mean, Score
from tests.snapshots import snapshot


@dataclass(frozen=True)
class Total:
    """The sum of all values; raises midway at a value above `limit`."""

    limit: float = np.inf
    columns: ClassVar = {"total": Column("float32", 0)}

    def fold(self, state, rows, values, before):
        for row, value in zip(rows, values, strict=True):
            if value > self.limit:
                raise ArithmeticError(value)
            state["total"][row] += value

    def read(self, state):
        return np.where(state["count"] > 0, state["total"], np.nan).astype(np.float32)

    def begin_run(self, state):
        pass


@dataclass(frozen=True)
class Counted:
    """A fold without columns of its own: how often a row was seen."""

    columns: ClassVar = {}

    def fold(self, state, rows, values, before):
        pass

    def read(self, state):
        return np.where(state["count"] > 0, state["count"], np.nan).astype(np.float32)

    def begin_run(self, state):
        pass


def absolute_error(predictions, targets):
    return abs(predictions - targets)


def pixels(loss, scale=1.0, weights=None):
    return loss * scale if weights is None else loss * scale * weights


def test_a_measure_is_fed_by_the_names_of_its_parameters():
    with ScoreStore.create(None, 3, [Score("error", absolute_error, Last()), Loss()]) as store:
        store.update([2], predictions=np.array([3.0]), targets=np.array([5.0]), other="ignored")
        assert (store["error"][2], store.observed("loss")) == (2.0, 0)


@pytest.mark.parametrize(
    ("observation", "value"),
    [({}, 3.0), ({"scale": 2.0}, 6.0), ({"weights": np.array([0.5])}, 1.5), ({"scale": 2.0, "weights": [0.5]}, 3.0)],
)
def test_a_parameter_with_a_default_is_passed_where_the_observation_has_it(observation, value):
    with ScoreStore.create(None, 3, [Score("pixels", pixels, Last())]) as store:
        store.update([0], loss=np.array([3.0]), **observation)
        assert store["pixels"][0] == value


def test_keywords_that_a_measure_only_passes_on_are_no_inputs():
    assert Score("mine", lambda loss, *rest, **more: loss, Last()).inputs == (("loss",),)


def test_a_hook_knows_the_optional_inputs_too():
    with ScoreStore.create(None, 3, [Score("pixels", lambda logits, loss=None: logits, Last())]) as store:
        assert [store.session.takes(name) for name in ("logits", "loss", "labels")] == [True, True, False]


def test_a_custom_fold_is_kept_and_read_like_a_built_in_one(tmp_path):
    score = Score("total", lambda loss: loss, Total())
    with ScoreStore.create(tmp_path / "s", 3, [score]) as store:
        store.update([1, 1, 0], loss=[1.0, 2.0, 5.0])
        store.commit()
    with ScoreStore.open(tmp_path / "s", scores=[score]) as store:
        store.update([1], loss=[4.0])
        np.testing.assert_array_equal(store["total"], [5.0, 7.0, np.nan])


@pytest.mark.parametrize("others", [[], [Loss()], [Loss(fold=Mean(), name="mean")]])
@pytest.mark.parametrize("first", [True, False])
def test_a_fold_that_raises_midway_leaves_every_score_as_it_was(others, first):
    custom = Score("total", lambda loss: loss, Total(limit=10))
    scores = [custom, *others] if first else [*others, custom]
    with ScoreStore.create(None, 4, scores) as store:
        store.update([0, 1], loss=[1.0, 2.0])
        before = snapshot(store)
        with pytest.raises(ArithmeticError):
            store.update([0, 2, 3], loss=[1.0, 1.0, 11.0])
        assert snapshot(store) == before


def test_two_custom_folds_are_both_undone_where_the_second_raises():
    scores = [Score("a", lambda loss: loss, Total()), Score("b", lambda loss: loss, Total(limit=10))]
    with ScoreStore.create(None, 2, scores) as store:
        before = snapshot(store)
        with pytest.raises(ArithmeticError):
            store.update([0, 0], loss=[1.0, 11.0])
        assert snapshot(store) == before


def test_a_fold_without_columns_of_its_own_begins_runs():
    with ScoreStore.create(None, 2, [Score("seen", lambda loss: loss, Counted())]) as store:
        store.update([0, 0], loss=[1.0, 1.0])
        store.begin_run("second")
        np.testing.assert_array_equal(store["seen"], [2, np.nan])


def test_opening_to_write_asks_for_a_custom_score_by_its_name(tmp_path):
    ScoreStore.create(tmp_path / "s", 3, [Score("mine", absolute_error, Last())]).close()
    with pytest.raises(
        InvalidValue, match=r"score 'mine' is a custom one .*: pass it again, open\(..., scores=\[...\]\)"
    ):
        ScoreStore.open(tmp_path / "s")


def test_reading_needs_no_custom_measure_and_updating_names_it(tmp_path):
    with ScoreStore.create(tmp_path / "s", 2, [Score("mine", absolute_error, Last())]) as store:
        store.update([0], predictions=np.array([1.0]), targets=np.array([0.0]))
        store.commit()
    with ScoreStore.open(tmp_path / "s", mode="r") as store:
        np.testing.assert_array_equal(store["mine"], [1.0, np.nan])
        with pytest.raises(StoreError, match="open to read"):
            store.update([0], predictions=np.array([1.0]), targets=np.array([0.0]))


def test_a_score_of_another_making_does_not_share_the_column(tmp_path):
    ScoreStore.create(tmp_path / "s", 3, [Loss()]).close()
    with pytest.raises(InvalidValue, match="scores made in two ways cannot share a column"):
        ScoreStore.open(tmp_path / "s", scores=[Loss(fold=Mean())])


def test_a_score_that_the_store_does_not_have_is_added_not_opened(tmp_path):
    ScoreStore.create(tmp_path / "s", 3, [Loss()]).close()
    with pytest.raises(InvalidValue, match=r"the store has none of that name. Add a new score by store.add"):
        ScoreStore.open(tmp_path / "s", scores=[Score("mine", absolute_error, Last())])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("my score", absolute_error, Last()), "score name 'my score' must be an identifier"),
        (("mine", 3, Last()), "measure 3 must be callable"),
        (("mine", absolute_error, Mean), "must be a Fold such as"),
        (("mine", absolute_error, "mean"), "must be a Fold such as"),
        (("mine", lambda loss=None: loss, Last()), "no parameter without a default"),
    ],
)
def test_a_score_that_cannot_work_is_refused_where_it_is_made(arguments, words):
    with pytest.raises(InvalidValue, match=words):
        Score(*arguments)


def test_a_measure_that_gives_something_else_than_one_value_a_sample_is_refused():
    store = ScoreStore.create(None, 3, [Score("mine", lambda loss: loss.mean(), Last())])
    with pytest.raises(InvalidValue, match=r"mine: \(\) values for \(2,\) rows; one value a row is needed"):
        store.update([0, 1], loss=np.ones(2))
