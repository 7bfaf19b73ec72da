"""check: silent where our selection is alive, and names what happened where it is not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
from accelerate.data_loader import BatchSamplerShard, DataLoaderShard
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler, SequentialSampler
from torchdata.nodes import Batcher, Loader, Mapper, SamplerWrapper
from torchdata.stateful_dataloader import StatefulDataLoader

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import SelectionLost
from adaptive_sampler.selection import Prune, RandomPrune
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, check
from adaptive_sampler.torch.data.samplers import AdaptiveSampler as TorchSampler
from tests.torch.processes import run, succeeded
from tests.torch.training import N, new_store


@pytest.fixture
def sampler(place: Path) -> TorchSampler:
    return TorchSampler(new_store(place), RandomPrune(0.5))


@pytest.mark.parametrize("loader", [DataLoader, StatefulDataLoader])
def test_loaders_that_draw_from_ours_pass(sampler: TorchSampler, loader: Any) -> None:
    rank = DistributedAdaptiveSampler(sampler, num_replicas=2, rank=0)
    check(loader(range(N), sampler=sampler, batch_size=4))
    check(loader(range(N), batch_sampler=sampler.batches(4)))
    check(loader(range(N), sampler=sampler.batches(4), batch_size=None))
    check(loader(range(N), batch_sampler=BatchSampler(sampler, 4, False)))
    check(loader(range(N), sampler=rank, batch_size=4))
    check(loader(range(N), batch_sampler=rank.batches(4)))


@pytest.mark.parametrize(
    "foreign", [RandomSampler(range(N)), SequentialSampler(range(N)), DistributedSampler(range(N), 2, 0)]
)
def test_a_replaced_sampler_is_named(foreign: Any) -> None:
    """What Ray Train does to a sampler that is no DistributedSampler."""
    with pytest.raises(SelectionLost, match=rf"{type(foreign).__name__} draws the indices.*DistributedAdaptiveSampler"):
        check(DataLoader(range(N), sampler=foreign, batch_size=4))


def test_a_sampler_swapped_inside_our_batch_sampler_is_named(sampler: TorchSampler) -> None:
    batches = sampler.batches(4)
    loader = DataLoader(range(N), batch_sampler=batches)
    batches.sampler = RandomSampler(range(N))  # type: ignore[assignment]
    with pytest.raises(SelectionLost, match=r"inside our batch sampler was replaced by RandomSampler.*use_distributed"):
        check(loader)


def nodes(sampler: Any) -> Any:
    return Loader(Batcher(Mapper(SamplerWrapper(sampler), int), 4, drop_last=False))


def test_ours_is_found_among_several_loaders_and_behind_nodes(sampler: TorchSampler) -> None:
    alive = DataLoader(range(N), sampler=sampler, batch_size=4)
    other = DataLoader(range(3))
    for several in (
        {"labelled": alive, "unlabelled": other},
        [other, alive],
        {"deep": {"er": (other, alive)}},
        CombinedLoader({"labelled": alive, "unlabelled": other}),
        nodes(sampler),
        nodes(sampler.batches(4)),
        [other, nodes(sampler)],
    ):
        check(several)
        check(several, sampler=sampler)


def test_what_took_the_place_of_ours_is_named_among_several_loaders_and_behind_nodes(sampler: TorchSampler) -> None:
    with pytest.raises(SelectionLost, match="RandomSampler draws the indices"):
        check({"labelled": DataLoader(range(N), shuffle=True)})
    with pytest.raises(SelectionLost, match="RandomSampler draws the indices of this Loader"):
        check(nodes(RandomSampler(range(N))))
    with pytest.raises(SelectionLost, match=r"another sampler of ours than AdaptiveSampler\("):
        check([DataLoader(range(N), sampler=sampler)], sampler=TorchSampler(sampler.store, RandomPrune(0.5)))


def test_a_lost_sampler_beside_one_that_is_alive_is_told_by_the_sampler_that_is_asked_for(
    sampler: TorchSampler,
) -> None:
    rank = DistributedAdaptiveSampler(sampler, num_replicas=1, rank=0)
    lost = DistributedAdaptiveSampler(TorchSampler(sampler.store, RandomPrune(0.2)), num_replicas=1, rank=0)
    both = {"alive": DataLoader(range(N), sampler=rank), "lost": DataLoader(range(N), shuffle=True)}
    check(both, sampler=rank)
    with pytest.raises(SelectionLost, match="another sampler of ours"):
        check(both, sampler=lost)


def test_a_dataset_of_another_length_is_named(sampler: TorchSampler) -> None:
    loader = DataLoader(IndexedDataset(list(range(N + 2))), sampler=sampler, batch_size=4)
    with pytest.raises(SelectionLost, match=rf"the dataset has {N + 2} samples, the store of AdaptiveSampler {N} rows"):
        check(loader)


def test_rows_shared_twice_are_named(sampler: TorchSampler) -> None:
    rank = DistributedAdaptiveSampler(sampler, num_replicas=2, rank=0)
    shard = BatchSamplerShard(BatchSampler(rank, 4, False), num_processes=2, process_index=0)
    with pytest.raises(SelectionLost, match="twice, by BatchSamplerShard and by DistributedAdaptiveSampler"):
        check(DataLoaderShard(range(N), batch_sampler=shard))


def test_an_epoch_that_never_reached_the_sampler_is_named(sampler: TorchSampler) -> None:
    """What Accelerate and the Trainer do on two processes when they resume in epoch 3."""
    shard = BatchSamplerShard(BatchSampler(sampler, 4, False), num_processes=2, process_index=0)
    loader = skip_first_batches(DataLoaderShard(range(N), batch_sampler=shard), 1)
    loader.set_epoch(3)
    with pytest.raises(SelectionLost, match=r"at epoch 3, our sampler at epoch 0: set_epoch\(3\) never reached it"):
        check(loader)
    sampler.set_epoch(3)
    with pytest.warns(
        RuntimeWarning, match=r"SkipBatchSampler skips 1 batches.*restores no plan.*Exact is adaptive_sampler"
    ):
        check(loader)


@pytest.mark.parametrize("num_samples", [None, 30])
@pytest.mark.parametrize("ranks", [1, 2])
def test_torchs_sampler_around_ours_is_named(place: Path, ranks: int, num_samples: int | None) -> None:
    """What Lightning's strategy "ddp" makes, on one device too: no position of its order is one of the plan."""
    sampler = TorchSampler(new_store(place), Prune(0.5, by="loss"), num_samples=num_samples)
    loader = DataLoader(range(N), sampler=DistributedSamplerWrapper(sampler, ranks, 0), batch_size=4)
    with pytest.raises(
        SelectionLost,
        match=r"DistributedSamplerWrapper lies around AdaptiveSampler: it shuffles.*Pass sampler=DistributedAdaptiveSampler",
    ):
        check(loader)
    check(DataLoader(range(N), sampler=DistributedAdaptiveSampler(sampler, num_replicas=ranks, rank=0), batch_size=4))


