"""sync: real processes end with bit-equal stores, whatever each of them saw, or every one of them raises."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, NotDistributed, StoreError
from adaptive_sampler.scoring import EL2N, EMA, L2RW, Confidence, Error, Forgetting, Loss, Margin, Variability
from adaptive_sampler.selection import Draw, KeepAll, Prune
from adaptive_sampler.torch import DistributedAdaptiveSampler, JTTSampler, PrunedSampler, distributed_store, sync
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.ranks import exchange
from tests.torch.processes import Failed, all_failed, run, succeeded

SCORES = [
    EL2N(),
    Loss(fold=EMA(0.7)),
    Forgetting(),
    Error(),
    Margin(),
    Confidence(),
    Variability(),
    L2RW(),
    Loss(name="newest"),
]
N = 40


def observed(rank: int, step: int, n: int = N) -> dict[str, Any]:
    """What a rank sees at a step: another batch each time, some with repeats, losses in half precision."""
    rng = np.random.default_rng([rank, step])
    rows = rng.integers(0, n, 6)
    return {
        "rows": rows,
        "logits": torch.from_numpy(rng.normal(size=(6, 3))).to(torch.bfloat16),
        "labels": torch.from_numpy(rng.integers(0, 3, 6)),
        "loss": torch.from_numpy(rng.exponential(size=6)).half(),
    }


def steps_of(rank: int) -> int:
    """Uneven journals; rank 1's is empty."""
    return (5, 0, 9, 2)[rank]


def everything(store: ScoreStore) -> dict[str, bytes]:
    return {
        f"{name}/{column}": array.tobytes()
        for name, columns in ((name, store.session.table[name].state) for name in store.names)
        for column, array in columns.items()
    }


def journal_and_sync(rank: int, path: str, limit: int) -> Any:
    store = distributed_store(path, N, SCORES)
    for epoch in range(2):
        store.epoch = epoch
        for step in range(steps_of(rank)):
            store.update(**observed(rank, 100 * epoch + step))
        if rank == 2:
            store.fold("l2rw", [3, 3, 4], [1.0, 2.0, 3.0])
        sync(store, limit=limit)
        store.commit()
    plan = Prune(0.5, "newest").plan(store, epoch=2, seed=0).id
    return everything(store), plan


@pytest.mark.parametrize(("ranks", "limit"), [(2, 1 << 18), (4, 1 << 18), (4, 7)])
def test_stores_are_bit_equal_to_one_that_saw_all_in_update_and_rank_order(place: Path, ranks: int, limit: int) -> None:
    """Also where a journal is larger than what is sent at a time, uneven, or empty."""
    results = succeeded(run(ranks, journal_and_sync, str(place), limit))
    alone = ScoreStore.create(None, N, SCORES)
    for epoch in range(2):
        for step in range(10):
            for rank in range(ranks):
                if step < steps_of(rank):
                    alone.update(**observed(rank, 100 * epoch + step), epoch=epoch)
                if rank == 2 and step == steps_of(2):
                    alone.fold("l2rw", [3, 3, 4], [1.0, 2.0, 3.0], epoch=epoch)
    for scores, plan in results:
        assert scores == everything(alone)
        assert plan == results[0][1]
    with ScoreStore.open(place, mode="r") as kept:
        assert everything(kept) == everything(alone)


def large_rows(rank: int, path: str) -> Any:
    n = (1 << 24) + 64
    store = distributed_store(path, n, [Loss(), Loss(name="half")])
    rows = np.arange((1 << 24) + 1 + rank, n, 2)
    store.update(rows, loss=torch.ones(len(rows), dtype=torch.half) * (rank + 1))
    sync(store)
    seen = np.flatnonzero(store.count("loss"))
    return seen.tolist(), store["loss"][seen].tolist()


def test_rows_above_2_to_the_24_arrive_whole(place: Path) -> None:
    rows, values = succeeded(run(2, large_rows, str(place)))[1]
    assert rows == list(range((1 << 24) + 1, (1 << 24) + 64))
    assert values == [1.0, 2.0] * 31 + [1.0]


