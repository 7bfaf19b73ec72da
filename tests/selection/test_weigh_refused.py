"""What `Weigh` refuses: scores of which a way makes no weight, arguments, and numbers outside their rule."""

from dataclasses import dataclass

import numpy as np
import pytest

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import (
    Clip,
    Exponential,
    Focal,
    KeepAll,
    Proportional,
    Weigh,
    make,
)
from tests.selection.weighing import EXAMPLE, two_scores, weights
from tests.stores import scored


def folded(values):
    """A store with scores that may be infinite, which no loss is."""

    @dataclass(frozen=True)
    class Held:
        made_from = scored([1.0]).made_from

        def __len__(self):
            return len(values)

        def __getitem__(self, name):
            return np.float32(values)

    return Held()


@pytest.mark.parametrize(
    ("how", "values", "words"),
    [
        (
            "focal",
            [0.5, np.nan, 1.2],
            r"row 2 has 'loss' 1\.2, and Focal\(gamma=2\.0\) makes nan of it\. It takes prob",
        ),
        (Focal(0), [0.5, -0.1], r"row 1 has 'loss' -0\.1, and Focal"),
        ("linear", [1.0, 1.0, -0.5], r"row 2 has 'loss' -0\.5, and Proportional.*takes finite scores that are not neg"),
        ("linear", [1.0, np.inf], "row 1 has 'loss' inf, and Proportional"),
        (
            "exponential",
            [1.0, 0.0, np.inf],
            r"row 2 has 'loss' inf, and Exponential.*It takes finite scores\. Weigh by",
        ),
        (
            lambda s: s - 2,
            [3.0, 1.0],
            r"row 1 has 'loss' 1, and <lambda> makes -1 of it\. A loss weight is a finite num",
        ),
        (lambda s: np.subtract(s, 2, out=s), [3.0, 1.0], "row 1 has 'loss' 1, and <lambda> makes -1 of it"),
        (lambda s: 1 / s, [3.0, 0.0], r"row 1 has 'loss' 0, and <lambda> makes inf of it"),
        (lambda s: s.astype(float) * 1e39, [0.0, 1.0], r"row 1 has 'loss' 1, and <lambda> makes inf"),
        ([np.log, np.exp], [1.0, -1.0], "row 1 has 'loss' -1, and log makes nan of it"),
    ],
)
def test_what_is_no_weight_is_refused_by_row_score_and_value(how, values, words):
    with pytest.raises(InvalidValue, match=words):
        Weigh("loss", how).plan(folded(values), epoch=0, seed=0)


def test_an_infinite_score_can_be_clipped_first():
    found = Weigh("loss", [Clip(highest=0.5), "linear"]).plan(folded([1.0, np.inf]), epoch=0, seed=0)
    assert found.loss_weights.tolist() == [1, 1]


def test_a_ratio_to_zero_names_both_scores():
    store = two_scores([1.0, 2.0], [1.0, 0.0])
    with pytest.raises(
        InvalidValue, match=r"row 1 has 'target' 2 and 'proposal' 0, and Ratio\(\) makes nan.*the second abov"
    ):
        weights(Weigh(["target", "proposal"], "ratio"), store)


@pytest.mark.parametrize(
    ("by", "how", "words"),
    [
        ("loss", "focus", "how='focus': one of 'focal', 'linear', 'exponential', 'ratio'"),
        ("loss", Focal, r"how=Focal is a class: pass one of it, Focal\(\)"),
        ("loss", 2.0, r"how=2\.0: one of 'focal', .*a function from scores"),
        ("loss", [], r"how=\[\] makes no weights"),
        ("loss", KeepAll(), "a function from scores"),
        (["loss"], "ratio", r"Ratio\(\) cannot be called with by=\('loss',\), one array of scores: missing"),
        (["loss", "el2n"], "focal", r"Focal\(gamma=2\.0\) cannot be called with by=\('loss', 'el2n'\), 2 arrays"),
        ("loss", ["focal", "ratio"], r"Ratio\(\) cannot be called with what Focal\(gamma=2\.0\) returns, one array"),
        (3, "focal", "by=3: the name of a score"),
        ([], "focal", r"by=\[\]: the name of a score"),
        (["loss", None], "ratio", "by=None: the name of a score"),
    ],
    ids=str,
)
def test_an_argument_that_breaks_a_rule_is_refused(by, how, words):
    with pytest.raises(InvalidValue, match=words):
        Weigh(by, how)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Focal(-1), "gamma=-1: the exponent of 1 − p"),
        (lambda: Focal(np.inf), "gamma=inf"),
        (lambda: Focal("2"), "gamma='2'"),
        (lambda: Proportional(1.5), r"floor=1\.5: the share of equal weights"),
        (lambda: Exponential(0), "temperature=0: the difference of scores"),
        (lambda: Exponential(np.nan), "temperature=nan"),
        (lambda: Clip(), "bring in a part of the values"),
        (lambda: Clip(0.5, 0.5), r"lowest=0\.5 and highest=0\.5: bring in a part"),
        (lambda: Clip(highest=1), "highest=1: the share of values"),
        (lambda: Weigh("loss", "focal", normalize="yes"), "normalize='yes': one of True, False"),
    ],
)
def test_a_number_that_breaks_a_rule_is_refused(made, words):
    with pytest.raises(InvalidValue, match=words):
        made()


def test_weights_of_a_policy_of_ones_own_that_are_all_zero_are_refused():
    store = scored(EXAMPLE)
    with pytest.raises(InvalidValue, match="every loss weight is 0"):
        make(store, KeepAll(), 0, 0, weights=np.zeros(4, np.float32))
