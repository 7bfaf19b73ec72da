"""What is watched of a store, a plan and a hook: each number by the slow, obvious computation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.loggers import Logger, Summary, summarize
from adaptive_sampler.loggers import summary as module
from adaptive_sampler.scoring import EL2N, Forgetting, Loss
from adaptive_sampler.selection import Draw, KeepAll, Prune
from tests.stores import scored

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


class Hook:
    """What a hook tells of itself."""

    skipped, effective_samples = 3, 41.5

    def flush(self) -> None:
        pass


def begun(store: ScoreStore, policy: Any, **settings: Any) -> AdaptiveSampler:
    """A sampler in its first epoch."""
    sampler = AdaptiveSampler(store, policy, **settings)
    list(sampler)
    return sampler


# -- scores --------------------------------------------------------------------------------------------------------------


@given(st.lists(FLOATS, min_size=1, max_size=60), st.integers(1, 70))
def test_a_histogram_is_that_of_numpy(values: list[float], bins: int) -> None:
    store = scored(values)
    found = summarize(store, bins=bins).histograms["scores/loss"]
    if len(set(values)) > 1 or abs(values[0]) < 1e6:
        counts, edges = np.histogram(np.array(values, np.float64), bins)
        np.testing.assert_array_equal(found.counts, counts)
        np.testing.assert_array_equal(found.edges, edges)
    exact = np.array(values, np.float32).astype(np.float64)
    assert (found.num, found.min, found.max) == (len(values), exact.min(), exact.max())
    assert found.sum == pytest.approx(exact.sum(), rel=1e-9, abs=1e-9 * np.abs(exact).sum())
    assert found.sum_squares == pytest.approx(np.square(exact).sum(), rel=1e-9)


@pytest.mark.parametrize("value", [0, 1, 2.0**50, -3.4028234663852886e38, 1e-45])
def test_equal_values_lie_in_the_middle_of_their_bins(value: float) -> None:
    found = summarize(scored([value] * 5), bins=5).histograms["scores/loss"]
    assert found.counts.tolist() == [0, 0, 5, 0, 0]
    assert found.edges[0] < value < found.edges[-1]


def test_rows_that_were_never_observed_are_in_no_number_but_in_the_observed_share() -> None:
    found = summarize(scored([1, np.nan, 3, np.nan]))
    assert found.scalars["scores/loss/observed"] == 0.5
    assert found.scalars["scores/loss/mean"] == 2
    assert found.histograms["scores/loss"].num == 2


def test_a_score_that_was_never_observed_has_its_observed_share_alone() -> None:
    found = summarize(ScoreStore.create(None, 4, [Loss(), EL2N()]))
    assert found == Summary({"scores/loss/observed": 0, "scores/el2n/observed": 0}, {})


def test_a_store_without_scores_has_nothing_to_watch() -> None:
    assert summarize(ScoreStore.create(None, 4, [])) == Summary()


def test_infinite_values_are_counted_and_in_no_mean_or_histogram() -> None:
    store = ScoreStore.create(None, 4, [Forgetting()])  # infinite where it was never learned
    store.fold("forgetting", [0, 1, 2], [1, 1, 0])
    found = summarize(store)
    assert found.scalars["scores/forgetting/infinite"] == 2
    assert found.scalars["scores/forgetting/mean"] == 0
    assert found.histograms["scores/forgetting"].num == 1


def test_a_score_of_infinite_values_alone_has_no_mean_and_no_histogram() -> None:
    store = ScoreStore.create(None, 4, [Forgetting()])
    store.fold("forgetting", [0, 1], [1, 1])
    found = summarize(store, quantiles=(0.5,))
    assert found.histograms == {}
    assert {name.rpartition("/")[2] for name in found.scalars} == {"observed", "infinite", "age", "age_max"}


def test_the_age_of_a_score_is_how_many_epochs_ago_its_observed_rows_were_seen() -> None:
    store = scored([1, 2, np.nan, 4], epochs=[1, 3, 0, 6])
    store.epoch = 7
    found = summarize(store).scalars
    assert found["scores/loss/age"] == pytest.approx((6 + 4 + 1) / 3)
    assert found["scores/loss/age_max"] == 6


def test_observations_of_a_run_before_this_one_are_not_younger_than_new() -> None:
    store = scored([1, 2], epochs=[5, 9])
    store.begin_run("second")
    assert summarize(store).scalars["scores/loss/age"] == 0


def test_quantiles_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(size=501).astype(np.float32)
    found = summarize(scored(values), quantiles=(0.05, 0.5, 0.95)).scalars
    for name, quantile in (("p05", 0.05), ("p50", 0.5), ("p95", 0.95)):
        assert found[f"scores/loss/{name}"] == pytest.approx(np.quantile(values, quantile))


def test_blocks_on_disk_give_what_memory_gives_and_stay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ScoreStore.create(tmp_path / "s", 1000, [Loss(), Forgetting()])
    store.update(np.arange(900), loss=np.arange(900) % 37, logits=np.eye(900)[:, :5], labels=np.arange(900) % 5)
    whole = summarize(store, quantiles=(0.5,))
    store.commit()
    store.close()
    monkeypatch.setattr(module, "_AT_ONCE", 64)
    with ScoreStore.open(tmp_path / "s", mode="r") as reader:
        parts = summarize(reader, quantiles=(0.5,))
        assert all(book.on_disk for book in reader.session.table.books)
    assert parts.scalars == pytest.approx(whole.scalars)
    for name, found in whole.histograms.items():
        np.testing.assert_array_equal(parts.histograms[name].counts, found.counts)


# -- plans ---------------------------------------------------------------------------------------------------------------


def test_the_kept_share_and_the_length_are_those_of_the_epochs_plan() -> None:
    store = scored(np.arange(10))
    sampler = begun(store, Prune(4, "loss"), num_samples=12)
    found = summarize(store, sampler).scalars
    assert (found["sampler/kept"], found["sampler/samples"]) == (0.4, 12)


def test_an_epoch_that_has_not_begun_has_no_kept_share_and_gets_no_plan() -> None:
    sampler = AdaptiveSampler(scored(np.arange(10)), Prune(4, "loss"))
    assert not any(name.startswith("sampler") for name in summarize(sampler.store, sampler).scalars)
    assert sampler.fixed_plan is None


def test_a_batch_sampler_tells_of_the_sampler_in_it() -> None:
    store = scored(np.arange(10))
    batches = AdaptiveSampler(store, Prune(4, "loss")).batches(2)
    list(batches)
    assert summarize(store, batches).scalars["sampler/kept"] == 0.4


def test_what_is_no_sampler_of_ours_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"sampler=\[1\] is none of ours: pass the AdaptiveSampler"):
        summarize(scored([1]), [1])


@pytest.mark.parametrize(
    "labels",
    [
        [0, 0, 1, 1, 7, 7, 7, 7],
        list("aabbcccc"),
        [True] * 2 + [False] * 6,
        np.array(list("aabbcccc"), object),  # a column of pandas
    ],
)
def test_the_kept_share_of_each_class_is_that_of_its_rows(labels: list[Any]) -> None:
    store = scored([1, 9, 2, 3, 8, 7, 6, 0])
    sampler = begun(store, Prune(4, "loss"))  # rows 1, 4, 5, 6
    found = summarize(store, sampler, labels=labels).scalars
    kept = np.isin(np.arange(8), [1, 4, 5, 6])
    shares = {f"kept_of_class/{name}": kept[np.array(labels) == name].mean() for name in set(labels)}
    assert {name: value for name, value in found.items() if name.startswith("kept_of_class/")} == shares
    assert found["sampler/kept_of_class_min"] == min(shares.values())
    assert found["sampler/kept_of_class_max"] == max(shares.values())


def test_a_plan_of_everything_keeps_all_of_each_class() -> None:
    store = scored([1, 2, 3])
    assert summarize(store, begun(store, KeepAll()), labels=[0, 1, 1]).scalars["kept_of_class/1"] == 1


def test_rows_that_came_after_the_plan_are_not_kept() -> None:
    store = scored([1, 2, 3])
    sampler = begun(store, KeepAll())
    store.grow(9)
    found = summarize(store, sampler, labels=[0, 0, 0] + [1] * 6).scalars
    assert (found["kept_of_class/0"], found["kept_of_class/1"], found["sampler/kept"]) == (1, 0, pytest.approx(1 / 3))


def test_of_very_many_classes_only_the_least_and_the_most_kept_one_are_told() -> None:
    store = scored(np.arange(300))
    found = summarize(store, begun(store, Draw("loss")), labels=np.arange(300) // 2).scalars
    assert not any(name.startswith("kept_of_class/") for name in found)
    assert (found["sampler/kept_of_class_min"], found["sampler/kept_of_class_max"]) == (0, 1)


def test_without_labels_those_that_hooks_have_seen_tell_the_classes() -> None:
    store = scored([1, 9, 2, 3])
    sampler = begun(store, Prune(2, "loss"))  # rows 1 and 3
    store.session.classes.note(np.arange(3), np.array([5, 5, 6]), 4)  # row 3 was not seen
    found = summarize(store, sampler).scalars
    assert (found["kept_of_class/5"], found["kept_of_class/6"]) == (0.5, 0)


def test_bins_below_one_are_refused() -> None:
    with pytest.raises(InvalidValue, match="bins=0"):
        summarize(scored([1]), bins=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], r"labels has 2 rows, the store has 3: pass one label for each row"),
        ([0.5, 1, 2], r"labels has shape \(3,\) and dtype float64: one integer, bool or string"),
        ([[0], [1], [2]], r"labels has shape \(3, 1\)"),
    ],
)
def test_labels_that_are_not_one_for_each_row_are_refused(labels: Any, message: str) -> None:
    store = scored([1, 2, 3])
    with pytest.raises(InvalidValue, match=message):
        summarize(store, begun(store, Prune(2, "loss")), labels=labels)


# -- hooks ---------------------------------------------------------------------------------------------------------------


def test_a_hook_tells_what_it_skipped_and_its_effective_samples() -> None:
    assert summarize(scored([1]), hook=Hook()).scalars.items() >= {
        ("hook/skipped", 3),
        ("hook/effective_samples", 41.5),
    }


def test_the_one_hook_that_records_into_the_store_need_not_be_named() -> None:
    store, hook = scored([1]), Hook()
    store.session.register(hook)
    assert summarize(store).scalars["hook/skipped"] == 3
    store.session.register(other := Hook())
    assert "hook/skipped" not in summarize(store).scalars, "of two it is not known which is meant"
    assert summarize(store, hook=other).scalars["hook/skipped"] == 3


# -- a tool of one's own ---------------------------------------------------------------------------------------------------


class Mine(Logger):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.seen: list[tuple[int, Summary]] = []

    def write(self, summary: Summary, step: int) -> None:
        self.seen.append((step, summary))


def test_a_tool_of_ones_own_gets_the_summary_and_the_step() -> None:
    store, mine = scored([1, 2, 3, 4]), Mine(labels=[0, 0, 1, 1], bins=5)
    sampler = begun(store, Prune(2, "loss"))
    mine.log(store, sampler, step=12)
    ((step, summary),) = mine.seen
    assert step == 12
    assert summary.scalars == summarize(store, sampler, labels=[0, 0, 1, 1]).scalars
    assert len(summary.histograms["scores/loss"].counts) == 5


def test_without_a_step_it_is_the_stores_epoch() -> None:
    store, mine = scored([1]), Mine()
    store.epoch = 8
    mine.log(store)
    assert mine.seen[0][0] == 8


@pytest.mark.parametrize("step", [-1, 1.5, "3"])
def test_a_step_that_is_no_whole_number_is_refused(step: Any) -> None:
    with pytest.raises(InvalidValue, match="step="):
        Mine().log(scored([1]), step=step)


def test_a_rank_that_does_not_write_the_store_logs_nothing(tmp_path: Path) -> None:
    with ScoreStore.create(tmp_path / "s", 3, [Loss()]) as store:
        store.commit()
        other, mine = ScoreStore.open(tmp_path / "s", mode="journal"), Mine()
        mine.log(other)
        assert mine.seen == []
        mine.log(store)
        assert len(mine.seen) == 1


def test_logging_changes_nothing_of_the_store_and_the_walk() -> None:
    store = scored(np.arange(50))
    sampler = AdaptiveSampler(store, Prune(0.5, "loss"), seed=3)
    walk = iter(sampler)
    next(walk)
    before = sampler.state_dict(), store.made_from, store["loss"].copy()
    Mine().log(store, sampler)
    assert (sampler.state_dict(), store.made_from) == before[:2]
    np.testing.assert_array_equal(store["loss"], before[2])