def epoch_of(rank: int, path: str, kind: str, epochs: int, syncs: int = 1) -> Any:
    """Walk and observe; a loss is 1 at each visit, so that counts are visits."""
    store = distributed_store(path, 11, [Loss(), Error(), L2RW()])
    inner: Any = {
        "keep_all": lambda: AdaptiveSampler(store, KeepAll()),
        "jtt": lambda: JTTSampler(store, upsample=3),
        "draw": lambda: AdaptiveSampler(store, Draw("l2rw", 21)),
        "cycled": lambda: AdaptiveSampler(store, KeepAll(), num_samples=25),
    }[kind]()
    if rank == 0:
        store.update(
            np.arange(11), labels=(np.arange(11) < 3).astype(int), logits=np.tile([1.0, 0.0], (11, 1)), loss=np.ones(11)
        )
        store.fold("l2rw", np.arange(11), np.arange(11))
    sync(store)
    before = store.count("loss").astype(int)
    sampler = DistributedAdaptiveSampler(inner)
    planned, order = np.zeros(11, int), []
    for _ in range(epochs):
        share = list(sampler)
        walk = inner.walking
        order = walk.take(0, len(walk))
        planned += np.bincount(order, minlength=11)
        for part in np.array_split(share, syncs):
            store.update(part, loss=np.ones(len(part)))
            sync(store, sampler)
    return (store.count("loss") - before).tolist(), planned.tolist(), len(order) % 4


@pytest.mark.parametrize("kind", ["keep_all", "jtt", "draw", "cycled"])
@pytest.mark.parametrize("syncs", [1, 2])
def test_padding_counts_once_and_the_plans_repeats_each_time(place: Path, kind: str, syncs: int) -> None:
    for counts, planned, uneven in succeeded(run(4, epoch_of, str(place), kind, 2, syncs)):
        assert uneven  # so that there was padding
        assert counts == planned


def resumed_padding(rank: int, path: str) -> Any:
    store = distributed_store(path, 11, [Loss()])
    first = DistributedAdaptiveSampler(AdaptiveSampler(store, KeepAll()))
    walk = iter(first)
    seen = [next(walk)]
    store.update(seen, loss=[1.0])
    sync(store, first)
    second = DistributedAdaptiveSampler(AdaptiveSampler(store, KeepAll()))
    second.load_state_dict(first.state_dict())
    rest = list(second)
    store.update(rest, loss=np.ones(len(rest)))
    sync(store, second)
    return store.count("loss").tolist()


def test_padding_of_a_resumed_epoch_counts_once(place: Path) -> None:
    assert succeeded(run(2, resumed_padding, str(place)))[0] == [1] * 11


# -- what goes wrong --------------------------------------------------------------------------------------------------


def forgotten(rank: int, path: str, then: str) -> Any:
    store = distributed_store(path, N, [Loss()])
    sampler = DistributedAdaptiveSampler(PrunedSampler(store, keep=0.5, by="loss", replan="epoch"))
    rows = list(sampler)
    store.update(rows, loss=np.ones(len(rows)))
    return {"plan": lambda: list(sampler), "commit": store.commit}[then]()


@pytest.mark.parametrize("then", ["plan", "commit"])
def test_a_forgotten_sync_raises_on_every_rank(place: Path, then: str) -> None:
    all_failed(run(2, forgotten, str(place), then), f"a {then} is wanted while 1 updates of this rank are not shared")


def forgotten_run(rank: int, path: str) -> None:
    store = distributed_store(path, N, [Loss()])
    store.update([rank], loss=[1.0])
    store.begin_run("second")


def test_a_new_run_before_a_sync_raises_on_every_rank(place: Path) -> None:
    all_failed(run(2, forgotten_run, str(place)), "a new run is wanted while 1 updates of this rank are not shared")


def added_late(rank: int, path: str) -> None:
    store = distributed_store(path, N, [Loss()])
    store.update([rank], loss=[1.0])
    store.add(Loss(name="late"))


def test_a_score_added_before_a_sync_raises_on_every_rank(place: Path) -> None:
    all_failed(run(2, added_late, str(place)), "a new score is wanted while 1 updates of this rank are not shared")


