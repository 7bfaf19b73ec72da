"""A policy of one's own may hold numbers, arrays and other policies, and go by several scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import InvalidValue, UnknownName
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
