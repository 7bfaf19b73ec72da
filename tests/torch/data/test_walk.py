"""The walk through real loaders: epochs, lag, resuming in a new process, and states that do not fit."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import InfoBatch, KeepAll, Prune, RandomPrune
from adaptive_sampler.torch import IndexedDataset, PrunedSampler
from adaptive_sampler.torch.data.samplers import AdaptiveSampler as TorchSampler
from tests.torch.training import BATCH, EPOCHS, POLICIES, N, data, new_store, plain, restored, stateful, whole

WORKERS = [(0, None), (1, 2), (2, 2), (2, 4)]


def loader_of(store: ScoreStore, **settings: Any) -> tuple[TorchSampler, DataLoader[Any]]:
    sampler = TorchSampler(store, RandomPrune(0.9))
    return sampler, DataLoader(IndexedDataset(data(len(store)), store), sampler=sampler, batch_size=4, **settings)


# -- epochs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_every_epoch_of_a_plain_loop_is_another_order_of_its_plan(place: Path, workers: int, persistent: bool) -> None:
    sampler, loader = loader_of(new_store(place), num_workers=workers, persistent_workers=persistent and workers > 0)
    epochs = [[row for rows, _ in loader for row in rows.tolist()] for _ in range(3)]
    assert sampler.epoch == 2
    assert len({tuple(rows) for rows in epochs}) == 3
    assert sorted(epochs[2]) == sampler.plan.indices().tolist()


def test_iter_called_twice_on_a_batch_sampler_loses_no_epoch(place: Path) -> None:
    sampler = TorchSampler(new_store(place), KeepAll())
    loader = DataLoader(IndexedDataset(data()), batch_sampler=sampler.batches(BATCH), num_workers=1)
    for epoch in range(3):
        assert sorted(row for rows, _ in loader for row in rows.tolist()) == list(range(N))
        assert sampler.epoch == epoch


def test_set_epoch_to_the_current_epoch_changes_nothing_and_to_another_goes_to_its_beginning(place: Path) -> None:
    sampler = TorchSampler(new_store(place), KeepAll(), seed=1)
    first = list(sampler)
    sampler.set_epoch(0)
    assert (sampler.epoch, sampler.state_dict()["epoch"]) == (0, 1)
    sampler.set_epoch(7)
    seventh = list(sampler)
    assert sampler.epoch == 7
    assert seventh != first
    fresh = TorchSampler(sampler.store, KeepAll(), seed=1)
    fresh.set_epoch(7)
    assert list(fresh) == seventh


def test_set_epoch_to_an_epoch_that_has_begun_walks_it_again(place: Path) -> None:
    """As with torch's samplers: Composer replays epochs so, and Lightning calls iter twice in one."""
    sampler, state = halfway(place)
    sampler.set_epoch(2)
    again = list(sampler)
    assert (sampler.epoch, len(again)) == (2, N)
    resumed = sampler_with(sampler.store, state)
    next(iter(resumed))
    resumed.set_epoch(2)
    assert list(resumed) == again[10:]
    assert resumed.state_dict()["epoch"] == 3


def test_a_loop_that_breaks_begins_the_next_epoch_at_its_beginning(place: Path) -> None:
    sampler, loader = loader_of(new_store(place), num_workers=2)
    for _ in loader:
        break
    assert len([row for rows, _ in loader for row in rows.tolist()]) == len(sampler)
    assert sampler.epoch == 1


def test_length_changes_at_set_epoch_and_never_during_an_epoch(place: Path) -> None:
    store = new_store(place)
    sampler = TorchSampler(store, Prune(0.5, by="loss"), warmup_epochs=1)
    walk = iter(sampler)
    next(walk)
    store.update(np.arange(N), loss=np.arange(N), epoch=0)
    assert len(sampler) == N
    sampler.set_epoch(1)
    assert len(sampler) == N // 2


def test_num_samples_keeps_the_length_constant_while_plans_change(place: Path) -> None:
    sampler = TorchSampler(new_store(place), Prune(0.5, by="loss"), warmup_epochs=1, num_samples=30)
    lengths = [(len(sampler), len(list(sampler))) for _ in range(3)]
    assert lengths == [(30, 30)] * 3
    assert len(set(sampler)) == N // 2  # cycled through its 23 rows