def added(rank: int, path: str) -> Any:
    store = distributed_store(path, N, [Loss()])
    store.update([rank], loss=[1.0])
    sync(store)
    store.add(Loss(name="late"))
    store.update([rank], loss=[3.0])
    sync(store)
    store.commit()
    return store["loss"][:2].tolist(), store["late"][:2].tolist()


def test_a_score_added_after_a_sync_is_observed_on_every_rank(place: Path) -> None:
    assert succeeded(run(2, added, str(place))) == [([3.0, 3.0], [3.0, 3.0])] * 2


def differing(rank: int, path: str) -> None:
    store = distributed_store(path, N, [Loss()])
    if rank == 2:
        store.session.fold_merged(np.array([3]), ("loss",), np.ones((1, 1), np.float32), 0)
    sync(store)


def test_ranks_whose_stores_differ_raise_on_every_rank(place: Path) -> None:
    all_failed(
        run(4, differing, str(place)), "OutOfStep: the ranks' scores or columns differ: rank 2 has another than rank 0"
    )


def with_columns(rank: int, path: str, first: int) -> Any:
    store = distributed_store(path, N, [Loss()])
    store.columns["source"] = [str(first * rank), *["web"] * (N - 1)]
    store.update([rank], loss=[1.0])
    sync(store)
    store.commit()
    return store.columns["source"].tolist()


def test_columns_are_set_on_every_rank_alike(place: Path) -> None:
    expected = ["0", *["web"] * (N - 1)]
    assert succeeded(run(2, with_columns, str(place), 0)) == [expected] * 2
    assert ScoreStore.open(place, mode="r").columns["source"].tolist() == expected


def test_ranks_whose_columns_differ_raise_on_every_rank(place: Path) -> None:
    all_failed(
        run(2, with_columns, str(place), 1), "OutOfStep: the ranks' scores or columns differ: rank 1 has another"
    )


def other_plans(rank: int, path: str) -> None:
    store = distributed_store(path, N, [Loss()])
    sampler = DistributedAdaptiveSampler(AdaptiveSampler(store, Prune(0.5 + rank / 10, "loss")))
    list(sampler)
    sync(store, sampler)


def test_ranks_whose_plans_differ_raise_on_every_rank(place: Path) -> None:
    all_failed(run(2, other_plans, str(place)), "OutOfStep: the ranks' plans differ")


def other_epochs(rank: int, path: str) -> None:
    store = distributed_store(path, N, [Loss()])
    sampler = DistributedAdaptiveSampler(AdaptiveSampler(store, KeepAll()))
    sampler.set_epoch(rank)
    list(sampler)
    sync(store, sampler)


def test_a_set_epoch_that_one_rank_missed_raises_on_every_rank(place: Path) -> None:
    all_failed(run(2, other_epochs, str(place)), "OutOfStep: the ranks' epochs differ")


def one_raises(rank: int, path: str) -> None:
    store = distributed_store(path, N, [Loss()])

    class Hook:
        def flush(self) -> None:
            if rank == 1:
                raise ValueError("a loss of rank 1 is not finite")

    hook = Hook()
    store.session.register(hook)
    sync(store)


def test_what_one_rank_raises_reaches_the_others(place: Path) -> None:
    all_failed(run(2, one_raises, str(place)), "a loss of rank 1 is not finite")


def open_another(rank: int, path: str, n: int) -> None:
    distributed_store(path, n, [Loss()], exist_ok=True)


def test_a_store_of_other_rows_is_refused_on_every_rank(place: Path) -> None:
    ScoreStore.create(place, N, [Loss()]).close()
    all_failed(run(2, open_another, str(place), N + 1), f"has {N} rows and the scores loss; asked for were {N + 1}")


def dying(rank: int, path: str) -> Any:
    store = distributed_store(path, N, [Loss()])
    store.update(np.arange(N), loss=np.full(N, rank))
    sync(store)
    store.commit("before")
    for step in range(50):
        store.update(np.arange(N), loss=np.full(N, step))
    if rank == 1:
        begin, rounds = exchange.ExchangeRound, []

        def die_in_the_third_round(*arguments: Any) -> Any:  # a process that is killed says nothing
            rounds.append(1)
            if len(rounds) == 3:
                os._exit(1)
            return begin(*arguments)

        exchange.ExchangeRound = die_in_the_third_round  # type: ignore[assignment,misc]  # a function that makes one
    sync(store, limit=N)


