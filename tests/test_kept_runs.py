"""A store that keeps its runs apart has each run's scores, as a store of that run's own would, beside those over all."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, NotFinite, StoreDamaged, StoreError, UnknownName
from adaptive_sampler.ranking import runs, stability
from adaptive_sampler.scoring import EL2N, EMA, Deviation, Forgetting, Last, Loss, Max, Mean, Score
from tests.stores import Lowest

N = 5
SCORES = [
    Loss(),
    *(Loss(name=kind, fold=fold) for kind, fold in (("ema", EMA(0.5)), ("max", Max()), ("last", Last()))),
    Loss(name="spread", fold=Deviation()),
    Forgetting(runs="mean"),
    Score("lowest", lambda loss: loss, Lowest()),
]
UPDATE = st.tuples(st.lists(st.integers(0, N - 1), min_size=1, max_size=6), st.integers(0, 99), st.booleans())
RUNS = st.lists(st.lists(UPDATE, max_size=4), min_size=1, max_size=4)


def fold(store: ScoreStore, update: tuple[list[int], int, bool]) -> None:
    """Losses, and with some updates what is right, so that books are split at different times."""
    rows, seed, forgetting = update
    rng = np.random.default_rng(seed)
    seen = {"logits": rng.normal(size=(len(rows), 2)), "labels": rng.integers(0, 2, len(rows))} if forgetting else {}
    store.update(rows, loss=rng.exponential(size=len(rows)), **seen)


def made(path: Path | None, trainings: list[list[tuple[list[int], int, bool]]], how: str = "kept") -> ScoreStore:
    store = ScoreStore.create(path, N, SCORES, runs=how)
    for run, updates in enumerate(trainings):
        store.begin_run(f"seed {run}")
        for update in updates:
            fold(store, update)
    return store


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert [*one] == [*other]
    for name, scores in one.items():
        np.testing.assert_array_equal(scores, other[name], strict=True)


@given(RUNS)
def test_each_run_has_the_scores_of_a_store_of_its_own_to_the_bit(trainings):
    with made(None, trainings) as store:
        alone = [made(None, [updates], "mean") for updates in trainings]
        for name in store.names:
            same(runs(store, name), {f"seed {i}": own[name] for i, own in enumerate(alone) if own.observed(name)})


@given(RUNS)
def test_the_scores_over_all_runs_are_those_of_a_store_that_keeps_none_apart(trainings):
    with made(None, trainings) as store, made(None, trainings, "mean") as plain:
        for name in plain.names:
            for mine, theirs in ((store[name], plain[name]), (store.count(name), plain.count(name))):
                np.testing.assert_array_equal(mine, theirs, strict=True)


def two(path: Path | str | None = None, **named) -> ScoreStore:
    store = ScoreStore.create(path, 3, [Loss(fold=Mean()), EL2N()], runs="kept", **named)
    for name, value in (("a", 1.0), ("b", 3.0)):
        store.begin_run(name)
        store.fold("loss", [0, 1], [value, 2 * value])
    return store


def test_a_run_that_observed_nothing_is_left_out():
    store = two()
    assert [*runs(store, "loss")] == ["a", "b"]  # not "", which a store begins with
    assert runs(store, "el2n") == {}


def test_rows_that_a_run_never_observed_are_nan_in_it():
    np.testing.assert_array_equal(runs(two(), "loss")["a"], np.float32([1, 2, np.nan]))


def test_observations_before_the_first_named_run_are_a_run_without_a_name():
    store = ScoreStore.create(None, 1, [Loss()], runs="kept")
    store.fold("loss", [0], [1.0])
    store.begin_run("b")
    store.fold("loss", [0], [2.0])
    assert {name: scores.tolist() for name, scores in runs(store, "loss").items()} == {"": [1.0], "b": [2.0]}


def test_two_runs_of_one_store_are_compared_by_stability():
    kept = runs(two(), "loss")
    assert stability(kept["a"], kept["b"]).spearman == 1


# -- what lasts ---------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_where_the_last_commit_left_it(tmp_path):
    with two(tmp_path / "s") as store:
        store.commit()
        store.fold("loss", [0], [100.0])  # lost
    with ScoreStore.open(tmp_path / "s") as store:
        store.begin_run("b")  # what a script that goes on calls again
        store.fold("loss", [0], [5.0])
        assert runs(store, "loss")["b"].tolist()[:2] == [4.0, 6.0]
        assert runs(store, "loss")["a"].tolist()[:2] == [1.0, 2.0]
        store.commit()
    with ScoreStore.open(tmp_path / "s", mode="r") as store:
        assert runs(store, "loss")["b"].tolist()[:2] == [4.0, 6.0]


def test_a_version_has_the_runs_that_it_was_committed_with(tmp_path):
    with two(tmp_path / "s") as store:
        version = store.commit()
        store.begin_run("c")
        store.fold("loss", [2], [1.0])
        store.commit(keep=2)
    with ScoreStore.open(tmp_path / "s", version=version, mode="r") as store:
        assert [*runs(store, "loss")] == ["a", "b"]
    with ScoreStore.open(tmp_path / "s", mode="r") as store:
        assert [*runs(store, "loss")] == ["a", "b", "c"]


def test_a_commit_behind_the_training_takes_the_runs_as_they_were(tmp_path):
    with two(tmp_path / "s") as store:
        pending = store.commit(wait=False)
        store.fold("loss", [2], [9.0])
        store.begin_run("c")
        store.fold("loss", [2], [7.0])
        pending.result()
        assert [*runs(store, "loss")] == ["a", "b", "c"]
    with ScoreStore.open(tmp_path / "s", mode="r") as store:
        np.testing.assert_array_equal(runs(store, "loss")["b"], np.float32([3, 6, np.nan]))


def test_a_commit_that_failed_is_made_up_for_by_the_next(tmp_path, monkeypatch):
    with two(tmp_path / "s") as store:
        with monkeypatch.context() as broken:
            broken.setattr(store.session.files.repository, "commit", lambda *a, **k: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                store.commit()
        store.commit()
    with ScoreStore.open(tmp_path / "s", mode="r") as store:
        assert [scores[0] for scores in runs(store, "loss").values()] == [1, 3]


def test_a_run_is_a_group_of_its_own_for_any_zarr_client(tmp_path):
    zarr = pytest.importorskip("zarr")
    with two(tmp_path / "s") as store:
        store.commit()
    group = zarr.open_group(tmp_path / "s" / f"v{store.version}", mode="r")
    assert group["1/loss/value"][:2].tolist() == [1, 2]  # of store.about["runs"][1]
    assert group["2/loss/count"][:].tolist() == [1, 1, 0]
    assert group["1/loss"].attrs["score"] == group["loss"].attrs["score"]


def test_a_store_that_keeps_none_apart_writes_no_object_of_a_run(tmp_path):
    with ScoreStore.create(tmp_path / "s", 3, [Loss()]) as store:
        store.begin_run("a")
        store.fold("loss", [0], [1.0])
        store.commit()
    assert {path.name for path in (tmp_path / "s" / "v1").iterdir()} == {"loss", "zarr.json"}


# -- what changes a store -----------------------------------------------------------------------------------------------


def test_rows_that_a_store_grows_by_are_unobserved_in_the_runs_before(tmp_path):
    with two(tmp_path / "s") as store:
        store.grow(4)
        store.fold("loss", [3], [8.0])
        store.commit()
    with ScoreStore.open(tmp_path / "s", mode="r") as store:
        np.testing.assert_array_equal(runs(store, "loss")["a"], np.float32([1, 2, np.nan, np.nan]))
        np.testing.assert_array_equal(runs(store, "loss")["b"], np.float32([3, 6, np.nan, 8]))


def test_a_score_that_is_added_is_of_the_runs_from_then_on(tmp_path):
    with two(tmp_path / "s") as store:
        store.add(Loss(name="newest", fold=Last()))
        store.update([0], loss=[4.0])
        store.commit()
    with ScoreStore.open(tmp_path / "s") as store:
        assert [*runs(store, "newest")] == ["b"]
        store.begin_run("c")
        store.update([0], loss=[5.0])
        assert [*runs(store, "newest")] == ["b", "c"]


def test_a_refused_update_changes_no_run():
    store = two()
    with pytest.raises(NotFinite):
        store.fold("loss", [0, 2], [1.0, np.nan])
    np.testing.assert_array_equal(runs(store, "loss")["b"], np.float32([3, 6, np.nan]))


def table(**columns):
    return pytest.importorskip("pyarrow").table(columns)


class Raising(Lowest):
    """Raises where a run's own column is folded, which comes after the one over all runs."""

    calls = 0

    def fold(self, state, rows, values, before):
        super().fold(state, rows, values, before)
        self.calls += 1
        if self.calls == 4:
            raise RuntimeError("of a custom fold")


