"""A rank's share of a sampler, and a loader that Accelerate prepared, refuse what is no state as the sampler does."""

from typing import Any

import numpy as np
import pytest
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import ResumeError
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.torch import DistributedAdaptiveSampler
from tests.walk.states import GARBAGE, kind, refused

N = 20
STORE = ScoreStore.create("memory://shares", N, [Loss()])
STORE.update(range(N), loss=np.arange(N, dtype=np.float32))
GARBAGE_OF_TORCH = [*GARBAGE, torch.nn.Linear(2, 2).state_dict()]


def sampler() -> AdaptiveSampler:
    return AdaptiveSampler(STORE, Prune(0.5, "loss"))


def share() -> DistributedAdaptiveSampler:
    return DistributedAdaptiveSampler(sampler(), num_replicas=2, rank=1)


@pytest.mark.parametrize("garbage", GARBAGE_OF_TORCH, ids=kind)
@pytest.mark.parametrize("make", [share, lambda: iter(share())])
def test_a_share_refuses_what_is_no_state(make: Any, garbage: Any) -> None:
    refused(make, garbage, "^no sampler state: ")


@pytest.mark.parametrize("garbage", GARBAGE_OF_TORCH, ids=kind)
def test_a_prepared_loader_refuses_what_is_no_state(garbage: Any) -> None:
    accelerate = pytest.importorskip("adaptive_sampler.torch.accelerate")
    walked = sampler()
    with pytest.raises(ResumeError, match=r"^no sampler state: "):
        accelerate.load_state_dict(torch.utils.data.DataLoader(range(N), sampler=walked), garbage)
    assert list(walked) == list(sampler())


def test_the_state_of_a_stateful_loader_goes_back_into_that_loader() -> None:
    walked = sampler()
    loader = StatefulDataLoader(range(N), batch_size=2, sampler=walked)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    refused(sampler, state, r"a StatefulDataLoader's.*give it to that loader's load_state_dict")
    again = StatefulDataLoader(range(N), batch_size=2, sampler=sampler())
    again.load_state_dict(state)
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]
