"""A reader refuses what is no state of its own, in one sentence, and nothing has changed afterwards."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.errors import ResumeError
from adaptive_sampler.shards import Place, ShardIndex, ShardReader
from tests.shards.tars import index_of, plan_of
from tests.walk.states import GARBAGE, damaged, kind, refused, told

GOOD = {
    "kind": "adaptive_sampler.shards/3",
    "index": "4e9fc7c2",
    "seed": 0,
    "epoch": 0,
    "window": 1000,
    "drop_last": False,
    "length": 15,
} | {
    "num_replicas": 1,
    "num_workers": 1,
    "taken": [[0, 0, 4]],
    "past": [],
}
PLAN = plan_of(30, range(0, 30, 2))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    return index_of(tmp_path_factory.mktemp("shards"), [13, 1, 16])


def reader(index: ShardIndex) -> ShardReader:
    return ShardReader(index, PLAN)


def test_a_state_is_of_these_entries(index: ShardIndex) -> None:
    read = reader(index)
    for _, _ in zip(range(4), read, strict=False):
        pass
    assert read.state_dict() == GOOD | {"plan": PLAN.id}


@pytest.mark.parametrize("garbage", GARBAGE, ids=kind)
def test_what_is_no_state_is_refused(index: ShardIndex, garbage: Any) -> None:
    refused(lambda: reader(index), garbage, "no state of ours in it. Load what state_dict")


@pytest.mark.parametrize("missing", sorted({*GOOD, "plan"} - {"kind"}))
def test_a_state_that_lacks_an_entry_is_refused(index: ShardIndex, missing: str) -> None:
    state = {name: value for name, value in (GOOD | {"plan": PLAN.id}).items() if name != missing}
    refused(lambda: reader(index), state, f"the state lacks {missing}. Load what state_dict")


@given(data=st.data())
def test_a_state_with_another_entry_is_another_place_or_refused(index: ShardIndex, data: st.DataObject) -> None:
    told(lambda: reader(index), data.draw(damaged(GOOD | {"plan": PLAN.id})))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_replicas": 0}, "num_replicas=0, which must be a whole number from 1 to 1048576"),
        ({"taken": [[0, 0, -1]]}, r"taken=\[\[0, 0, -1\]\], which must be a list of \[rank, worker, count\]"),
        ({"taken": [[0, 0, 99]]}, "worker 0 of rank 0 delivered 99 visits, of 15 among 1 ranks with 1 workers each"),
        ({"taken": [[5, 0, 1]]}, "worker 0 of rank 5 delivered 1 visits, of 15 among 1 ranks"),
        ({"num_replicas": 2**70}, r"num_replicas=.*, which must be a whole number from 1 to 1048576"),
        ({"num_replicas": 2**11, "num_workers": 2**10}, "it is of 2048 ranks with 1024 workers each"),
        ({"taken": np.zeros(2)}, r"taken=array.*, which must be a list"),
        ({"taken": []}, r"taken=\[\], which must be a list"),
        ({"past": [[[-1]]]}, r"past=\[\[\[-1\]\]\], which must be a list of tables of whole numbers"),
        ({"length": 20}, "saved with length 20 and is loaded with 15"),
        ({"plan": "0" * 16}, "saved with plan '0000000000000000' and is loaded with"),
        ({"kind": "adaptive_sampler.shards/4"}, "Go on with the release that wrote it, or start the epoch anew"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(index: ShardIndex, change: dict[str, Any], words: str) -> None:
    refused(lambda: reader(index), GOOD | {"plan": PLAN.id} | change, words)


def test_more_visits_than_a_reader_had_are_refused_at_the_first_draw(index: ShardIndex) -> None:
    """Its share is known only then: of two workers each has a half."""
    read = ShardReader(index, PLAN, place=Place(num_workers=2))
    read.load_state_dict(GOOD | {"plan": PLAN.id, "num_workers": 2, "taken": [[0, 0, 14], [0, 1, 0]]})
    with pytest.raises(ResumeError, match="worker 0 delivered 14 of its 7 visits"):
        next(iter(read))