@pytest.mark.parametrize("seeds", [(0, 1), (1, 0)])
def test_epochs_and_seeds_have_independent_orders(place: Path, seeds: tuple[int, int]) -> None:
    """Also where seed + epoch is the same, which aliases in torch's own DistributedSampler."""
    store = ScoreStore.create(place, 400, [Loss()])
    orders = []
    for seed, epoch in (seeds, seeds[::-1]):
        sampler = AdaptiveSampler(store, KeepAll(), seed=seed)
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    same = sum(a == b for a, b in zip(*orders, strict=True))
    assert same < 8  # one is expected; 8 have probability 1e-5
    assert abs(np.corrcoef(orders)[0, 1]) < 0.25


# -- staleness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "prefetch"), WORKERS)
def test_the_sampler_is_ahead_by_workers_times_prefetch_batches(place: Path, workers: int, prefetch: int) -> None:
    sampler, loader = loader_of(new_store(place, 80), num_workers=workers, prefetch_factor=prefetch)
    for k, _ in enumerate(loader, 1):
        drawn = sampler.state_dict()["position"] or len(sampler)
        assert drawn == min(4 * (k + workers * (prefetch or 0)), len(sampler))


@pytest.mark.parametrize(("workers", "prefetch"), WORKERS)
def test_a_score_first_changes_the_block_that_begins_after_the_batches_in_flight(
    place: Path, workers: int, prefetch: int
) -> None:
    """The plan of the block that begins at batch b knows the updates of batches below b − workers · prefetch."""
    store = new_store(place, 80)
    before = store.made_from.updates
    sampler = TorchSampler(store, KeepAll(), replan=2)
    batches = sampler.batches(4)
    loader = DataLoader(IndexedDataset(data(80)), batch_sampler=batches, num_workers=workers, prefetch_factor=prefetch)
    for rows, _ in loader:
        store.update(rows, loss=torch.ones(len(rows)))
    known = [store.plan(plan).made_from.updates - before for plan in plans_of(sampler, 20)]
    ahead = workers * (prefetch or 0)
    assert known == [max(begins - ahead, 0) for begins in range(0, 20, 2)]


def plans_of(sampler: AdaptiveSampler, batches: int) -> list[str]:
    return [sampler.state_dict(delivered=4 * k)["plans"][0] for k in range(0, batches, 2)]


def test_the_plan_recorded_is_the_one_delivered(place: Path) -> None:
    store = new_store(place)
    sampler, loader = loader_of(store, num_workers=2)
    for _ in range(2):
        delivered = [row for rows, _ in loader for row in rows.tolist()]
        store.commit()
        assert sorted(delivered) == store.plan(sampler.plan.id).indices().tolist()


def test_replan_by_blocks_follows_the_scores_within_an_epoch(place: Path) -> None:
    store = new_store(place)
    batches = TorchSampler(store, Prune(0.5, by="loss"), replan=1, shuffle=False).batches(4)
    walk = iter(batches)
    next(walk)
    store.update(np.arange(N), loss=np.where(np.arange(N) >= 40, 1e6, 0), epoch=0)
    store.update(np.arange(N), loss=np.where(np.arange(N) >= 40, 1e6, 0), epoch=0)
    late = [row for batch in walk for row in batch]
    assert set(range(40, 45)) <= set(late)


# -- resuming ---------------------------------------------------------------------------------------------------------

SCRIPT = """
import pickle, sys
from pathlib import Path
from tests.torch.training import POLICIES, resumed, stateful, plain
path, policy, replan, kind, left = sys.argv[1:6]
saved = pickle.loads(Path(path + ".saved").read_bytes())
replan = int(replan) if replan.isdigit() else replan
make = stateful(num_workers=2) if kind == "stateful" else plain(num_workers=2)
again = resumed(Path(path), saved, int(left), POLICIES[policy](), make, replan=replan)
Path(path + ".again").write_bytes(pickle.dumps((again.rows, again.scores())))
"""


@pytest.mark.parametrize(("policy", "replan", "kind"), [("prune", 2, "stateful"), ("draw", "epoch", "plain")])
def test_a_new_process_goes_on_as_if_nothing_had_happened(place: Path, policy: str, replan: Any, kind: str) -> None:
    import pickle

    make = {"stateful": stateful, "plain": plain}[kind](num_workers=2)
    training, saves = whole(place, POLICIES[policy](), make, replan=replan)
    scores, step = training.scores(), 1
    training.store.close()
    Path(f"{place}.saved").write_bytes(pickle.dumps(saves[step]))
    arguments = [str(place), policy, str(replan), kind, str(len(saves) - step - 1)]
    subprocess.run([sys.executable, "-c", SCRIPT, *arguments], check=True)
    rows, again = pickle.loads(Path(f"{place}.again").read_bytes())
    assert rows == training.rows[step + 1 :]
    assert again == scores


