"""Plans drive loaders that are not torch's: as a sequence of rows, in other processes too."""

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, ResumeError, RowError
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.walk.rows import EpochRows

grain = pytest.importorskip("grain.python")


@pytest.fixture
def sampler(tmp_path: Path) -> AdaptiveSampler:
    store = ScoreStore.create(tmp_path / "s", 100, [Loss()])
    store.update(np.arange(100), loss=np.arange(100))
    store.commit()
    return AdaptiveSampler(store, Prune(0.5, by="loss"), seed=3)


class PlanSampler:
    """As docs/frameworks/datasets.md shows it."""

    def __init__(self, rows: EpochRows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        return grain.RecordMetadata(index=i, record_key=self.rows[i])

    def __repr__(self) -> str:
        return f"PlanSampler({self.rows!r})"


@pytest.fixture
def flags() -> None:
    """Grain's workers read absl's flags, which a main program parses."""
    from absl import flags

    flags.FLAGS(["pytest"])


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize("workers", [0, 2])
def test_grain_reads_the_plan_in_order_in_its_workers_too(sampler: AdaptiveSampler, workers: int) -> None:
    rows = sampler.epoch_rows()
    loader = grain.DataLoader(
        data_source=range(1000, 1100), sampler=PlanSampler(rows), shard_options=grain.NoSharding(), worker_count=workers
    )
    assert [record - 1000 for record in loader] == rows[:].tolist()


def test_grain_resumes_within_an_epoch(sampler: AdaptiveSampler) -> None:
    rows = sampler.epoch_rows()
    loader = grain.DataLoader(
        data_source=range(100), sampler=PlanSampler(rows), shard_options=grain.NoSharding(), worker_count=0
    )
    walk = iter(loader)
    first = [next(walk) for _ in range(20)]
    state = walk.get_state()
    again = iter(
        grain.DataLoader(
            data_source=range(100), sampler=PlanSampler(rows), shard_options=grain.NoSharding(), worker_count=0
        )
    )
    again.set_state(state)
    assert first + list(again) == rows[:].tolist()


def test_epoch_rows_are_what_an_iterator_would_draw(sampler: AdaptiveSampler) -> None:
    walked = AdaptiveSampler(sampler.store, sampler.policy, seed=3)
    for epoch in range(2):
        rows = sampler.epoch_rows()
        assert rows[:].tolist() == list(walked)
        assert [rows[i] for i in (0, 7, -1)] == [rows[:][i] for i in (0, 7, -1)]
        assert rows[10:30:3].tolist() == rows[:].tolist()[10:30:3]
        assert rows[::-1].tolist() == rows[:].tolist()[::-1]
        assert (sampler.epoch, sampler.state_dict()["epoch"]) == (epoch, epoch + 1)
    with pytest.raises(RowError, match="position 50 of an epoch of 50 samples"):
        rows[50]


def test_epoch_rows_go_on_where_a_state_was_saved(sampler: AdaptiveSampler) -> None:
    walk = iter(sampler)
    for _ in range(20):
        next(walk)
    again = AdaptiveSampler(sampler.store, sampler.policy, seed=3)
    again.load_state_dict(sampler.state_dict())
    assert again.epoch_rows()[:].tolist() == list(walk)


def test_they_pickle_as_a_path_and_a_plan(sampler: AdaptiveSampler) -> None:
    rows = sampler.epoch_rows()
    assert len(pickle.dumps(rows)) < 1000
    assert pickle.loads(pickle.dumps(rows))[:].tolist() == rows[:].tolist()


def _draw(sampler: AdaptiveSampler, answers: Any) -> None:
    answers.put(list(sampler))
    try:
        list(sampler)
    except ResumeError as error:
        answers.put(str(error))


def test_a_worker_reads_the_plan_and_cannot_make_one(sampler: AdaptiveSampler) -> None:
    rows = list(sampler)
    context = multiprocessing.get_context("spawn")
    answers: Any = context.SimpleQueue()
    worker = context.Process(target=_draw, args=(sampler, answers))
    worker.start()
    assert answers.get() == rows
    assert "asks for a new plan" in answers.get()
    worker.join()


def test_blocks_are_not_known_at_once(sampler: AdaptiveSampler) -> None:
    blocked = AdaptiveSampler(sampler.store, sampler.policy, replan=2)
    with pytest.raises(InvalidValue, match="replan=2: an epoch known at once has one plan"):
        blocked.epoch_rows()
