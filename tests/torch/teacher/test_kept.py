"""Kept samples are gathered in order of arrival until a step is full; none is lost and none comes twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from adaptive_sampler.errors import InvalidValue  # noqa: E402
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
