"""How steady a store's ranking is, from run to run and from commit to commit."""

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import ScoreStore, ranking
from adaptive_sampler.choice import stability
from adaptive_sampler.errors import InvalidValue, UnknownName
from adaptive_sampler.scoring import Loss, Mean

ROWS = 40
SCORES = np.random.default_rng(0).random((4, ROWS)).astype(np.float32).cumsum(axis=0)  # which settle slowly


def of_runs(runs: np.ndarray) -> ScoreStore:
    store = ScoreStore.create(None, ROWS, [Loss(fold=Mean())], runs="kept")
    for i, scores in enumerate(runs):
        store.begin_run(f"run {i}")
        store.update(range(ROWS), loss=scores)
    return store


def of_commits(path: Path, epochs: np.ndarray) -> ScoreStore:
    store = ScoreStore.create(path, ROWS, [Loss()])
    for epoch, scores in enumerate(epochs):
        store.update(range(ROWS), loss=scores, epoch=epoch)
        store.commit()
    return store


def test_across_runs_each_is_compared_with_each_other_one() -> None:
    found = stability(of_runs(SCORES), "loss", keep=0.3)
    expected = [ranking.stability(a, b, keep=0.3) for a, b in combinations(SCORES, 2)]
    assert list(found.pairs) == [(f"run {i}", f"run {j}") for i, j in combinations(range(4), 2)]
    assert found.spearman == pytest.approx(np.mean([one.spearman for one in expected]))
    assert found.kept == pytest.approx(np.mean([one.kept for one in expected]))


def test_across_runs_it_has_settled_once_the_mean_of_so_many_is_nearly_that_of_all() -> None:
    means = [(k, SCORES[:k].mean(axis=0)) for k in range(1, 5)]
    for correlation in (0.5, 0.8, 0.9, 0.99, 1.0):
        found = stability(of_runs(SCORES), "loss", correlation=correlation)
        assert found.settled == ranking.settled(means, correlation=correlation)


def test_a_row_counts_in_the_mean_of_the_runs_that_observed_it() -> None:
    store = of_runs(SCORES[:2])
    store.begin_run("half")
    store.update(range(ROWS // 2), loss=SCORES[2, : ROWS // 2])
    half = np.where(np.arange(ROWS) < ROWS // 2, SCORES[:3].mean(axis=0), SCORES[:2].mean(axis=0))
    expected = ranking.settled([(1, SCORES[0]), (2, SCORES[:2].mean(axis=0)), (3, half)], correlation=0.9)
    assert stability(store, "loss", correlation=0.9).settled == expected


def test_across_commits_each_epoch_is_compared_with_the_one_before(tmp_path: Path) -> None:
    found = stability(of_commits(tmp_path / "s.zarr", SCORES), "loss", across="commits", order="lowest")
    expected = [ranking.stability(a, b, order="lowest") for a, b in pairwise(SCORES)]
    assert list(found.pairs) == [(0, 1), (1, 2), (2, 3)]
    assert found.spearman == pytest.approx(np.mean([one.spearman for one in expected]))
    assert found.kept == pytest.approx(np.mean([one.kept for one in expected]))
    assert found.settled == ranking.settled(enumerate(SCORES))


def test_one_run_is_refused_and_a_second_one_helps() -> None:
    store = of_runs(SCORES[:1])
    with pytest.raises(InvalidValue, match=r"1 runs have observed 'loss': two are needed. store.begin_run\(name\)"):
        stability(store, "loss")
    store.begin_run("another")
    store.update(range(ROWS), loss=SCORES[1])
    assert len(stability(store, "loss").pairs) == 1


def test_one_commit_is_refused_and_a_second_one_helps(tmp_path: Path) -> None:
    store = of_commits(tmp_path / "s.zarr", SCORES[:1])
    with pytest.raises(InvalidValue, match=r"1 committed epochs have observed 'loss': two are needed\. Commit"):
        stability(store, "loss", across="commits")
    store.update(range(ROWS), loss=SCORES[1], epoch=1)
    store.commit(keep=None)
    assert len(stability(store, "loss", across="commits").pairs) == 1


def test_a_store_whose_runs_are_not_kept_apart_is_refused() -> None:
    store = ScoreStore.create(None, ROWS, [Loss()])
    store.update(range(ROWS), loss=SCORES[0])
    with pytest.raises(InvalidValue, match="kept"):
        stability(store, "loss")


def test_a_score_that_the_store_lacks_is_refused() -> None:
    with pytest.raises(UnknownName):
        stability(of_runs(SCORES), "el2n")


def test_another_way_across_is_refused() -> None:
    with pytest.raises(InvalidValue, match="across='versions'"):
        stability(of_runs(SCORES), "loss", across="versions")  # type: ignore[arg-type]


def test_rows_that_a_store_got_later_count_from_then_on(tmp_path: Path) -> None:
    store = of_commits(tmp_path / "s.zarr", SCORES[:1])
    store.grow(ROWS + 2)
    store.update(range(ROWS + 2), loss=[*SCORES[1], 0.5, 0.7], epoch=1)
    store.commit(keep=None)
    found = stability(store, "loss", across="commits")
    assert found.spearman == pytest.approx(ranking.stability(SCORES[0], SCORES[1]).spearman)


def test_commits_are_read_through_the_store_wherever_it_lies() -> None:
    store = ScoreStore.create(None, ROWS, [Loss()])
    for epoch, scores in enumerate(SCORES[:2]):
        store.update(range(ROWS), loss=scores, epoch=epoch)
        store.commit()
    assert list(stability(store, "loss", across="commits").pairs) == [(0, 1)]
