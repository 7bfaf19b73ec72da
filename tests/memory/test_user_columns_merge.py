"""Columns of the user's own in a merge: kept where stores agree, refused where they differ."""

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss


def sites(one, other, keys=("abc", "cab"), name="source"):
    stores = [ScoreStore.create(None, 3, [Loss()], keys=order) for order in keys]
    for store, values in zip(stores, (one, other), strict=True):
        if values is not None:
            store.columns[name] = values
    return stores


@pytest.mark.parametrize(
    ("one", "other"),
    [(["web", "books", "web"], ["web", "web", "books"]), ([1, 2, 3], [3, 1, 2]), ([1.0, np.nan, 3], [3, 1, np.nan])],
    ids=["texts", "integers", "floats"],
)
def test_a_merge_keeps_columns_that_agree_by_key(one, other):
    for second in (other, None):
        merged = ScoreStore.merge(None, sites(one, second))
        assert np.array_equal(merged.columns["source"], one, equal_nan=isinstance(one[0], float))
    assert ScoreStore.merge(None, sites(None, other)).columns["source"].tolist()[0] == one[0]


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (list("xyz"), list("zxw"), r"key 'b' \(row 1\) is 'y' in .*, 'w' in .*Set it alike in both, or del"),
        ([1, 2, 3], [4, 1, 2], r"key 'c' \(row 2\) is 3 in .*, 4 in"),
        ([1, 2, 3], list("312"), r"key 'a' \(row 0\) is 1 in .*, '1' in"),
        ([True] * 3, [1] * 3, r"key 'a' \(row 0\) is True in .*, 1 in"),
    ],
)
def test_a_merge_refuses_columns_that_differ_by_row(one, other, words):
    stores = sites(one, other)
    with pytest.raises(InvalidValue, match=f"column 'source': {words}"):
        ScoreStore.merge(None, stores)
    del stores[1].columns["source"]  # the remedy
    assert ScoreStore.merge(None, stores).columns["source"].tolist() == one
