"""Which gaps between wanted samples are read with them, where the reader decides."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler.shards.reading.ranges import _WASTE, _runs, _thrifty

Places = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 1000)), min_size=1, max_size=40)


def placed(steps: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The first byte of each sample, and the one behind it: (gap before it, its size) for each."""
    ends = np.cumsum([gap + size for gap, size in steps])
    return ends - [size for _, size in steps], ends


@given(Places)
def test_the_gaps_of_all_runs_together_are_bounded_by_the_samples(steps: list[tuple[int, int]]) -> None:
    begin, stop = placed(steps)
    runs = _runs(begin, stop, _thrifty(begin, stop))
    served = sum(int(stop[high - 1] - begin[low]) for low, high in runs)
    assert served <= (1 + _WASTE) * int((stop - begin).sum())


@given(Places)
def test_the_longest_gap_is_the_longest_that_may_be(steps: list[tuple[int, int]]) -> None:
    begin, stop = placed(steps)
    gaps, gap = begin[1:] - stop[:-1], _thrifty(begin, stop)
    longer = gaps[gaps > gap]
    if len(longer):
        assert gaps[gaps <= longer.min()].sum() > _WASTE * (stop - begin).sum()


def test_samples_side_by_side_are_one_run() -> None:
    begin, stop = placed([(0, 10)] * 5)
    assert _runs(begin, stop, _thrifty(begin, stop)) == [(0, 5)]