@pytest.mark.parametrize("how", ["update", "fold_table"])
def test_a_custom_fold_that_raises_in_the_run_is_undone_in_all(how):
    store = ScoreStore.create(None, 2, [Score("low", lambda loss: loss, Raising())], runs="kept")
    store.fold("low", [0, 1], [5.0, 5.0])
    lower = {
        "update": lambda: store.fold("low", [0, 1], [1.0, 1.0]),
        "fold_table": lambda: store.fold_table(table(row=[0, 1], low=[1.0, 1.0]), scores={"low": "low"}),
    }
    with pytest.raises(RuntimeError, match="of a custom fold"):
        lower[how]()
    assert store["low"].tolist() == runs(store, "low")[""].tolist() == [5, 5]
    assert store.count("low").tolist() == [1, 1]


@pytest.mark.parametrize("how", ["update", "fold_table"])
def test_an_update_is_in_no_part_of_a_store_whose_run_is_damaged(tmp_path, how):
    with two(tmp_path / "s") as store:
        version = store.commit()
    (tmp_path / "s" / f"v{version}" / "2" / "loss" / "count" / "c" / "0").unlink()  # of run "b", the current one
    with ScoreStore.open(tmp_path / "s") as store:
        how = {
            "update": lambda: store.fold("loss", [0], [9.0]),
            "fold_table": lambda: store.fold_table(table(row=[0], loss=[9.0]), scores={"loss": "loss"}),
        }[how]
        with pytest.raises(StoreDamaged, match="2/loss/count"):
            how()
        assert store.count("loss").tolist() == [2, 2, 0]
        with pytest.raises(StoreDamaged, match="2/loss/"):
            store.session.digest()


