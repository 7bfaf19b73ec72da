"""The score that counts a document's tokens: exact in every library, and refused where float32 would round it."""

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Last, Loss, Max, Tokens
from tests.libraries import LIBRARIES, ONE_EACH


@pytest.mark.parametrize("library", ONE_EACH)
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_the_count_is_kept_as_it_is(library, dtype):
    counted = to_host(
        Tokens().measure(LIBRARIES[library](np.array([0, 1, 255 if dtype is np.uint8 else 1 << 24], dtype)))
    )
    assert (counted.tolist(), counted.dtype) == ([0, 1, 255 if dtype is np.uint8 else 1 << 24], np.float32)


def test_it_is_named_tokens_and_keeps_the_last_count():
    assert (Tokens().name, Tokens().inputs, Tokens().fold) == ("tokens", (("tokens",),), Last())
    with ScoreStore.create(None, 3, [Tokens(), Tokens(name="longest", fold=Max())]) as store:
        store.update([1], tokens=[7])
        store.update([1], tokens=[5])
        assert (store["tokens"][1], store["longest"][1]) == (5, 7)


def test_a_count_comes_beside_the_losses_that_it_was_counted_for():
    with ScoreStore.create(None, 3, [Tokens(), Loss()]) as store:
        store.update([2, 0], tokens=np.array([7, 4]), loss=np.array([1.5, 0.5]))
        np.testing.assert_array_equal(store["tokens"] * store["loss"], [2.0, np.nan, 10.5])


@pytest.mark.parametrize("library", ["numpy float32", "torch float32"])
@pytest.mark.parametrize("count", [-1, (1 << 24) + 1])
def test_a_count_that_float32_has_not_is_refused(library, count):
    with pytest.raises(InvalidValue, match=f"a document of {count} tokens: a count is 0 … 16777216.*several rows"):
        Tokens().measure(LIBRARIES[library](np.array([3, count])))


def test_where_looking_would_wait_for_the_device_such_a_count_is_a_nan():
    counted = Tokens().measure(LIBRARIES["jax float32"](np.array([3, -1, (1 << 24) + 1], np.int32)))
    np.testing.assert_array_equal(to_host(counted), np.array([3, np.nan, np.nan], np.float32))


@pytest.mark.parametrize("counts", [np.ones(2, np.float16), np.ones(2), np.array([True, False])])
def test_counts_that_are_no_integers_are_refused_with_the_remedy(counts):
    with pytest.raises(InvalidValue, match=rf"tokens have dtype {counts.dtype}: counts are integers.*mask.sum\(1\)"):
        Tokens().measure(counts)
    assert Tokens().measure(np.ones((2, 5), bool).sum(1)).tolist() == [5, 5]
