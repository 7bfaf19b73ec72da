"""A draw within each group draws that share of each group by itself."""

import numpy as np
import pytest

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection import Draw
from tests import references
from tests.stores import scored


@pytest.mark.parametrize("share", [None, 0.5, 2.5, 0.01])
def test_a_draw_has_a_share_of_each_group_and_one_sample_at_least(share):
    labels = [0] * 30 + [1] * 9 + [2]
    plan = Draw("loss", share, per_group=labels).plan(scored(np.arange(1.0, 41.0)), epoch=0, seed=0)
    expected = [max(references.cut(float(1 if share is None else share), n), 1) for n in (30, 9, 1)]
    assert np.bincount(np.array(labels)[plan.indices()]).tolist() == expected


def test_within_a_group_rows_are_drawn_in_proportion_to_their_scores():
    scores, labels = np.array([1.0, 3.0, 10.0, 30.0, np.nan]), [0, 0, 1, 1, 2]
    plan = Draw("loss", 1000.0, per_group=labels, unbiased=True).plan(scored(scores), epoch=0, seed=0)
    expected = np.array([500, 1500, 500, 1500, 1000])
    assert (np.abs(plan.repeats - expected) < 5 * np.sqrt(400) + 1).all()
    np.testing.assert_allclose(plan.loss_weights, [2, 2 / 3, 2, 2 / 3, 1], rtol=1e-6)


def test_a_draw_of_a_count_says_nothing_of_groups():
    with pytest.raises(
        InvalidValue, match=r"num_samples=9 with per_group: how many of these.*Pass a share of each group"
    ):
        Draw("loss", 9, per_group=[0, 1])


@pytest.mark.parametrize(
    ("scores", "replacement", "words"),
    [
        ([1.0, 1.0, 0.0, 0.0], True, "every observed 'loss' of the group of row 2 is 0, so nothing can be drawn"),
        ([1.0, 1.0, 0.0, 3.0], False, "only 1 rows of the group of row 2 have a positive 'loss'"),
        ([1.0, 1.0, 0.0, -3.0], True, "'loss' of row 3 is -3.0: a score to draw by must be finite"),
    ],
)
def test_what_cannot_be_drawn_from_one_group_is_told_with_a_row_of_it(scores, replacement, words):
    with pytest.raises(InvalidValue, match=words):
        Draw("loss", replacement=replacement, per_group=[0, 0, 1, 1]).plan(scored(scores), epoch=0, seed=0)