@pytest.mark.parametrize("make", [plain, stateful, lambda: stateful(num_workers=2)])
def test_a_training_resumed_twice_in_one_epoch_goes_on_exactly(place: Path, make: Callable[[], Any]) -> None:
    training, saves = whole(place, POLICIES["prune"](), make(), replan=2)
    training.store.close()
    once = restored(place, saves[0], POLICIES["prune"](), make(), replan=2)
    for _ in once.epoch():
        again = once.save()
        break
    assert once.rows == training.rows[1:2]
    once.store.close()
    twice = restored(place, again, POLICIES["prune"](), make(), replan=2)
    for _ in range(EPOCHS):
        for _ in twice.epoch():
            pass
    assert twice.rows[: len(training.rows) - 2] == training.rows[2:]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_saved_in_an_epochs_last_batch_gives_a_pass_of_no_batch_and_then_the_next_epoch(
    place: Path, workers: int
) -> None:
    make = stateful(num_workers=workers)
    training, saves = whole(place, KeepAll(), make)
    training.store.close()
    per_epoch = len(training.rows) // EPOCHS
    again = restored(place, saves[per_epoch - 1], KeepAll(), make)
    passes = [sum(1 for _ in again.epoch()) for _ in range(2)]
    assert passes == [0, per_epoch]
    assert again.rows == training.rows[per_epoch:]
    assert again.sampler.epoch == 1


def test_set_epoch_after_a_load_keeps_the_position_of_the_loaded_epoch(place: Path) -> None:
    sampler, state = halfway(place)
    rest = list(sampler_with(sampler.store, state))
    same = sampler_with(sampler.store, state)
    same.set_epoch(2)
    assert list(same) == rest
    assert len(rest) == N - 10


def test_set_epoch_against_a_loaded_mid_epoch_state_is_refused(place: Path) -> None:
    sampler, state = halfway(place)
    with pytest.raises(ResumeError, match=r"set_epoch\(0\) after loading a state at sample 10 of epoch 2.*at epoch 2"):
        sampler_with(sampler.store, state).set_epoch(0)


def test_set_epoch_while_another_epoch_is_being_walked_raises_at_the_next_draw(place: Path) -> None:
    sampler, _ = halfway(place)
    for walk in (iter(sampler), iter(sampler.batches(4))):
        next(walk)
        sampler.set_epoch(sampler.epoch + 1)
        with pytest.raises(ResumeError, match="rows of two epochs would mix"):
            next(walk)


def test_an_iterator_begun_before_a_load_raises_at_the_next_draw(place: Path) -> None:
    sampler, state = halfway(place)
    walk = iter(sampler)
    next(walk)
    sampler.load_state_dict(state)
    with pytest.raises(ResumeError, match="load_state_dict was called after this iterator began"):
        next(walk)


def test_a_plan_once_made_without_scores_is_not_kept_for_good_by_a_resume(place: Path) -> None:
    store = ScoreStore.create(place, N, [Loss()])
    sampler = PrunedSampler(store, keep=0.5, by="loss")
    walk = iter(sampler)
    next(walk)
    state = sampler.state_dict()
    again = PrunedSampler(store, keep=0.5, by="loss")
    again.load_state_dict(state)
    assert len(list(again)) == N - 1
    store.update(np.arange(N), loss=np.arange(N))
    assert len(list(again)) == N // 2


def test_states_are_small_json_however_many_rows_there_are(place: Path) -> None:
    sizes = []
    for n in (100, 100_000):
        sampler = TorchSampler(ScoreStore.create(None, n, [Loss()]), RandomPrune(0.5), replan=1)
        walk = iter(sampler.batches(8))
        next(walk)
        sizes.append(len(json.dumps(sampler.state_dict())))
    assert sizes[1] - sizes[0] < 10  # the digits of n


# -- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"policy": Prune(0.4, by="loss")}, "saved with policy="),
        ({"seed": 6}, r"saved with seed=5, this sampler has seed=6"),
        ({"shuffle": False}, "saved with shuffle=True"),
        ({"warmup_epochs": 1}, "saved with warmup_epochs=0"),
        ({"replan": "once"}, "saved with replan='epoch'"),
        ({"num_samples": 9}, "saved with num_samples=None"),
    ],
)
def test_the_state_of_another_sampler_is_refused_by_name(place: Path, change: dict[str, Any], says: str) -> None:
    sampler, state = halfway(place)
    with pytest.raises(ResumeError, match=says + ".*Make the sampler as it was"):
        sampler_with(sampler.store, state, **change)


