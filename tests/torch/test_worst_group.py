"""The worst group is the one with the highest mean loss; its standard error is that of the mean."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adaptive_sampler.errors import InvalidValue  # noqa: E402
from adaptive_sampler.torch import worst_group  # noqa: E402


def test_the_group_with_the_highest_mean_loss_is_told_with_its_standard_error():
    found = worst_group(torch.tensor([1.0, 3.0, 5.0, 2.0, 2.0]), ["water", "land", "land", "water", "water"])
    assert found == ("land", 4.0, 1.0, 2)  # √2 / √2


def test_of_mistakes_it_is_the_group_with_the_lowest_accuracy_and_the_error_of_a_share():
    groups = np.repeat([0, 1], 100)
    mistakes = torch.tensor(np.r_[np.arange(100) < 10, np.arange(100) < 30])
    found = worst_group(mistakes, torch.tensor(groups))
    assert (found.group, found.loss, found.number) == (1, 0.3, 100)
    assert found.standard_error == pytest.approx(math.sqrt(0.3 * 0.7 / 99))


@pytest.mark.parametrize("dtype", [object, np.dtypes.StringDType()], ids=str)
def test_texts_of_any_dtype_name_groups(dtype):
    assert worst_group([1.0, 2.0], np.array(["water", "land"], dtype)).group == "land"


def test_one_loss_alone_has_no_standard_error():
    assert math.isnan(worst_group([1.0, 9.0], ["a", "b"]).standard_error)


@pytest.mark.parametrize(
    ("losses", "groups", "words"),
    [
        ([1.0, 2.0], [0], r"losses have shape \(2,\) and groups \(1,\)"),
        ([], [], r"losses have shape \(0,\)"),
        ([[1.0]], [[0]], r"losses have shape \(1, 1\)"),
        ([1.0, math.nan], [0, 1], "the loss of sample 1 is nan"),
        (["a", "b"], [0, 1], "losses have dtype <U1: numbers are needed"),
        ([1j, 2], [0, 1], "losses have dtype complex128: numbers are needed"),
        ([1.0, 2.0], [0.0, math.nan], "groups has labels of NaN: one kind of label"),
        ([1.0, 2.0], np.array(["a", None], object), "groups has labels of NoneType and str: one kind of label"),
    ],
)
def test_what_has_no_mean_is_refused(losses, groups, words):
    with pytest.raises(InvalidValue, match=words):
        worst_group(losses, groups)
