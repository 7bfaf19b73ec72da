"""Planned shards and their loader refuse what is no state of theirs, in one sentence, and nothing has changed afterwards."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.webdataset import PlannedShards
from tests.shards.tars import index_of
from tests.walk.states import GARBAGE, damaged, kind, refused, told

N = 30
STORE = ScoreStore.create("memory://planned", N, [Loss()])
STORE.update(range(N), loss=np.arange(N, dtype=np.float32))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    return index_of(tmp_path_factory.mktemp("shards"), [13, 1, 16])


def planned(index: ShardIndex) -> PlannedShards:
    return PlannedShards(index, AdaptiveSampler(STORE, Prune(0.5, "loss")))


@pytest.fixture(scope="module")
def good(index: ShardIndex) -> dict[str, Any]:
    """A state within an epoch."""
    shards = planned(index)
    walk = iter(shards)
    for _ in range(4):
        next(walk)
    return shards.state_dict()


@pytest.mark.parametrize("garbage", GARBAGE, ids=kind)
@pytest.mark.parametrize("loader", [False, True])
def test_what_is_no_state_is_refused(index: ShardIndex, loader: bool, garbage: Any) -> None:
    make = (lambda: planned(index).loader(batch_size=None)) if loader else (lambda: planned(index))
    refused(make, garbage, "no state of ours in it. Load what state_dict")


def test_an_array_is_no_kind_of_state(index: ShardIndex) -> None:
    refused(lambda: planned(index), {"kind": np.zeros(2)}, "no state of ours in it. Load what state_dict")


@given(data=st.data())
def test_a_state_with_another_entry_is_another_place_or_refused(
    index: ShardIndex, good: dict[str, Any], data: st.DataObject
) -> None:
    told(lambda: planned(index), data.draw(damaged(good)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"turn": 1}, "turn=1 of 1 workers"),
        ({"turn": "0"}, "turn='0' of 1 workers"),
        ({"taken": None}, "taken=None, which must be a list"),
        ({"sampler": None}, "no sampler state: None.*Pass what sampler.state_dict"),
        ({"sampler": {}}, "no sampler state: it lacks commit"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(
    index: ShardIndex, good: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    refused(lambda: planned(index), good | change, words)


def test_a_samplers_own_state_is_refused(index: ShardIndex, good: dict[str, Any]) -> None:
    refused(lambda: planned(index), good["sampler"], "no state of ours in it")
