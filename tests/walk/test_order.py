"""An order is uniform, independent of every other, and the same from whatever position it is read."""

import hashlib
from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import shuffle
from adaptive_sampler.walk import order
from adaptive_sampler.walk.order import Order
from tests import references
from tests.statistics import SIGMAS, chi_square_limit

KEYS = st.integers(0, 2**64 - 1)


@pytest.fixture(params=["materialised", "lazy"])
def either(request, monkeypatch):
    """Both ways to an order, whatever the size."""
    if request.param == "lazy":
        monkeypatch.setattr(order, "MATERIALISE", 0)
        monkeypatch.setattr(order, "MATERIALISE_REPEATED", 0)
    return request.param


def images(n: int, key: int, way: str) -> np.ndarray:
    if way == "lazy":
        return shuffle.Network(n, key=key).images(0, n)
    whole = shuffle.Shuffle(n, np.int32, key=key)
    whole.add(np.arange(n, dtype=np.int32))
    return whole.finish()


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 1024, 3001])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99, 1])
def test_the_rows_of_a_bitmap_are_shuffled_as_rows_that_come_one_after_the_other(n: int, share: float) -> None:
    mask = np.random.default_rng(n).random(n) < share
    of_bits, of_rows = (shuffle.Shuffle(mask.sum(), np.int32, key=5) for _ in range(2))
    of_bits.add_kept(references.pack(mask))
    for row in np.flatnonzero(mask).astype(np.int32):
        of_rows.add(row[None])
    np.testing.assert_array_equal(of_bits.finish(), of_rows.finish())


PLANS = [(n, share) for n in (0, 1, 2, 7, 8, 9, 63, 64, 65, 3000) for share in (None, 0, 0.1, 0.5, 1)]


@pytest.mark.parametrize(("n", "share"), PLANS)
@pytest.mark.parametrize("repeated", [None, np.uint8, np.int64])
@pytest.mark.usefixtures("either")
class TestEveryPlan:
    def plan(self, n, share, repeated):
        rng = np.random.default_rng(n)
        mask = np.ones(n, bool) if share is None else rng.random(n) < share
        repeats = None if repeated is None else rng.integers(1, 9, mask.sum()).astype(repeated)
        rows = np.flatnonzero(mask)
        multiset = rows if repeats is None else np.repeat(rows, repeats)
        return None if share is None else references.pack(mask), repeats, multiset

    def test_without_a_key_the_multiset_comes_in_ascending_order(self, n, share, repeated):
        bits, repeats, multiset = self.plan(n, share, repeated)
        walk = Order(n, bits, repeats, key=None)
        assert len(walk) == len(multiset)
        np.testing.assert_array_equal(walk.take(0, len(walk)), multiset)

    def test_with_a_key_each_occurrence_comes_exactly_once(self, n, share, repeated):
        bits, repeats, multiset = self.plan(n, share, repeated)
        rows = Order(n, bits, repeats, key=5).take(0, len(multiset) + 9)
        np.testing.assert_array_equal(np.sort(rows), multiset)

    def test_any_stretch_with_any_stride_is_a_slice_of_the_whole(self, n, share, repeated):
        bits, repeats, _ = self.plan(n, share, repeated)
        for key in (None, 5):
            walk = Order(n, bits, repeats, key=key)
            whole = walk.take(0, len(walk))
            for start, stop, step in [
                (0, 5, 1),
                (len(walk) // 3, len(walk) - 1, 1),
                (2, len(walk), 4),
                (9, 3, 1),
            ]:
                fresh = Order(n, bits, repeats, key=key)
                np.testing.assert_array_equal(fresh.take(start, stop, step), whole[start:stop:step])


def test_nothing_is_shuffled_before_the_first_take():
    assert not {"_shuffled", "_network", "_index", "_runs"} & vars(Order(1000, None, key=1)).keys()


def test_nobody_writes_into_an_order_by_way_of_what_take_returns():
    with pytest.raises(ValueError, match="read-only"):
        Order(100, None, key=1).take(0, 100)[:] = -1


def test_rows_are_int32_where_that_reaches():
    assert Order(100, None, key=1).take(0, 3).dtype == np.int32
    assert Order(2**31, None, key=1).take(2**31 - 3, 2**31).dtype == np.int64


def test_the_lazy_order_of_five_billion_rows_is_read_at_both_ends():
    n = 5 * 10**9
    rows = np.concatenate([Order(n, None, key=1).take(0, 500), Order(n, None, key=1).take(n - 500, n)])
    assert len(np.unique(rows)) == 1000
    assert rows.min() >= 0
    assert rows.max() < n
    assert abs(rows.mean() / n - 0.5) < SIGMAS / np.sqrt(12 * 1000)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 300), KEYS)
def test_a_shuffle_is_its_slow_twin(n, key):
    assert images(n, key, "materialised").tolist() == references.shuffle(list(range(n)), key=key)


def test_a_shuffle_of_several_buckets_is_its_slow_twin(monkeypatch):
    monkeypatch.setattr(shuffle, "_BUCKET", 64)
    assert images(5000, 3, "materialised").tolist() == references.shuffle(list(range(5000)), key=3, mean_bucket=64)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), KEYS)
@example(1, 0)
@example(2, 0)
def test_a_network_is_its_slow_twin(n, key):
    assert images(n, key, "lazy").tolist() == [references.image(i, n, key=key) for i in range(n)]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_every_order_of_a_few_rows_is_equally_likely(n):
    seen = dict.fromkeys(permutations(range(n)), 0)
    trials = 40 * len(seen) + 500
    for key in range(trials):
        seen[tuple(Order(n, None, key=key).take(0, n).tolist())] += 1
    mean = trials / len(seen)
    assert sum((count - mean) ** 2 / mean for count in seen.values()) < chi_square_limit(len(seen) - 1)