def test_a_table_is_folded_into_the_current_run():
    store = two()
    store.fold_table(table(row=[2, 0], loss=[7.0, 5.0]), scores={"loss": "loss"})
    assert runs(store, "loss")["b"].tolist() == [4, 6, 7]


# -- what is refused ----------------------------------------------------------------------------------------------------


def test_a_store_that_keeps_none_apart_says_how_one_is_made():
    with pytest.raises(
        InvalidValue, match=r"the mean over its runs alone.*ScoreStore.create\(path, n, scores, runs='kept'\)"
    ):
        runs(ScoreStore.create(None, 3, [Loss()]), "loss")


def test_an_unknown_score_is_named():
    with pytest.raises(UnknownName, match="no score 'nothing'"):
        runs(two(), "nothing")


def test_anything_but_a_store_is_refused():
    with pytest.raises(InvalidValue, match="store is of ndarray"):
        runs(np.zeros(3), "loss")


def test_another_word_for_runs_is_refused():
    with pytest.raises(InvalidValue, match="runs='all': one of 'mean', 'kept'"):
        ScoreStore.create(None, 3, [Loss()], runs="all")


@pytest.mark.parametrize(("there", "asked"), [("mean", "kept"), ("kept", "mean")])
def test_a_store_that_is_there_is_not_gone_on_with_the_other_way(tmp_path, there, asked):
    ScoreStore.create(tmp_path / "s", 3, [Loss()], runs=there).close()
    with pytest.raises(InvalidValue, match=f"was made with runs='{there}', asked for was runs='{asked}'"):
        ScoreStore.create(tmp_path / "s", 3, [Loss()], runs=asked, exist_ok=True)
    ScoreStore.create(tmp_path / "s", 3, [Loss()], runs=there, exist_ok=True).close()


def test_a_run_that_has_ended_is_not_gone_on_with():
    with pytest.raises(StoreError, match="run 'a' has ended"):
        two().begin_run("a")
