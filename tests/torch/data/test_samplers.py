"""The samplers that torch's users meet are torch's samplers, and walk as the framework-free one does."""

import pytest
from torch.utils.data import BatchSampler, Sampler

import adaptive_sampler
from adaptive_sampler.selection import Prune
from adaptive_sampler.torch import AdaptiveSampler, JTTSampler, L2RWSampler, PrunedSampler, SlidingWindowSampler
from tests.stores import scored


def test_the_sampler_that_torchs_users_meet_is_a_torch_sampler() -> None:
    sampler = AdaptiveSampler(scored([1.0, 2.0, 3.0, 4.0]), Prune(0.5, "loss"))
    assert isinstance(sampler, Sampler)
    assert isinstance(sampler, adaptive_sampler.AdaptiveSampler)
    assert isinstance(sampler.batches(2), BatchSampler)


def test_it_walks_as_the_framework_free_one_does() -> None:
    store = scored([1.0, 2.0, 3.0, 4.0])
    ours, base = (
        kind(store, Prune(0.5, "loss"), seed=3) for kind in (AdaptiveSampler, adaptive_sampler.AdaptiveSampler)
    )
    assert [list(ours) for _ in range(3)] == [list(base) for _ in range(3)]


@pytest.mark.parametrize("named", [PrunedSampler, SlidingWindowSampler, JTTSampler, L2RWSampler])
def test_the_named_samplers_derive_from_it(named: type) -> None:
    assert issubclass(named, AdaptiveSampler)