N = 300_007
WAYS = pytest.mark.parametrize("way", ["materialised", "lazy"])


@WAYS
class TestLargeOrders:
    def test_successors_and_near_successors_are_as_rare_as_by_chance(self, way):
        """out[i + lag] - out[i] = d happens about once for each d and lag."""
        lags = (1, 2, 547, 548)  # 547 is the width of the network's halves
        near = 0
        for key in range(6):
            out = images(N, key, way).astype(np.int64)
            near += sum(np.count_nonzero(np.abs(out[lag:] - out[:-lag]) <= 8) for lag in lags)
        expected = 6 * len(lags) * 16
        assert abs(near - expected) < SIGMAS * np.sqrt(expected)

    def test_fixed_points_are_as_rare_as_by_chance(self, way):
        fixed = sum(np.count_nonzero(images(4099, key, way) == np.arange(4099)) for key in range(300))
        assert abs(fixed - 300) < SIGMAS * np.sqrt(300)

    def test_positions_and_neighbours_say_nothing_of_a_row(self, way):
        out = images(N, 1, way).astype(float)
        limit = SIGMAS / np.sqrt(N)
        assert abs(np.corrcoef(out, np.arange(N))[0, 1]) < limit
        for lag in (1, 2, 3, 547, 548, 549, N // 2):
            assert abs(np.corrcoef(out[lag:], out[:-lag])[0, 1]) < limit

    def test_pairs_of_neighbours_fill_a_grid_evenly(self, way):
        cell = images(N, 2, way).astype(np.int64) * 32 // N
        for one, other in [(cell[1:], cell[:-1]), (cell, np.arange(N) * 32 // N), (cell[548:], cell[:-548])]:
            counts = np.bincount(one * 32 + other, minlength=1024)
            mean = len(one) / 1024
            assert ((counts - mean) ** 2 / mean).sum() < chi_square_limit(1023)

    def test_other_keys_give_independent_orders(self, way):
        orders = [images(N, key, way).astype(np.int64) for key in (0, 1, 2, 2**63)]
        for i, one in enumerate(orders):
            for other in orders[:i]:
                assert abs(np.corrcoef(one, other)[0, 1]) < SIGMAS / np.sqrt(N)
                assert np.count_nonzero(one == other) < 12


def test_orders_are_the_same_on_every_platform(monkeypatch):
    bits = references.pack(np.arange(40) % 3 > 0)
    assert Order(40, bits, key=1).take(0, 8).tolist() == [37, 19, 16, 11, 25, 31, 7, 14]
    assert Order(2_000_000, None, key=1).take(0, 2_000_000, 400_000).tolist() == [
        884783,
        553030,
        594941,
        1468164,
        853270,
    ]
    assert Order(10**9, None, key=1).take(0, 10**9, 2 * 10**8).tolist() == [
        770915717,
        950026199,
        319790886,
        404198944,
        217136651,
    ]
    monkeypatch.setattr(order, "MATERIALISE", 0)
    monkeypatch.setattr(order, "MATERIALISE_REPEATED", 0)
    assert Order(40, bits, key=1).take(0, 8).tolist() == [17, 5, 31, 29, 38, 35, 4, 19]


# (rows, key, the first of them, a checksum of all): one bucket up to 2**18 rows, then 2, 4 and 16.
ORDERS = [
    (1000, 0, [632, 607, 193, 54], "e895a9887502f030"),
    (2**18, 1, [110511, 221168, 201425, 100177], "1c9c7325870aa14d"),
    (2**18 + 1, 1, [220927, 66024, 187387, 200228], "e880f8275b25e4dc"),
    (600_000, 2**64 - 1, [12175, 37198, 290896, 516576], "f76895372a3e41fc"),
    (3_000_000, 7, [1260118, 1662031, 581844, 1835785], "f6a53954510f8ee9"),
]


def checksum(n, key):
    return hashlib.sha256(Order(n, None, key=key).take(0, n).astype("<i4").tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(("n", "key", "first", "expected"), ORDERS)
def test_an_order_is_the_one_that_states_of_this_format_go_on_in(n, key, first, expected):
    """Where this fails on purpose, raise FORMAT in walk/resume.py, and say so in the changelog."""
    assert Order(n, None, key=key).take(0, 4).tolist() == first
    assert checksum(n, key) == expected


@pytest.mark.parametrize("bucket", [2**17, 2**18 - 1, 2**18 + 1, 2**19])
def test_another_size_of_bucket_gives_other_orders(monkeypatch, bucket):
    monkeypatch.setattr(shuffle, "_BUCKET", bucket)
    assert any(checksum(n, key) != expected for n, key, _, expected in ORDERS)


def test_a_bitmap_of_another_length_is_refused():
    with pytest.raises(InvalidValue, match="bits has 2 bytes, n=17 rows need 3"):
        Order(17, np.zeros(2, np.uint8), key=None)


def test_repeats_for_other_rows_are_refused():
    with pytest.raises(InvalidValue, match="repeats has 2 entries for 3 kept rows"):
        Order(3, None, np.ones(2, int), key=None)


@pytest.mark.parametrize(("start", "step"), [(-1, 1), (0, 0)])
def test_positions_count_up_from_zero(start, step):
    with pytest.raises(InvalidValue, match=f"start={start}, step={step}: positions count up from 0"):
        Order(3, None, key=None).take(start, 3, step)
