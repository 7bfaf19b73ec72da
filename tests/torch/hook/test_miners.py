"""OHEM and selective backprop choose samples of a batch by their losses, as their papers do; a resume chooses the same."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.torch import OHEM, Miner, SelectiveBackprop
from tests import references

FINITE = st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.5, 7.0])  # with ties
ANY = st.one_of(FINITE, st.sampled_from([float("nan"), float("inf"), float("-inf")]))
BATCHES = st.lists(st.lists(ANY, min_size=1, max_size=9), min_size=1, max_size=6)


# -- OHEM ---------------------------------------------------------------------------------------------------------------


@given(st.lists(ANY, min_size=1, max_size=9), st.integers(1, 12))
def test_ohem_chooses_the_highest_losses(losses, number):
    chosen = OHEM(number).choose(torch.tensor(losses))
    assert chosen.dtype is torch.int64
    assert chosen.tolist() == references.ohem(losses, number)


@pytest.mark.parametrize(
    ("keep", "batch", "number"),
    [
        (0.25, 8, 2),
        (0.25, 6, 2),
        (0.25, 5, 1),
        (0.01, 3, 1),
        (1.0, 3, 3),
        (0.5, 1, 1),
        (4, 3, 3),
        (4, 9, 4),
        (0.1, 25, 3),
        (0.145, 100, 15),  # as `selection.base.cut` rounds: the number as it is written, not as the float nearest to it
    ],
)
def test_a_share_is_of_the_batch_at_hand_rounded_and_at_least_one(keep, batch, number):
    assert len(OHEM(keep).choose(torch.arange(float(batch)))) == number


def test_of_equal_losses_the_first_are_taken():
    assert OHEM(2).choose(torch.ones(5)).tolist() == [0, 1]


def test_no_sample_is_chosen_of_an_empty_batch():
    for miner in (OHEM(0.5), OHEM(3), SelectiveBackprop()):
        assert miner.choose(torch.zeros(0)).shape == (0,)


@pytest.mark.parametrize("keep", [0, -1, 0.0, 1.5, float("nan"), True, "half", None])
def test_ohem_refuses_what_is_no_share_and_no_number(keep):
    with pytest.raises(InvalidValue, match=rf"keep={keep!r}: a share in \(0, 1\].*or a number of samples, 1 or more"):
        OHEM(keep)


# -- selective backprop -------------------------------------------------------------------------------------------------


def test_worked_numbers_of_selective_backprop():
    """beta 2: (1/4)², (2/4)², (3/4)², 1; then half of the four losses before are forgotten."""
    miner = SelectiveBackprop(2, history=4)
    assert miner.probabilities(np.float32([1, 2, 3, 4])).tolist() == [0.0625, 0.25, 0.5625, 1]
    miner.choose(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert miner.probabilities(np.float32([3.5, 0.5])).tolist() == [(3 / 4) ** 2, (1 / 4) ** 2]  # of 3, 4, 3.5, 0.5


@given(BATCHES, st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.integers(1, 12))
def test_probabilities_are_the_twins(batches, beta, history):
    miner, before = SelectiveBackprop(beta, history=history), []
    for batch in batches:
        expected = references.selective_probabilities(before, batch, beta, history)
        assert miner.probabilities(np.float32(batch)).tolist() == pytest.approx(expected)
        miner.choose(torch.tensor(batch))
        before += batch


def test_samples_are_chosen_as_often_as_their_probability_says():
    losses, times = torch.arange(4.0), np.zeros(4)
    miner = SelectiveBackprop(history=4, seed=3)
    for _ in range(2000):
        times[miner.choose(losses).numpy()] += 1
    np.testing.assert_allclose(times / 2000, [0.25, 0.5, 0.75, 1], atol=0.04)  # 4 standard errors


def test_the_hardest_is_always_chosen_and_with_beta_0_all():
    for seed in range(20):
        assert 2 in SelectiveBackprop(9, seed=seed).choose(torch.tensor([0.0, 1.0, 2.0])).tolist()
    assert SelectiveBackprop(0).choose(torch.tensor([0.0, 1.0, 2.0])).tolist() == [0, 1, 2]


def test_where_chance_chooses_none_the_hardest_is():
    miner = SelectiveBackprop(1e3, history=100)
    miner.choose(torch.full((50,), 9.0))
    assert miner.choose(torch.tensor([1.0, 3.0, 2.0])).tolist() == [1]


def test_what_is_not_finite_is_chosen_and_forgotten_and_what_is_ignored_is_not():
    miner = SelectiveBackprop(1e3)
    miner.choose(torch.full((8,), 9.0))
    assert miner.choose(torch.tensor([1.0, float("nan"), float("-inf"), float("inf")])).tolist() == [1, 3]
    assert miner.state_dict()["losses"] == [9.0] * 8 + [1.0]


def test_another_seed_draws_otherwise_and_the_same_seed_alike():
    losses = torch.rand(64, generator=torch.Generator().manual_seed(0))
    first, again, other = (SelectiveBackprop(seed=seed).choose(losses).tolist() for seed in (0, 0, 1))
    assert first == again != other


@given(BATCHES, BATCHES)
def test_a_resume_chooses_what_a_training_without_a_stop_does(before, after):
    whole = SelectiveBackprop(1.5, history=5, seed=2)
    for batch in before:
        whole.choose(torch.tensor(batch))
    state = json.loads(json.dumps(whole.state_dict()))
    resumed = SelectiveBackprop(1.5, history=5, seed=2)
    resumed.load_state_dict(state)
    for batch in after:
        assert resumed.choose(torch.tensor(batch)).tolist() == whole.choose(torch.tensor(batch)).tolist()
    assert resumed.state_dict() == whole.state_dict()


@pytest.mark.parametrize("other", [SelectiveBackprop(2), SelectiveBackprop(history=9), SelectiveBackprop(seed=1)])
def test_a_state_of_other_arguments_is_refused(other):
    with pytest.raises(ResumeError, match="make SelectiveBackprop with the arguments of the training that saved it"):
        SelectiveBackprop().load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    "change",
    [
        *({"batches": value} for value in (-1, None)),
        *({"losses": value} for value in ("abc", None, [[1.0]], [[1.0], [2.0, 3.0]], [np.nan], [1e300], [1.0] * 1025)),
    ],
)
def test_what_is_no_state_is_refused_and_changes_nothing(change):
    miner = SelectiveBackprop()
    with pytest.raises(ResumeError, match="are no state of SelectiveBackprop"):
        miner.load_state_dict(miner.state_dict() | change)
    assert miner.state_dict() == SelectiveBackprop().state_dict()


@pytest.mark.parametrize("state", [{}, None, [], "state", {"batches": 1, "losses": []}])
def test_what_is_no_dict_of_a_state_is_refused(state):
    with pytest.raises(ResumeError, match=r"is no state of SelectiveBackprop.*Pass what state_dict returned"):
        SelectiveBackprop().load_state_dict(state)


@pytest.mark.parametrize("beta", [-1, float("nan"), float("inf"), "1", None, True])
def test_a_beta_below_0_is_refused(beta):
    with pytest.raises(InvalidValue, match=rf"beta={beta!r}: a number, 0 or more"):
        SelectiveBackprop(beta)


@pytest.mark.parametrize(("name", "value"), [("history", 0), ("history", 1.5), ("seed", -1), ("seed", None)])
def test_a_history_of_nothing_and_a_negative_seed_are_refused(name, value):
    with pytest.raises(InvalidValue, match=rf"{name}={value!r}"):
        SelectiveBackprop(**{name: value})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_losses_of_any_precision_are_ranked(dtype):
    losses = torch.tensor([0.5, 4.0, 2.0], dtype=dtype)
    assert OHEM(1).choose(losses).tolist() == [1]
    assert SelectiveBackprop(1e3).choose(losses).tolist() == [1]


def test_both_are_miners_and_a_class_is_none():
    assert isinstance(OHEM(1), Miner)
    assert isinstance(SelectiveBackprop(), Miner)
