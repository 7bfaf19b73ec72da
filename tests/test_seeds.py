"""Random streams by their address: the same key on every machine, however NumPy is asked for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import seeds
from adaptive_sampler.errors import InvalidValue

WIDE = 1 << 32  # NumPy takes two words for a part from here on


@pytest.mark.parametrize("seed", [0, 1, WIDE - 1, WIDE, WIDE + 1, (1 << 64) - 1, 1 << 100])
@pytest.mark.parametrize("epoch", [0, 3, WIDE])
@pytest.mark.parametrize("more", [(), (0,), (5, WIDE)])
def test_a_key_is_what_numpys_seed_sequence_makes_of_the_whole_address(
    seed: int, epoch: int, more: tuple[int, ...]
) -> None:
    address = [seed, epoch, int(seeds.Purpose.TIES), *more]
    expected = np.random.SeedSequence(address).generate_state(1, np.uint64)[0]
    assert seeds.key(seed, epoch, seeds.Purpose.TIES, *more) == expected


@given(st.lists(st.one_of(st.integers(0, 3), st.integers(0, WIDE), st.integers(0, 1 << 130)), min_size=2, max_size=9))
def test_so_it_is_for_any_address(parts: list[int]) -> None:
    seed, epoch, *more = parts
    expected = np.random.SeedSequence([seed, epoch, 1, *more]).generate_state(1, np.uint64)[0]
    assert seeds.key(seed, epoch, seeds.Purpose(1), *more) == expected


@pytest.mark.parametrize(("seed", "epoch"), [(-1, 0), (0, -1)])
def test_a_negative_part_is_refused(seed: int, epoch: int) -> None:
    with pytest.raises(InvalidValue, match="both must be 0 or more"):
        seeds.key(seed, epoch, seeds.Purpose.ORDER)
