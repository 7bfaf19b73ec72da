"""How far rankings agree, since when one stands still, and rows by rank."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.ranking import by_rank, history, settled, stability
from adaptive_sampler.scoring import Loss
from tests.stores import scored

SCORES = st.one_of(st.sampled_from([0.0, 1.0, 2.0, np.inf]), st.floats(-9, 9, width=32))


@given(st.integers(2, 40).flatmap(lambda n: arrays(np.float32, (2, n), elements=SCORES)))
def test_the_correlation_is_scipys(both: np.ndarray) -> None:
    stats = pytest.importorskip("scipy.stats")
    if (both == both[:, :1]).all(1).any():
        assert np.isnan(stability(*both).spearman)
    else:
        assert stability(*both).spearman == pytest.approx(stats.spearmanr(*both).statistic, abs=1e-12)


def test_doubles_that_differ_only_beyond_float32_are_ranked() -> None:
    a = 1 + np.arange(5) * 1e-12
    assert stability(a, a[::-1]).spearman == -1


def test_worked_numbers() -> None:
    """Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: 1 − 6 · ½ / 60 without the correction for ties; 0.9487 with it."""
    found = stability([1, 2, 2, 3], [1, 2, 3, 4], keep=2)
    assert found.spearman == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert found.kept in (0.5, 1.0)  # whichever of the two equal ones is kept


@given(
    st.integers(2, 40).flatmap(lambda n: arrays(np.float32, (2, n), elements=st.floats(-9, 9, width=32), unique=True)),
    st.floats(0.2, 1),
    st.sampled_from(["highest", "lowest"]),
)
def test_the_kept_share_is_that_of_the_rows_which_both_sets_have(both: np.ndarray, keep: float, order: Any) -> None:
    n = both.shape[1]
    size = int(np.floor(keep * n + 0.5))
    if size == 0:
        return
    ranked = [np.argsort(scores) if order == "lowest" else np.argsort(-scores) for scores in both]
    common = set(ranked[0][:size]) & set(ranked[1][:size])
    assert stability(*both, keep=keep, order=order).kept == len(common) / size


def test_among_equal_scores_both_keep_the_same_rows() -> None:
    scores = np.arange(100) // 50
    assert stability(scores, scores * 2.0, keep=0.25).kept == 1
    rows = stability(np.zeros(100), scores, keep=0.25)
    assert 0 < rows.kept < 1


def test_rows_without_both_scores_are_left_out_and_named() -> None:
    a, b = np.array([1, np.nan, 3, 4, np.nan]), np.array([1, 2, np.nan, 0, np.nan])
    found = stability(a, b, keep=1.0)
    assert (found.rows, found.left_out.tolist()) == (2, [1, 2, 4])
    assert found.spearman == -1
    assert "3 left out" in str(found)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([1, 2], [1, 2, 3], "first has 2 rows, second 3"),
        ([1, np.nan], [np.nan, 2], "0 of 2 rows have both scores"),
        ([[1, 2]], [[1, 2]], r"first has dtype int64 and shape \(1, 2\)"),
        (["a", "b"], [1, 2], "first has dtype"),
        ([1, 2], [1j, 2], "second has dtype complex128"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: Any, b: Any, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        stability(a, b)


def test_a_share_that_keeps_no_row_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"keep=0\.1 keeps none of 3 rows"):
        stability([1, 2, 3], [1, 2, 3], keep=0.1)
    with pytest.raises(InvalidValue, match="keep=0"):
        stability([1, 2, 3], [1, 2, 3], keep=0.0)


def test_stores_are_compared_by_a_score() -> None:
    one, other = scored([1, 2, 3, 4]), scored([4, 3, 2, 1])
    assert stability(one, other, by="loss").spearman == -1
    assert stability(one, other["loss"], by="loss").spearman == -1
    with pytest.raises(InvalidValue, match="first is a store: say by which"):
        stability(one, other)


def test_stores_of_other_keys_are_refused_by_row() -> None:
    stores = [ScoreStore.create(None, 3, [Loss()], keys=keys) for keys in (["a", "b", "c"], ["a", "c", "b"])]
    for store in stores:
        store.fold("loss", [0, 1, 2], [1, 2, 3])
    with pytest.raises(InvalidValue, match="row 1 has another key in the second store"):
        stability(*stores, by="loss")
    first, second = stores
    aligned = second["loss"][second.rows([first.key(row) for row in range(3)])]
    assert stability(first["loss"], aligned).spearman == pytest.approx(0.5)


def committed(path: Path, scores: list[Any]) -> Path:
    with ScoreStore.create(path, len(scores[0]), [Loss()]) as store:
        store.commit("nothing yet")
        for epoch, values in enumerate(scores):
            store.fold("loss", np.arange(len(values)), values, epoch=epoch)
            store.commit()
    return path


def test_history_is_every_commit_with_scores(tmp_path: Path) -> None:
    path = committed(tmp_path / "store", [[3, 2, 1], [1, 2, 3]])
    assert [(epoch, scores.tolist()) for epoch, scores in history(path, "loss")] == [(0, [3, 2, 1]), (1, [1, 2, 3])]
    with pytest.raises(UnknownName):
        list(history(path, "el2n"))


def test_the_history_of_an_older_version_ends_with_it(tmp_path: Path) -> None:
    path = committed(tmp_path / "store", [[3, 2, 1], [1, 2, 3], [2, 1, 3]])
    with ScoreStore.open(path, version=3, mode="r") as store:  # the first is without scores
        assert [scores.tolist() for _, scores in history(store, "loss")] == [[3, 2, 1], [1, 2, 3]]


def test_a_ranking_has_settled_once_it_is_nearly_the_last_one(tmp_path: Path) -> None:
    told = [[4, 3, 2, 1], [1, 2, 3, 4], [4, 3, 2, 1], [1, 3, 2, 4], [1, 2, 3, 4], [2, 4, 6, 8]]
    path = committed(tmp_path / "store", told)
    assert settled(history(path, "loss"), correlation=1.0) == 4
    assert settled(history(path, "loss"), correlation=0.8) == 3  # the second is like the last, and then it changed


def test_a_ranking_that_only_the_last_epoch_has_has_not_settled() -> None:
    assert settled([(0, [1, 2, 3]), (5, [3, 2, 1])]) is None
    assert settled([(0, [0, 0, 0]), (5, [3, 2, 1])]) is None  # equal scores are no ranking


def test_several_commits_of_the_last_epoch_are_no_sign_that_it_has_settled(tmp_path: Path) -> None:
    path = committed(tmp_path / "store", [[3, 2, 1], [1, 2, 3]])
    with ScoreStore.open(path) as store:
        store.commit("once more")
    assert [epoch for epoch, _ in history(path, "loss")] == [0, 1, 1]
    assert settled(history(path, "loss")) is None


def test_of_several_commits_of_an_epoch_the_last_counts() -> None:
    assert settled([(0, [1, 2, 3]), (0, [3, 2, 1]), (1, [3, 2, 1])], correlation=np.float32(0.9)) == 0  # type: ignore[arg-type]


def test_epochs_that_cannot_be_compared_are_named() -> None:
    told = [(0, [1, 2]), (1, [3, 2, 1]), (2, [3, 2, 1])]
    with pytest.raises(
        InvalidValue, match=r"epoch 0 against epoch 2: first has 2 rows, second 3: .*Or leave that epoch out"
    ):
        settled(told)


def test_a_store_is_no_history_and_an_array_no_store() -> None:
    with pytest.raises(InvalidValue, match=r"pass history\(path, by\)"):
        settled(scored([1, 2, 3]))  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="store is of ndarray"):
        by_rank(np.arange(5.0), "loss", parts=2)  # type: ignore[arg-type]


def test_integers_that_float64_cannot_tell_apart_are_refused() -> None:
    big = 2**53 + np.arange(3)
    with pytest.raises(InvalidValue, match=r"first holds integers beyond 2\*\*53"):
        stability(big, [1, 2, 3])
    assert stability(big - 2, [1, 2, 3]).spearman == 1
    assert stability(2 - big, [1, 2, 3]).spearman == -1


@pytest.mark.parametrize("told", [[], [(0, [1, 2]), (0, [1, 2])], [(0, [1, 2])], [(1, [1, 2]), (0, [1, 2])]])
def test_a_history_without_two_epochs_in_order_is_refused(told: Any) -> None:
    with pytest.raises(InvalidValue, match="at least two are needed, in the order of time"):
        settled(told)
    with pytest.raises(InvalidValue, match=r"correlation=1\.5"):
        settled(told, correlation=1.5)


@pytest.mark.parametrize("parts", [1, 3, 10])
def test_rows_by_rank_are_contiguous_and_all_there(parts: int) -> None:
    scores = np.random.default_rng(0).permutation(97).astype(float)
    found = by_rank(scored(scores), "loss", parts=parts)
    assert {len(rows) for rows in found} <= {97 // parts, 97 // parts + 1}
    assert np.sort(np.concatenate(found)).tolist() == list(range(97))
    assert all((np.diff(rows) > 0).all() for rows in found)
    edges = [(scores[rows].min(), scores[rows].max()) for rows in found]
    assert all(one[1] < other[0] for one, other in pairwise(edges))


def test_rows_never_observed_have_no_rank() -> None:
    found = by_rank(scored([3, np.nan, 1, np.nan, 2]), "loss", parts=3)
    assert [rows.tolist() for rows in found] == [[2], [4], [0]]
    with pytest.raises(InvalidValue, match="3 rows have 'loss', too few for parts=4"):
        by_rank(scored([3, np.nan, 1, np.nan, 2]), "loss", parts=4)


def test_of_equal_scores_no_end_of_the_data_comes_first() -> None:
    first, last = by_rank(scored(np.zeros(1000)), "loss", parts=2)
    assert abs(first.mean() - last.mean()) < 100
