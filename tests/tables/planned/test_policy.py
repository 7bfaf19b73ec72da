"""`Planned` gives a store the plan of a table: by keys or row numbers, in samplers, on ranks, in streams, after a resume."""

import pickle
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="PyArrow reads these files")

from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, ResumeError, RowError, StoreDamaged, UnknownName
from adaptive_sampler.plan import Plan
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.selection.base import describe
from adaptive_sampler.tables import PlanFolder, Planned
from adaptive_sampler.testing import check_policy
from tests.tables.planned.folders import InMemory, Line, written

KEYS = ["a", "b", "c", "d", "e", "f"]
LINES = [Line("e", 2, 0.5)], [], [Line("b"), Line("c", 3, 2.0)]
VISITED = {1: 1, 2: 3, 4: 2}


def keyed(keys: list[str] | None = None) -> ScoreStore:
    keys = KEYS if keys is None else keys
    return ScoreStore.create(None, len(keys), [Loss()], keys=keys)


def planned(store: ScoreStore, policy: Planned) -> Plan:
    return policy.plan(store, epoch=3, seed=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "plan", *LINES)


def test_keys_become_rows_with_their_repeats_and_weights(folder: Path) -> None:
    plan = planned(keyed(), Planned(folder))
    assert plan.repeats.tolist() == [0, 1, 3, 0, 2, 0]
    assert plan.loss_weights.tolist() == [0, 1, 2, 0, 0.5, 0]


def test_what_is_not_written_plans_as_its_folder_does(folder: Path) -> None:
    store = keyed()
    assert planned(store, Planned(InMemory(*LINES))).id == planned(store, Planned(folder)).id
    assert planned(store, Planned(PlanFolder(folder))).id == planned(store, Planned(folder)).id


def test_a_plan_by_row_numbers_is_found_in_a_store_with_keys_and_in_one_without(tmp_path: Path) -> None:
    policy = Planned(written(tmp_path / "plan", [Line(5), Line(0, 2)]))
    for store in (keyed(), ScoreStore.create(None, 6, [Loss()])):
        assert planned(store, policy).repeats.tolist() == [2, 0, 0, 0, 0, 1]


@settings(max_examples=25)
@given(data=st.data())
def test_it_is_what_a_dict_of_the_lines_says(data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=30, unique=True))
    lines = data.draw(
        st.lists(
            st.builds(Line, st.sampled_from(keys), st.integers(1, 400), st.sampled_from([0.5, 1.0, 3.0])),
            unique_by=lambda line: line.key,
            min_size=1,
        )
    )
    cut = data.draw(st.integers(0, len(lines)))
    plan = planned(keyed(keys), Planned(InMemory(lines[:cut], lines[cut:])))
    by_key = {line.key: line for line in lines}
    assert plan.repeats.tolist() == [by_key[key].repeats if key in by_key else 0 for key in keys]
    assert plan.loss_weights.tolist() == [by_key[key].weight if key in by_key else 0 for key in keys]


# -- what does not fit --------------------------------------------------------------------------------------------------


def test_the_first_key_that_the_store_has_not_is_named_and_can_be_skipped(folder: Path) -> None:
    store = keyed(["a", "b", "c", "z"])
    with pytest.raises(UnknownName, match=r"key 'e' of plan 0123456789abcdef is not in the store, which has 4 rows"):
        planned(store, Planned(folder))
    assert planned(store, Planned(folder, missing="skip")).repeats.tolist() == [0, 1, 3, 0]


def test_what_is_skipped_takes_no_weight_along() -> None:
    lines = [Line("gone", 2, 0.5), Line("b", 3, 4.0), Line("lost", 5, 0.25), Line("a", 1, 2.0)]
    plan = planned(keyed(), Planned(InMemory(lines), missing="skip"))
    assert plan.repeats.tolist() == [1, 3, 0, 0, 0, 0]
    assert plan.loss_weights.tolist() == [2, 4, 0, 0, 0, 0]


def test_the_first_row_that_the_store_has_not_is_named_and_can_be_skipped() -> None:
    plan, store = InMemory([Line(1, 2), Line(9)]), ScoreStore.create(None, 9, [Loss()])
    with pytest.raises(RowError, match=r"row 9 of plan .* is not in the store, which has 9 rows"):
        planned(store, Planned(plan))
    assert planned(store, Planned(plan, missing="skip")).num_samples == 2


def test_a_store_that_has_none_of_the_keys_is_refused_though_they_may_be_missing(folder: Path) -> None:
    with pytest.raises(InvalidValue, match=r"no line of plan .* is in the store, such as key 'e'"):
        planned(keyed(["x"]), Planned(folder, missing="skip"))


def test_a_store_without_keys_says_that_the_plan_has_them(folder: Path) -> None:
    with pytest.raises(InvalidValue, match="the plan names samples by keys, and the store has none"):
        planned(ScoreStore.create(None, 6, [Loss()]), Planned(folder))


@pytest.mark.parametrize("partitions", [([Line("a"), Line("b"), Line("a")],), ([Line("a")], [Line("b"), Line("a")])])
def test_a_key_that_comes_twice_is_damage(partitions: tuple[list[Line], ...]) -> None:
    with pytest.raises(StoreDamaged, match="key 'a' comes twice in plan"):
        planned(keyed(), Planned(InMemory(*partitions)))


def test_a_plan_that_visits_nothing_is_refused() -> None:
    with pytest.raises(InvalidValue, match="no line of plan 0123456789abcdef is in the store: it"):
        planned(keyed(), Planned(InMemory([], [])))


