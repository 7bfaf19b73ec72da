"""Kept samples are gathered in order of arrival until a step is full; none is lost and none comes twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from adaptive_sampler.errors import InvalidValue, ResumeError  # noqa: E402
from adaptive_sampler.torch import KeptBatches  # noqa: E402


@given(st.lists(st.lists(st.booleans(), max_size=7), max_size=8), st.integers(1, 5))
def test_every_kept_sample_comes_once_and_in_order(masks, size):
    gathered, full, kept, start = KeptBatches(size), [], [], 0
    for mask in masks:
        rows = torch.arange(start, start + len(mask))
        full += gathered.add(torch.tensor(mask, dtype=torch.bool), rows, rows[:, None] * 2.0)
        kept += [row for row, keep in zip(rows.tolist(), mask, strict=True) if keep]
        start += len(mask)
        assert len(gathered) < size
    assert all(len(rows) == size for rows, _ in full)
    assert all(torch.equal(inputs[:, 0], rows * 2.0) for rows, inputs in full)
    rest = gathered.rest()
    assert [row for rows, _ in full for row in rows.tolist()] + (rest[0].tolist() if rest else []) == kept
    assert gathered.rest() == ()


def test_a_batch_of_which_nothing_is_kept_adds_nothing():
    gathered = KeptBatches(2)
    assert list(gathered.add(torch.zeros(3, dtype=torch.bool), torch.arange(3))) == []
    assert (len(gathered), gathered.rest()) == (0, ())


def test_a_batch_may_fill_several_steps():
    found = list(KeptBatches(2).add(torch.ones(5, dtype=torch.bool), torch.arange(5)))
    assert [rows.tolist() for (rows,) in found] == [[0, 1], [2, 3]]


def test_what_waits_is_in_its_state():
    first, then = KeptBatches(4), KeptBatches(1)
    first.add(torch.ones(3, dtype=torch.bool), torch.arange(3))
    then.load_state_dict(first.state_dict())
    (batch,) = then.add(torch.tensor([False, True]), torch.arange(8, 10))
    assert batch[0].tolist() == [0, 1, 2, 9]
    assert len(first) == 3


@pytest.mark.parametrize(
    ("keep", "parts", "words"),
    [
        (torch.ones(3), [torch.ones(3)], "keep is torch.float32"),
        (torch.ones(3, 1) > 0, [torch.ones(3)], r"keep is torch.bool of shape \(3, 1\)"),
        (torch.ones(3) > 0, [torch.ones(4)], r"the parts have shapes \(4,\)"),
        (torch.ones(3) > 0, [torch.ones(())], r"the parts have shapes \(\)"),
        (torch.ones(3) > 0, [], "the parts have shapes none"),
        (torch.ones(3) > 0, [torch.ones(3), torch.ones(3)], "2 parts after 1"),
        ([True], [torch.ones(1)], "keep is a list"),
        (torch.ones(3) > 0, [{"x": torch.ones(3)}], "part 0 is a dict.*give the tensors one by one"),
        (torch.ones(3) > 0, [np.ones(3)], r"part 0 is a ndarray.*torch.from_numpy\(array\)"),
        (torch.ones(3) > 0, [torch.ones(3)], r"part 0 has samples of torch.float32.*2 that wait have torch.int64"),
        (torch.ones(3) > 0, [torch.ones(3, 7).long()], r"part 0 has samples of torch.int64 and shape \(7,\).*rest\(\)"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_taken(keep, parts, words):
    gathered = KeptBatches(9)
    gathered.add(torch.ones(2, dtype=torch.bool), torch.arange(2))
    with pytest.raises(InvalidValue, match=words):
        gathered.add(keep, *parts)
    assert len(gathered) == 2


def test_a_step_of_no_samples_is_refused():
    with pytest.raises(InvalidValue, match="size=0"):
        KeptBatches(0)


def test_samples_of_another_shape_are_taken_once_none_waits():
    gathered = KeptBatches(2)
    gathered.add(torch.ones(3, dtype=torch.bool), torch.ones(3, 5))
    gathered.rest()
    (batch,) = gathered.add(torch.ones(2, dtype=torch.bool), torch.ones(2, 7))
    assert batch[0].shape == (2, 7)


def test_none_waits_after_a_full_batch_so_the_next_may_have_another_shape():
    gathered = KeptBatches(2)
    gathered.add(torch.ones(2, dtype=torch.bool), torch.ones(2, 5))
    (batch,) = gathered.add(torch.ones(2, dtype=torch.bool), torch.ones(2, 7), torch.arange(2))
    assert batch[0].shape == (2, 7)


@pytest.mark.parametrize(
    "state",
    [
        *(None, {}, {"size": 0, "waiting": ()}, {"size": 2, "waiting": None}, {"size": 2, "waiting": ([1],)}),
        {"size": 2, "waiting": (torch.ones(1), torch.ones(2))},
        {"size": 2, "waiting": (torch.ones(()),)},
    ],
)
def test_another_state_is_refused_and_nothing_changes(state):
    gathered = KeptBatches(9)
    gathered.add(torch.ones(2, dtype=torch.bool), torch.arange(2))
    with pytest.raises(ResumeError, match=r"load what kept.state_dict\(\) gave"):
        gathered.load_state_dict(state)
    assert (gathered.size, len(gathered)) == (9, 2)
