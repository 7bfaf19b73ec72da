"""torchdata's nodes drive our samplers: they set the epoch and keep the sampler's state, not its iterator's."""

import json
from pathlib import Path

import pytest
from torchdata.nodes import Batcher, Loader, SamplerWrapper

from adaptive_sampler.selection import Prune
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from tests.torch.training import new_store


def nodes(place: Path | None) -> tuple[AdaptiveSampler, Loader]:
    sampler = AdaptiveSampler(new_store(place), Prune(0.5, by="loss"), seed=2)
    return sampler, Loader(Batcher(SamplerWrapper(sampler), batch_size=4, drop_last=False))


def test_the_wrapper_sets_the_epoch_and_visits_the_plan(place: Path) -> None:
    sampler, loader = nodes(place)
    epochs = [[row for batch in loader for row in batch] for _ in range(2)]
    assert sampler.epoch == 1
    assert epochs[0] != epochs[1]
    assert sorted(epochs[1]) == sampler.plan.indices().tolist()


@pytest.mark.parametrize("step", [1, 3, 6])
def test_nodes_resume_within_an_epoch(place: Path, step: int) -> None:
    sampler, loader = nodes(place)
    list(loader)  # so that the resumed epoch is not the first
    walk = iter(loader)
    for _ in range(step):
        next(walk)
    state = json.loads(json.dumps(loader.state_dict()))
    rest = list(walk)
    again = AdaptiveSampler(sampler.store, Prune(0.5, by="loss"), seed=2)
    resumed = Loader(Batcher(SamplerWrapper(again), batch_size=4, drop_last=False))
    resumed.load_state_dict(state)
    assert list(resumed) == rest or (not rest and again.epoch == 2)