@pytest.mark.parametrize("source", [None, 3, Prune(0.5, "loss")])
def test_what_is_no_plan_is_refused(source: object) -> None:
    with pytest.raises(
        InvalidValue, match=r"pass what plan_table returned, or the folder that plan.write\(folder\) made"
    ):
        Planned(source)


def test_missing_is_raise_or_skip(folder: Path) -> None:
    with pytest.raises(InvalidValue, match="missing='ignore': one of 'raise', 'skip'"):
        Planned(folder, missing="ignore")  # type: ignore[arg-type]


# -- what a policy owes -------------------------------------------------------------------------------------------------


def test_it_keeps_the_contract_of_policies(folder: Path) -> None:
    check_policy(Planned(folder), keyed())


def test_it_is_described_by_the_plans_id_wherever_the_folder_lies(folder: Path) -> None:
    described = describe(Planned(folder))
    assert described == {"kind": "Planned", "plan_id": "0123456789abcdef", "missing": "raise"}
    assert describe(Planned(folder.rename(folder.with_name("moved")))) == described


def test_it_is_pickled(folder: Path) -> None:
    store, policy = keyed(), Planned(folder)
    here = planned(store, policy)
    assert planned(store, pickle.loads(pickle.dumps(policy))).id == here.id


def test_it_is_composed_with_other_policies(folder: Path) -> None:
    store = keyed()
    store.fold("loss", range(6), range(6))
    assert (Planned(folder) & Prune(2, "loss")).plan(store, epoch=0, seed=0).repeats.tolist() == [0, 0, 0, 0, 2, 0]


def test_the_folder_is_read_once_for_a_store_and_again_for_keys_that_were_added(tmp_path: Path) -> None:
    policy = Planned(written(tmp_path / "plan", [Line("a"), Line("new")]), missing="skip")
    store = keyed()
    assert planned(store, policy).num_rows == 1
    (tmp_path / "plan" / "00000000.parquet").rename(tmp_path / "elsewhere")
    assert planned(store, policy).num_rows == 1
    (tmp_path / "elsewhere").rename(tmp_path / "plan" / "00000000.parquet")
    store.grow(7, ["new"])
    assert planned(store, policy).rows.tolist() == [0, 6]
    assert planned(keyed(["new"]), policy).rows.tolist() == [0]


# -- in what walks a plan -----------------------------------------------------------------------------------------------


def test_a_sampler_walks_it_epoch_after_epoch_in_another_order(folder: Path) -> None:
    sampler = AdaptiveSampler(keyed(), Planned(folder))
    epochs = [list(sampler) for _ in range(4)]
    assert all(Counter(rows) == VISITED for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) > 1


def test_a_training_goes_on_from_its_state_where_the_folder_lies_elsewhere(folder: Path) -> None:
    store = keyed()
    sampler = AdaptiveSampler(store, Planned(folder))
    walk = iter(sampler)
    first = [next(walk) for _ in range(2)]
    state = sampler.state_dict()
    again = AdaptiveSampler(store, Planned(folder.rename(folder.with_name("moved"))))
    again.load_state_dict(state)
    rest = list(again)
    assert Counter(first + rest) == VISITED
    assert rest == list(walk)


def test_the_state_of_another_plan_is_refused(folder: Path) -> None:
    store = keyed()
    sampler = AdaptiveSampler(store, Planned(folder))
    next(iter(sampler))
    other = AdaptiveSampler(store, Planned(InMemory([Line("a")], plan_id="f" * 16)))
    with pytest.raises(ResumeError, match="0123456789abcdef"):
        other.load_state_dict(sampler.state_dict())


def test_ranks_share_it_out(folder: Path) -> None:
    pytest.importorskip("torch")
    from adaptive_sampler import torch

    store, rows = keyed(), []
    for rank in range(2):
        shared = torch.DistributedAdaptiveSampler(AdaptiveSampler(store, Planned(folder)), num_replicas=2, rank=rank)
        rows += list(shared)
    assert Counter(rows) == VISITED


def test_a_map_style_dataset_by_key_gives_what_is_planned_with_its_rows(folder: Path) -> None:
    pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    from adaptive_sampler.torch import IndexedDataset

    store = keyed()
    dataset = IndexedDataset([f"sample {key}" for key in KEYS], store)
    loader = DataLoader(dataset, batch_size=None, sampler=AdaptiveSampler(store, Planned(folder)), num_workers=1)
    assert Counter((int(row), sample) for row, sample in loader) == {
        (row, f"sample {KEYS[row]}"): times for row, times in VISITED.items()
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_planned_shards_read_the_samples_whose_keys_are_planned(tmp_path: Path, workers: int) -> None:
    pytest.importorskip("webdataset")
    from adaptive_sampler import webdataset as shards
    from tests.shards.tars import index_of

    index = index_of(tmp_path, [5, 4])
    lines = [Line(index.keys[row], times, 0.5) for row, times in ((2, 1), (4, 3), (8, 1))]
    folder = written(tmp_path / "plan", lines[:2], [*lines[2:], Line("of a shard that is not here")])
    store = ScoreStore.create(None, len(index), [Loss()], keys=index.keys)
    planned = shards.PlannedShards(index, AdaptiveSampler(store, Planned(folder, missing="skip")))
    read = [*planned.loader(batch_size=None, num_workers=workers)]
    assert Counter(sample["__index__"] for sample in read) == {2: 1, 4: 3, 8: 1}
    assert {sample["__loss_weight__"] for sample in read} == {0.5}
    assert planned.counts.bytes_read < sum(Path(url).stat().st_size for url in index.urls)
