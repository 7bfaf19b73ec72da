"""A plan names the functions of its policy, so that no training goes on with another one unseen."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.selection import Focal, Weigh
from adaptive_sampler.selection.base import describe
from tests.stores import scored


def rooted(scores):
    return scores**0.5


@dataclass(frozen=True)
class Capped:
    """A way to weigh of one's own with a number."""

    at: Any

    def __call__(self, scores):
        return np.minimum(scores, self.at)


class Plain:
    def __call__(self, scores):
        return scores

    def method(self, scores):
        return scores


def told(how):
    return describe(Weigh("loss", how))["how"]


def capped_at(cap):
    return lambda scores: np.minimum(scores, cap)


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("focal", {"kind": "Focal", "gamma": 2.0}),
        (Capped(3), {"kind": "Capped", "at": 3}),
        (rooted, {"function": f"{__name__}.rooted"}),
        (np.sqrt, {"function": "numpy.sqrt"}),
        ([np.sqrt, Focal(1.0)], [{"function": "numpy.sqrt"}, {"kind": "Focal", "gamma": 1.0}]),
    ],
)
def test_a_way_to_weigh_is_named_by_what_it_is_called_and_its_numbers(how, name):
    assert told(how) == name


def test_a_name_means_the_same_as_what_it_stands_for():
    assert describe(Weigh("confidence", "focal")) == describe(Weigh("confidence", Focal(2.0)))


# in pairs: the same function written twice, and another one
SAME = [
    (lambda s: s + 1, lambda s: s + 1),
    (lambda s: s + 1, lambda scores: scores + 1),
    (capped_at(2), capped_at(2)),
    (capped_at(np.arange(3)), capped_at(np.arange(3))),
    (lambda s: s * sum(x in {1, 2} for x in (1, 5)), lambda s: s * sum(x in {1, 2} for x in (1, 5))),
]
DIFFERENT = [
    (lambda s: s + 1, lambda s: s + 2),
    (lambda s: s + 1, lambda s: s - 1),
    (lambda s: np.sqrt(s), lambda s: np.log1p(s)),
    (lambda s, cap=1: s * cap, lambda s, cap=2: s * cap),
    (lambda s, *, cap=1: s * cap, lambda s, *, cap=2: s * cap),
    (capped_at(2), capped_at(3)),
    (capped_at(np.arange(3)), capped_at(np.arange(1, 4))),
    (lambda s: s * sum(x in {1, 2} for x in (1, 5)), lambda s: s * sum(x in {1, 3} for x in (1, 5))),
]


def in_no_module(code):
    """The function `how` of a text that is run, as a notebook's server or a docs test may."""
    namespace = {"np": np}
    exec(code, namespace)
    return namespace["how"]


SAME.append((in_no_module("def how(s): return s + 1"), in_no_module("def how(s):\n    return s + 1")))
DIFFERENT.append((in_no_module("def how(s): return s + 1"), in_no_module("def how(s): return s + 2")))


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_lambdas_that_do_the_same_have_the_same_name(one, other):
    assert told(one) == told(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_two_lambdas_that_do_something_else_have_other_names(one, other):
    assert told(one) != told(other)


def test_a_lambda_has_the_same_name_in_every_process():
    code = "\n".join(
        [
            "from adaptive_sampler.selection import Weigh",
            "from adaptive_sampler.selection.base import describe",
            "print(describe(Weigh('loss', lambda s: s * sum(x in {'a', 'b', 'c'} for x in 'bd'))))",
        ]
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert "code" in found.pop()


def state_of(how):
    """A store, and the state of a sampler within an epoch."""
    store = scored([1.0, 2.0, 3.0])
    sampler = AdaptiveSampler(store, Weigh("loss", how))
    next(iter(sampler))
    return store, sampler.state_dict()


def test_a_training_goes_on_with_the_same_lambda():
    store, state = state_of(capped_at(2))
    resumed = AdaptiveSampler(store, Weigh("loss", capped_at(2)))
    resumed.load_state_dict(state)
    assert len(list(resumed)) == 2
    assert resumed.loss_weights(np.arange(3)).tolist() == [1, 2, 2]


@pytest.mark.parametrize("other", [capped_at(3), rooted, "linear"], ids=["closed over", "def", "name"])
def test_a_training_does_not_go_on_with_another_function(other):
    store, state = state_of(capped_at(2))
    with pytest.raises(ResumeError, match="the state was saved with policy="):
        AdaptiveSampler(store, Weigh("loss", other)).load_state_dict(state)


@pytest.mark.parametrize(
    "how", [Plain(), Plain().method, partial(np.minimum, 2.0), capped_at(object()), Capped({1})], ids=range(5)
)
def test_what_a_plan_cannot_name_is_refused_when_it_is_given(how):
    with pytest.raises(
        InvalidValue, match=r"which a plan cannot name\. Give a policy numbers, texts, arrays, functions"
    ):
        Weigh("loss", how)


def test_what_a_lambda_has_closed_over_is_named_in_the_message():
    with pytest.raises(InvalidValue, match=r"Weigh\.how, .*capped_at\.<locals>\.<lambda>, is <object object"):
        Weigh("loss", capped_at(object()))
