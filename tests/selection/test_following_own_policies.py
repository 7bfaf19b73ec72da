"""A policy of one's own follows the epoch by its fields marked `Varying`, however it is written."""

import importlib.util
import sys
from dataclasses import InitVar, dataclass
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import testing
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import (
    Composable,
    Linear,
    Prune,
    Steps,
    Varying,
    make,
)
from tests.stores import scored


@dataclass(frozen=True)
class Nearest(Composable):
    """A policy of one's own: the rows about a place."""

    place: Varying
    by: str

    def plan(self, store, *, epoch, seed):
        return make(store, self, epoch, seed, kept=np.abs(store[self.by] - self.place) < 1)


def test_a_policy_of_ones_own_follows_the_epoch_if_it_is_composable():
    store = scored(np.arange(9.0))
    for place in (Linear(0, 8, epochs=4), lambda epoch: 2.0 * epoch):
        policy = Nearest(place, "loss")
        assert policy.plan(store, epoch=3, seed=0).rows.tolist() == [6]
        testing.check_policy(policy, store)
    composed = Nearest(Linear(0.3, 0.9, epochs=4), "loss") & Prune(0.5, "loss", order="lowest")
    assert composed.plan(store, epoch=0, seed=0).num_rows == 2


def test_fields_are_marked_however_their_annotation_is_written(tmp_path):
    module = tmp_path / "own_policy.py"
    module.write_text(OF_TEXTS)
    spec = importlib.util.spec_from_file_location("own_policy", module)
    own = importlib.util.module_from_spec(spec)
    sys.modules["own_policy"] = own
    try:
        spec.loader.exec_module(own)
    finally:
        del sys.modules["own_policy"]
    policy = own.About("loss", lambda epoch: 2.0 * epoch, lambda epoch: 1 + epoch / 3)
    assert policy.plan(scored(np.arange(9.0)), epoch=3, seed=0).rows.tolist() == [5, 6, 7]


OF_TEXTS = """
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adaptive_sampler import selection
from adaptive_sampler.selection import Composable, Varying, make


@dataclass(frozen=True)
class About(Composable):
    by: str
    place: Varying
    width: None | selection.Varying = None
    unknown: ClassVar[NotThere] = 3

    def plan(self, store, *, epoch, seed):
        return make(store, self, epoch, seed, kept=np.abs(store[self.by] - self.place) < self.width)
"""


@dataclass(frozen=True)
class Plain:
    """A policy that inherits nothing."""

    least: Varying
    by: str

    def plan(self, store, *, epoch, seed):
        return make(store, self, epoch, seed, kept=store[self.by] >= self.least)


class Inherited(Composable, Plain):
    """The same, composable."""


def test_a_plan_that_is_inherited_from_what_does_not_follow_the_epoch_does():
    policy = Inherited(Linear(0, 8, epochs=4), "loss")
    assert policy.plan(scored(np.arange(9.0)), epoch=3, seed=0).rows.tolist() == [6, 7, 8]


@dataclass(frozen=True)
class Optional(Composable):
    """One that may have no number."""

    least: Varying | None
    by: str

    def plan(self, store, *, epoch, seed):
        return make(store, self, epoch, seed, kept=None if self.least is None else store[self.by] >= self.least)


def test_a_number_that_may_be_none_follows_a_function_that_says_none():
    policy = Optional(lambda epoch: None if epoch == 0 else 7.0, "loss")
    plans = [policy.plan(scored(np.arange(9.0)), epoch=epoch, seed=0) for epoch in (0, 1)]
    assert [plan.num_rows for plan in plans] == [9, 2]


@dataclass(frozen=True, slots=True)
class Settled(Composable):
    """One that makes an array of a list, and has slots."""

    keep: Varying
    rows: Any

    def __post_init__(self):
        object.__setattr__(self, "rows", np.asarray(self.rows))

    def plan(self, store, *, epoch, seed):
        kept = np.zeros(len(store), bool)
        kept[self.rows[: int(self.keep)]] = True
        return make(store, self, epoch, seed, kept=kept)


def test_a_policy_with_slots_follows_the_epoch_and_stays_as_its_check_has_left_it():
    policy = Settled(Steps({0: 1, 2: 3}), [4, 2, 0])
    assert isinstance(policy.rows, np.ndarray)
    assert policy.plan(scored(np.arange(5.0)), epoch=2, seed=0).rows.tolist() == [0, 2, 4]


@dataclass(frozen=True)
class Scaled(Composable):
    """One whose check takes more than its fields."""

    least: Varying
    by: str
    factor: InitVar[float] = 1.0

    def __post_init__(self, factor):
        object.__setattr__(self, "scaled", self.least * factor)

    def plan(self, store, *, epoch, seed):
        return make(store, self, epoch, seed, kept=store[self.by] >= self.scaled)


def test_a_check_that_takes_more_than_the_fields_works_and_cannot_follow_the_epoch():
    assert Scaled(2.0, "loss", 3.0).plan(scored(np.arange(9.0)), epoch=0, seed=0).rows.tolist() == [6, 7, 8]
    with pytest.raises(InvalidValue, match=r"Scaled.__post_init__ takes 3\.0, which no field keeps"):
        Scaled(Linear(0, 8, epochs=4), "loss", 3.0)
