"""What a policy of one's own hands to `make` is a plan of the store's rows, or refused with what would be one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, testing
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import make
from tests.selection.test_composed import two_scores

FOUR, TWO = np.ones(4), np.arange(4) < 2  # the store has four rows


@dataclass(eq=False)
class Own:
    """A policy that hands `make` what it was given."""

    arrays: Any

    def plan(self, store, *, epoch, seed):
        return make(store, self, epoch, seed, **self.arrays)


def planned(**arrays):
    return AdaptiveSampler(two_scores(4), Own(arrays)).plan


REFUSED = {
    "numbers of rows": ({"kept": np.arange(2)}, r"np\.isin\(np\.arange\(4\), rows\) makes a mask"),
    "counts of fewer rows": ({"counts": np.ones(3, int)}, r"shape \(3,\): pass \(4,\) integers"),
    "counts of all rows beside kept": ({"kept": TWO, "counts": np.ones(4, int)}, r"shape \(4,\): pass \(2,\) integers"),
    "counts that are no integers": ({"counts": 1.5 * FOUR}, "counts have dtype float64"),
    "counts below 1": ({"counts": np.arange(4)}, "a kept row would be visited 0 times. Leave out of `kept`"),
    "counts below 0": ({"counts": np.full(4, -1)}, "would be visited -1 times"),
    "counts that no plan holds": ({"counts": np.full(4, 2**32)}, "visited 4294967296 times.* 1 to 4294967295 times"),
    "weights of fewer rows": ({"weights": np.ones(3)}, r"weights have .* shape \(3,\): pass \(4,\) numbers"),
    "weights of all rows beside kept": ({"kept": TWO, "weights": FOUR}, r"shape \(4,\): pass \(2,\) numbers"),
    "weights that are no numbers": ({"weights": FOUR.astype(str)}, "weights have dtype <U"),
    "weights below 0": ({"weights": -FOUR}, "a loss weight is -1.0. Weigh by numbers of 0 or more"),
    "weights beyond float32": ({"weights": 1e300 * FOUR}, "a loss weight is inf"),
    "a weight of NaN": ({"weights": np.array([1, np.nan, 1, 1])}, "a loss weight is nan"),
}


@pytest.mark.parametrize(("arrays", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_array_of_the_kept_rows_is_refused_with_what_is(arrays, words):
    with pytest.raises(InvalidValue, match=words):
        planned(**arrays)


def test_what_the_refusal_of_row_numbers_says_keeps_these_rows():
    assert planned(kept=np.isin(np.arange(4), [1, 3])).rows.tolist() == [1, 3]


def test_counts_and_weights_of_any_numbers_are_those_of_the_kept_rows():
    plan = planned(kept=TWO, counts=np.array([3, 1]), weights=np.array([0.5, 2]))
    assert plan.repeats.tolist() == [3, 1, 0, 0]
    assert plan.weights is not None
    assert plan.weights.dtype == np.float32
    assert plan.loss_weights_of(np.arange(2)).tolist() == [0.5, 2]


class Rows:
    """A policy that returns rows, as a stranger may expect it to."""

    def plan(self, store: Any, *, epoch: int, seed: int) -> Any:
        return np.arange(2)


@pytest.mark.parametrize("used", [AdaptiveSampler, lambda store, policy: testing.check_policy(policy, store)])
def test_what_is_no_plan_is_refused_with_how_to_make_one(used):
    with pytest.raises(
        InvalidValue, match=r"Rows .* plans ndarray, no Plan: have its method plan return what selection"
    ):
        len(used(two_scores(4), Rows()))
