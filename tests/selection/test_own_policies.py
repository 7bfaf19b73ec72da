"""A policy of one's own may hold numbers, arrays and other policies, and go by several scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import InvalidValue, ResumeError, UnknownName
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection import Composed, KeepAll, Prune, make
from adaptive_sampler.selection.base import describe
from tests.selection.test_composed import two_scores


@dataclass
class Holder:
    """A policy of one's own with an argument of any kind."""

    held: Any
    by: Any = None

    def plan(self, store, *, epoch, seed):
        return make(store, self, epoch, seed)


LABELS = np.arange(4)
HELD = {
    "a policy": (Prune(0.5, "el2n"), describe(Prune(0.5, "el2n"))),
    "a composed policy": (KeepAll() & KeepAll(), describe(KeepAll() & KeepAll())),
    "a list": ([KeepAll(), 1.0], [{"kind": "KeepAll"}, 1.0]),
    "a dict": ({"0": (KeepAll(),)}, {"0": [{"kind": "KeepAll"}]}),
    "a list of arrays": ([LABELS], [describe(Prune(0.5, "el2n", per_class=LABELS))["per_class"]]),
    "one number in an array": (np.array(5), 5),
    "a function": (len, {"function": "builtins.len"}),
    "texts in an array of objects": (np.array(["a", None], object), ["a", None]),
}


@pytest.mark.parametrize(("held", "told"), HELD.values(), ids=HELD)
def test_what_a_policy_holds_is_described_in_its_plan(held, told):
    plan = Composed(Holder(held), KeepAll()).plan(two_scores(), epoch=0, seed=0)
    assert plan.policy["parts"][0]["held"] == told
    assert plan.id


@pytest.mark.parametrize("held", [{1, 2}, b"x", object(), {1: 2}], ids=["set", "bytes", "object", "dict"])
def test_what_cannot_be_described_is_named_with_what_can(held):
    with pytest.raises(
        InvalidValue, match=r"Holder\.held is .*, which a plan cannot name\. Give a policy numbers, texts"
    ):
        Holder(held).plan(two_scores(), epoch=0, seed=0)


@pytest.mark.parametrize("by", [["el2n", "none"], ("none", "el2n")], ids=repr)
def test_a_policy_of_ones_own_may_go_by_several_scores_each_of_which_must_exist(by):
    AdaptiveSampler(two_scores(), Composed(Holder(1, by=["el2n", "loss"]), KeepAll()))
    with pytest.raises(UnknownName, match="none"):
        AdaptiveSampler(two_scores(), Holder(1, by=by))


class Ordinary:
    """A policy that is no dataclass."""

    def __init__(self, keep: float) -> None:
        self.keep, self._order = keep, "highest"

    def plan(self, store: Any, *, epoch: int, seed: int) -> Plan:
        return make(store, self, epoch, seed)


def test_a_policy_that_is_no_dataclass_is_described_by_its_attributes():
    assert describe(Ordinary(0.5)) == {"kind": "Ordinary", "keep": 0.5, "_order": "highest"}


def test_the_state_of_an_ordinary_object_is_refused_by_one_with_other_attributes():
    store = two_scores()
    state = AdaptiveSampler(store, Ordinary(0.5)).state_dict()
    with pytest.raises(ResumeError, match="the state was saved with policy="):
        AdaptiveSampler(store, Ordinary(0.25)).load_state_dict(state)


class Slotted:
    """A policy without attributes that could be listed."""

    __slots__ = ("keep",)

    def plan(self, store: Any, *, epoch: int, seed: int) -> Plan:
        return make(store, self, epoch, seed)


def test_a_policy_whose_arguments_cannot_be_known_is_refused():
    with pytest.raises(InvalidValue, match="Slotted has slots, so that its arguments are unknown"):
        Slotted().plan(two_scores(), epoch=0, seed=0)