def test_the_state_of_another_store_or_n_is_refused_by_name(place: Path) -> None:
    _, state = halfway(place)
    with pytest.raises(ResumeError, match="saved with store="):
        sampler_with(new_store(None), state)
    sampler, state = halfway(None)
    sampler.store.grow(N + 1)
    with pytest.raises(ResumeError, match=f"saved with n={N}, this sampler has n={N + 1}"):
        sampler_with(sampler.store, state)


def test_the_state_of_another_commit_is_refused_with_the_number_to_open(place: Path) -> None:
    training, saves = whole(place, KeepAll())
    training.store.close()
    for version, step in ((2, 3), (4, 0), (9, 0)):  # older; newer in the same epoch; newer by an epoch
        wanted = json.loads(saves[step]["plain"])["commit"]
        with (
            ScoreStore.open(place, version=version, mode="r") as store,
            pytest.raises(ResumeError, match=rf"open at commit {version}\b.*version=\d+.*commit\(\) returned"),
        ):
            TorchSampler(store, KeepAll(), seed=5).load_state_dict(json.loads(saves[step]["plain"])["walk"])
        assert wanted != version


def test_a_plan_that_the_store_no_longer_has_is_named(place: Path) -> None:
    sampler, state = halfway(place)
    with pytest.raises(ResumeError, match="needs plan 0123456789abcdef"):
        sampler_with(sampler.store, state | {"plans": ["0123456789abcdef"]})


@pytest.mark.parametrize("state", [{}, {"epoch": 3}, {"format": 9}])
def test_what_is_no_state_is_refused(place: Path, state: dict[str, Any]) -> None:
    with pytest.raises(ResumeError, match="no sampler state: it lacks"):
        sampler_with(new_store(place), state)


@pytest.mark.parametrize("delivered", [-1, 11, 2.5])
def test_delivered_is_a_number_between_begun_and_drawn(place: Path, delivered: Any) -> None:
    sampler, _ = halfway(place)
    with pytest.raises(InvalidValue, match="delivered="):
        sampler.state_dict(delivered=delivered)


def test_blocks_of_another_size_are_refused(place: Path) -> None:
    sampler = TorchSampler(new_store(place), KeepAll(), replan=2)
    next(iter(sampler.batches(4)))
    state = sampler.state_dict()
    again = TorchSampler(sampler.store, KeepAll(), replan=2)
    again.load_state_dict(state)
    with pytest.raises(ResumeError, match="blocks of 8 rows, replan batches are now 16"):
        next(iter(again.batches(8)))


def test_blocks_refuse_a_policy_that_weighs_samples(place: Path) -> None:
    sampler = TorchSampler(new_store(place), InfoBatch(epochs=9), replan=2)
    with pytest.raises(InvalidValue, match=r"replan=2 with InfoBatch.*weigh the loss.*replan='epoch'"):
        next(iter(sampler.batches(4)))


def test_blocks_need_our_batches(place: Path) -> None:
    sampler = TorchSampler(new_store(place), KeepAll(), replan=2)
    with pytest.raises(InvalidValue, match=r"replan=2 counts batches.*sampler\.batches"):
        list(BatchSampler(sampler, 4, False))


def test_a_batch_sampler_refuses_a_foreign_sampler(place: Path) -> None:
    batches = TorchSampler(new_store(place), KeepAll()).batches(4)
    with pytest.raises(InvalidValue, match="none of ours: the selection would be lost"):
        type(batches)(range(N), 4, False)


def halfway(path: Path | None) -> tuple[TorchSampler, dict[str, Any]]:
    """A sampler that was stopped after 10 rows of epoch 2, and its state as JSON brings it back."""
    sampler = TorchSampler(new_store(path), KeepAll(), seed=5)
    sampler.set_epoch(2)
    walk = iter(sampler)
    for _ in range(10):
        next(walk)
    return sampler, json.loads(json.dumps(sampler.state_dict()))


def sampler_with(store: ScoreStore, state: dict[str, Any], **change: Any) -> TorchSampler:
    arguments = {"policy": KeepAll(), "seed": 5} | change
    sampler = TorchSampler(store, arguments.pop("policy"), **arguments)
    sampler.load_state_dict(state)
    return sampler
