"""What is no state, or no state of this sampler, is refused in one sentence, and nothing has changed afterwards."""

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from tests.walk.states import GARBAGE, damaged, kind, refused, told

N = 20
STORE = ScoreStore.create("memory://states", N, [Loss()])
STORE.update(range(N), loss=np.arange(N, dtype=np.float32))
STORE.commit()


def sampler(**options: Any) -> AdaptiveSampler:
    return AdaptiveSampler(STORE, Prune(0.5, "loss"), **options)


def begun(**options: Any) -> dict[str, Any]:
    """A state within an epoch."""
    walked = sampler(**options)
    batches = iter(walked.batches(2))
    for _ in range(2):
        next(batches)
    return copy.deepcopy(walked.state_dict(delivered=4))


GOOD, BLOCKS = begun(), begun(replan=1)
# `plan` is for people
TOLD = tuple(GOOD.keys() - {"plan"})
MAKERS: dict[str, Callable[[], Any]] = {
    "sampler": sampler,
    "its iterator": lambda: iter(sampler()),
    "its batches": lambda: sampler().batches(2),
    "an iterator of batches": lambda: iter(sampler().batches(2)),
}


@pytest.mark.parametrize("garbage", [*GARBAGE, json.dumps(GOOD)], ids=kind)
@pytest.mark.parametrize("maker", MAKERS)
def test_what_is_no_state_is_refused(maker: str, garbage: Any) -> None:
    refused(MAKERS[maker], garbage, r"^no sampler state: .*Pass what sampler.state_dict\(\) returned")


@pytest.mark.parametrize("missing", sorted(TOLD))
def test_a_state_that_lacks_an_entry_is_refused(missing: str) -> None:
    refused(sampler, {name: value for name, value in GOOD.items() if name != missing}, missing)


@pytest.mark.parametrize("maker", MAKERS)
@given(state=damaged(GOOD))
def test_a_state_with_another_entry_is_another_place_or_refused(maker: str, state: dict[str, Any]) -> None:
    told(MAKERS[maker], state)


@given(state=damaged(BLOCKS))
def test_a_state_of_plans_for_blocks_with_another_entry_is_another_place_or_refused(state: dict[str, Any]) -> None:
    told(lambda: sampler(replan=1).batches(2), state)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"position": -1}, "position=-1, which must be a whole number, 0 or more"),
        ({"position": 11}, "position=11 of an epoch of length=10 samples, beyond its end"),
        ({"position": 2.0}, "position=2.0, which must be a whole number"),
        ({"epoch": float("nan")}, "epoch=nan, which must be a whole number from 0 to 2147483647"),
        ({"plans": "649b91d29f3b55e7"}, "plans='649b91d29f3b55e7', which must be a list of plans' ids"),
        ({"plans": []}, r"plans=\[\], where an epoch that has begun has one plan"),
        ({"plans": ["0" * 16]}, "the state needs plan 0000000000000000.*Start"),
        ({"counts": "seen"}, "counts='seen', which must be 'drawn' or 'delivered'"),
        ({"policy": np.zeros(2)}, r"saved with policy=array\(\[0., 0.\]\), this sampler has policy="),
        ({"n": N + 1}, "saved with n=21, this sampler has n=20"),
        (
            {"format": 1},
            "format 1, and this release reads format 2 only: go on with the release.*that saved it, or start",
        ),
        ({"commit": 7}, "saved at commit 7, at sample 4 of epoch 0; the newest commit of .* is 1: the other was never"),
        ({"_iterator_finished": False}, "but a StatefulDataLoader's.*give it to that loader's load_state_dict"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(change: dict[str, Any], words: str) -> None:
    refused(sampler, GOOD | change, words)


@given(state=st.sampled_from([GOOD, json.loads(json.dumps(GOOD))]))
def test_the_state_itself_is_taken(state: dict[str, Any]) -> None:
    again = sampler()
    again.load_state_dict(state)
    rest = list(again)
    assert len(rest) == 6
    assert rest == list(sampler())[4:]


# -- the remedies -------------------------------------------------------------------------------------------------------


def test_a_state_whose_commit_was_never_written_is_refused_and_an_earlier_one_goes_on() -> None:
    """As when another rank than the first wrote a checkpoint, and the first died before its commit."""
    with ScoreStore.create("memory://died", N, [Loss()]) as store:
        store.update(range(N), loss=np.arange(N, dtype=np.float32))
        walked = AdaptiveSampler(store, Prune(0.5, "loss"))
        walk = iter(walked)
        store.commit()
        next(walk)
        earlier = json.dumps(walked.state_dict())
        refused(
            lambda: AdaptiveSampler(store, Prune(0.5, "loss")),
            json.loads(earlier) | {"commit": 2},
            "Go on from an earlier checkpoint",
        )
        again = AdaptiveSampler(store, Prune(0.5, "loss"))
        again.load_state_dict(json.loads(earlier))
        assert list(again) == list(walk)


def test_a_state_of_another_policy_goes_on_with_the_policy_it_was_saved_with() -> None:
    other = AdaptiveSampler(STORE, Prune(0.25, "loss"))
    refused(lambda: AdaptiveSampler(STORE, Prune(0.25, "loss")), GOOD, "Make the sampler as it was, or start without")
    assert len(list(other)) == 5
    sampler().load_state_dict(GOOD)
