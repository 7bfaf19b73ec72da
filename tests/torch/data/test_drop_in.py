"""Drop-in: our samplers in a real DataLoader, with workers or without, in a plain loop."""

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import Draw, Prune, Upsample, Window
from adaptive_sampler.torch import IndexedDataset, JTTSampler, L2RWSampler, PrunedSampler, SlidingWindowSampler
from adaptive_sampler.torch.ranks.batches import AdaptiveBatchSampler
from tests.torch.samples import N, dataset, make_store

KEPT = [row for row in range(N) if row >= N // 2]  # the half with the highest score
WORKERS = [
    {"num_workers": 0},
    {"num_workers": 2},
    {"num_workers": 2, "persistent_workers": True},
]


def observed_store():
    store = make_store()
    for name in store.names:
        store.fold(name, range(N), np.arange(float(N)))
    return store


def epoch_of(loader):
    """The batches of rows that one pass over the loader delivers, told by the inputs themselves."""
    return [inputs[:, 0].long().tolist() for inputs, _ in loader]


def as_it_is(batch):
    return batch


def flat(batches):
    return [row for batch in batches for row in batch]


@pytest.mark.parametrize("workers", WORKERS, ids=str)
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_plain_loop_over_a_dataloader_trains_on_the_kept_half_reshuffled(workers, drop_last):
    sampler = PrunedSampler(observed_store(), keep=0.5)
    loader = DataLoader(dataset(), batch_size=5, sampler=sampler, drop_last=drop_last, **workers)
    assert len(loader) == (2 if drop_last else 3)  # known before the first epoch
    epochs = [epoch_of(loader) for _ in range(3)]
    assert [list(map(len, batches)) for batches in epochs] == [[5, 5] if drop_last else [5, 5, 2]] * 3
    assert len({tuple(flat(batches)) for batches in epochs}) == 3
    assert [set(flat(batches)) <= set(KEPT) for batches in epochs] == [True] * 3
    assert [len(set(flat(batches))) for batches in epochs] == [10 if drop_last else 12] * 3


@pytest.mark.parametrize("workers", WORKERS[:2], ids=str)
def test_a_loader_delivers_the_samplers_own_order(workers):
    store = observed_store()
    loader = DataLoader(dataset(), batch_size=5, sampler=PrunedSampler(store, keep=0.5), **workers)
    expected = PrunedSampler(store, keep=0.5)
    assert [flat(epoch_of(loader)) for _ in range(2)] == [list(expected), list(expected)]


@pytest.mark.parametrize("workers", WORKERS, ids=str)
def test_as_a_batch_sampler_of_which_the_loader_makes_two_iterators_no_epoch_is_lost(workers):
    store = observed_store()
    loader = DataLoader(dataset(), batch_sampler=PrunedSampler(store, keep=0.5).batches(5), **workers)
    expected = PrunedSampler(store, keep=0.5)
    assert len(loader) == 3
    assert [flat(epoch_of(loader)) for _ in range(2)] == [list(expected), list(expected)]


@pytest.mark.parametrize("workers", WORKERS, ids=str)
def test_batches_as_arrays_look_up_data_in_memory(workers):
    store, (inputs, _) = observed_store(), dataset().tensors

    class InMemory(Dataset[torch.Tensor]):
        def __getitems__(self, rows):
            return inputs[rows], torch.from_numpy(rows)

    batches = PrunedSampler(store, keep=0.5).batches(5, arrays=True)
    delivered = list(DataLoader(InMemory(), batch_sampler=batches, collate_fn=as_it_is, **workers))
    assert flat(epoch_of(delivered)) == list(PrunedSampler(store, keep=0.5))
    assert all(torch.equal(found[:, 0].long(), rows) for found, rows in delivered)


def test_whole_batches_may_be_fetched_at_once_without_automatic_batching():
    store = observed_store()
    batches = PrunedSampler(store, keep=0.5).batches(5)
    loader = DataLoader(dataset(), batch_size=None, sampler=batches)
    assert flat(epoch_of(loader)) == list(PrunedSampler(store, keep=0.5))


def test_without_automatic_batching_single_samples_are_delivered():
    loader = DataLoader(dataset(), batch_size=None, sampler=PrunedSampler(observed_store(), keep=0.5))
    assert sorted(int(inputs[0]) for inputs, _ in loader) == KEPT


@pytest.mark.parametrize("workers", WORKERS[:2], ids=str)
def test_a_store_without_scores_keeps_everything(workers):
    loader = DataLoader(dataset(), batch_size=5, sampler=PrunedSampler(make_store(), keep=0.5), **workers)
    assert len(loader) == 5
    assert sorted(flat(epoch_of(loader))) == list(range(N))


def test_a_break_goes_on_to_the_next_epoch():
    store = observed_store()
    loader = DataLoader(dataset(), batch_size=5, sampler=PrunedSampler(store, keep=0.5))
    for _ in loader:
        break
    expected = PrunedSampler(store, keep=0.5)
    expected.set_epoch(1)
    assert flat(epoch_of(loader)) == list(expected)


@pytest.mark.parametrize(
    ("sampler", "policy", "replan"),
    [
        (lambda s: PrunedSampler(s, keep=0.5), Prune(0.5, "el2n"), "once"),
        (lambda s: SlidingWindowSampler(s, keep=0.5, offset=0.2), Window(0.5, 0.2, "el2n"), "once"),
        (lambda s: JTTSampler(s, upsample=3, by="loss"), Upsample(3, "loss"), "once"),
        (lambda s: L2RWSampler(s, by="loss"), Draw("loss", floor=0.1), "epoch"),
    ],
)
def test_a_named_sampler_is_its_policy_with_its_papers_replanning(sampler, policy, replan):
    store = observed_store()
    named, plain = sampler(store), AdaptiveSampler(store, policy, replan=replan)
    assert named.state_dict() == plain.state_dict()
    assert [list(named) for _ in range(2)] == [list(plain) for _ in range(2)]


@pytest.mark.parametrize(
    "make",
    [
        lambda s, **k: PrunedSampler(s, keep=0.5, **k),
        lambda s, **k: SlidingWindowSampler(s, keep=0.5, offset=0.2, **k),
        lambda s, **k: JTTSampler(s, upsample=3, by="loss", **k),
        lambda s, **k: L2RWSampler(s, by="loss", **k),
    ],
)
def test_every_named_sampler_takes_the_keywords_of_the_adaptive_sampler(make):
    keywords = {"seed": 3, "shuffle": False, "warmup_epochs": 2, "replan": "epoch"}
    sampler = make(observed_store(), **keywords)
    assert isinstance(sampler, (AdaptiveSampler, Sampler))
    assert {name: sampler.state_dict()[name] for name in keywords} == keywords


@pytest.mark.parametrize("kind", [AdaptiveSampler, Sampler])
def test_a_named_sampler_is_both_ours_and_torchs(kind):
    assert isinstance(PrunedSampler(observed_store(), keep=0.5), kind)


def test_its_batches_are_torchs_batch_sampler_too():
    assert isinstance(PrunedSampler(observed_store(), keep=0.5).batches(4), BatchSampler)


def test_a_batch_sampler_over_a_foreign_sampler_is_refused():
    with pytest.raises(InvalidValue, match="is none of ours: the selection would be lost"):
        AdaptiveBatchSampler(torch.utils.data.SequentialSampler(range(4)), 2)


@pytest.mark.parametrize(("workers", "prefetch", "ahead"), [(0, None, 0), (2, 2, 4)])
def test_a_loader_with_workers_has_drawn_so_many_batches_ahead_of_the_one_in_hand(workers, prefetch, ahead):
    sampler = PrunedSampler(observed_store(), keep=1.0)
    loader = DataLoader(dataset(), batch_size=2, sampler=sampler, num_workers=workers, prefetch_factor=prefetch)
    iterator = iter(loader)
    next(iterator)
    assert sampler.state_dict()["position"] == 2 * (1 + ahead)


@pytest.mark.parametrize("workers", WORKERS[:2], ids=str)
def test_rows_travel_with_the_samples_through_workers(workers):
    loader = DataLoader(
        IndexedDataset(dataset()), batch_size=5, sampler=PrunedSampler(observed_store(), keep=0.5), **workers
    )
    assert [rows.tolist() == inputs[:, 0].tolist() for rows, (inputs, _) in loader] == [True] * 3


def test_the_sliding_window_sampler_takes_its_share_within_each_class():
    sampler = SlidingWindowSampler(observed_store(), keep=0.5, offset=0.5, per_class=np.arange(N) % 2)
    assert np.bincount(np.array(list(sampler)) % 2).tolist() == [N // 4] * 2


def test_the_share_of_a_pruned_and_of_a_window_sampler_may_be_of_a_columns_units():
    store = observed_store()
    store.columns["tokens"] = [100, *[1] * (N - 1)]
    rows = set(PrunedSampler(store, keep=100, by="el2n", order="lowest", ties="row", size="tokens"))
    more = set(SlidingWindowSampler(store, keep=N - 1, offset=100, by="el2n", ties="row", size="tokens"))
    assert rows | more == set(range(N))
    assert not rows & more