def test_a_rank_that_dies_during_sync_leaves_the_committed_store_whole(place: Path) -> None:
    first, dead, third = run(3, dying, str(place))
    assert dead is None
    assert isinstance(first, Failed)
    assert isinstance(third, Failed)
    with ScoreStore.open(place) as store:
        assert [v.note for v in store.versions()] == ["before"]
        assert store["loss"].tolist() == [2.0] * N


def test_sync_alone_folds_what_hooks_hold_and_nothing_else() -> None:
    class Holding:
        flushed = False

        def flush(self) -> None:
            self.flushed = True

    with ScoreStore.create(None, N, [Loss()]) as store:
        store.session.register(hook := Holding())
        sync(store)
        assert hook.flushed
        assert store.made_from == (0, 0)


@pytest.mark.parametrize(
    "call", [lambda path: sync(ScoreStore.create(None, N, [Loss()])), lambda path: distributed_store(path, N, [Loss()])]
)
def test_a_process_that_should_have_a_group_does_not_take_itself_for_the_only_one(
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(NotDistributed, match=r"needs a process group: WORLD_SIZE=2.*init_process_group"):
        call(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_one_script_trains_alone_and_goes_on_alone(tmp_path: Path) -> None:
    for run_ in range(2):
        store = distributed_store(tmp_path / "s", N, [Loss()], exist_ok=True)
        store.fold("loss", [run_], [1.0])
        sync(store)
        assert store.commit() == run_ + 1
        store.close()
    assert np.isfinite(ScoreStore.open(tmp_path / "s", mode="r")["loss"]).sum() == 2


@pytest.mark.parametrize("goes_on", [{"exist_ok": True}, {"version": 0}])
@pytest.mark.parametrize("other", [["b", "a"], ["a", "c"], None])
def test_a_store_is_made_with_keys_and_gone_on_with_by_the_same_keys(
    tmp_path: Path, goes_on: dict[str, Any], other: list[str] | None
) -> None:
    distributed_store(tmp_path / "s", 2, [Loss()], keys=["a", "b"]).close()
    if other is not None:
        with pytest.raises(
            InvalidValue, match=r"has other keys than those passed.*pass the keys that it was made with"
        ):
            distributed_store(tmp_path / "s", 2, [Loss()], keys=other, **goes_on)
    with distributed_store(tmp_path / "s", 2, [Loss()], keys=["a", "b"], **goes_on) as store:
        assert store.rows(["b"]).tolist() == [1]


@pytest.mark.parametrize("goes_on", [{"exist_ok": True}, {"version": 0}])
def test_a_store_that_was_made_for_another_dataset_is_refused(tmp_path: Path, goes_on: dict[str, Any]) -> None:
    distributed_store(tmp_path / "s", 2, [Loss()], fingerprint="one").close()
    with pytest.raises(InvalidValue, match=r"was made for the dataset 'one', not for 'two'.*another path"):
        distributed_store(tmp_path / "s", 2, [Loss()], fingerprint="two", **goes_on)
    distributed_store(tmp_path / "s", 2, [Loss()], fingerprint="one", **goes_on).close()


def test_an_earlier_runs_store_is_not_gone_on_with_unasked(tmp_path: Path) -> None:
    distributed_store(tmp_path / "s", N, [Loss()]).close()
    with pytest.raises(StoreError, match=r"holds a store already.*exist_ok=True.*overwrite=True"):
        distributed_store(tmp_path / "s", N, [Loss()])


def unasked(rank: int, path: str) -> None:
    distributed_store(path, N, [Loss()])


def test_an_earlier_runs_store_is_not_gone_on_with_unasked_on_ranks(place: Path) -> None:
    ScoreStore.create(place, N, [Loss()]).close()
    all_failed(run(2, unasked, str(place)), "holds a store already")


def without_journal(rank: int) -> None:
    sync(ScoreStore.create(None, N, [Loss()]))


def test_a_store_without_a_journal_is_refused() -> None:
    all_failed(run(2, without_journal), "keeps no journal: open it with distributed_store")