def test_torchs_sampler_around_ours_is_named_where_it_keeps_the_order_too(place: Path) -> None:
    """What Fabric makes: it lists what is left of a resumed epoch, and asks that list for a whole epoch's rows."""
    sampler = TorchSampler(new_store(place), Prune(0.5, by="loss"))
    first = list(sampler)[:5]
    sampler.load_state_dict(sampler.state_dict(delivered=5))
    kept = DistributedSamplerWrapper(sampler, 1, 0, shuffle=False)
    with pytest.raises(SelectionLost, match=r"it took the length of an epoch once, 23, and can go on from no place"):
        check(DataLoader(range(N), sampler=kept, batch_size=4))
    with pytest.raises(IndexError):
        list(kept)
    assert len(first) == 5


def test_accelerates_seedable_sampler_leaves_ours_alone(sampler: TorchSampler) -> None:
    machine = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))
    loader = machine.prepare(DataLoader(torch.arange(N), sampler=sampler, batch_size=4))
    check(loader)
    assert sorted(int(row) for batch in loader for row in batch) == sampler.plan.indices().tolist()


def every_rank_alike(rank: int, path: str) -> bool:
    sampler = AdaptiveSampler(new_store(None), RandomPrune(0.5))
    with pytest.raises(
        SelectionLost, match="each of 2 ranks draws all rows of AdaptiveSampler: every sample is visited 2"
    ):
        check(DataLoader(range(N), sampler=sampler, batch_size=4))
    check(DataLoader(range(N), sampler=DistributedAdaptiveSampler(sampler), batch_size=4))
    return True


def test_ranks_that_all_draw_everything_are_named(place: Path) -> None:
    succeeded(run(2, every_rank_alike, str(place)))


def test_ours_is_what_ray_and_composer_ask_for(sampler: TorchSampler) -> None:
    """Ray Train (train/torch/train_loop_utils.py) and Composer (core/data_spec.py) keep a DistributedSampler, and only that."""
    ours = DistributedAdaptiveSampler(sampler, num_replicas=2, rank=1)
    loader = DataLoader(range(N), sampler=ours, batch_size=4)
    assert isinstance(loader.sampler, DistributedSampler)
    assert isinstance(loader.batch_sampler.sampler, DistributedSampler)


def test_composers_replay_of_past_epochs_ends_in_the_epoch_that_it_sets(sampler: TorchSampler) -> None:
    """`_spin_dataloaders_to_cur_epoch` draws one batch of each past epoch, then trains on the current one."""
    ours = DistributedAdaptiveSampler(sampler, num_replicas=1, rank=0)
    loader = DataLoader(range(N), sampler=ours, batch_size=4)
    for epoch in range(3):
        ours.set_epoch(epoch)
        for _ in loader:
            break
    ours.set_epoch(2)
    rows = [int(row) for batch in loader for row in batch]
    alone = TorchSampler(sampler.store, RandomPrune(0.5))
    alone.set_epoch(2)
    assert (ours.epoch, rows) == (2, list(alone))
