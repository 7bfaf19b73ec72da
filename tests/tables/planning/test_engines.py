"""Who runs a pass: every share is looked at, what is found is merged, and an error comes out as it is."""

import pytest

from adaptive_sampler.errors import InvalidValue

pytest.importorskip("pyarrow", reason="tables are read with PyArrow")

from adaptive_sampler.tables.planning.engines import TableShare, ThreadsEngine, engine_of

SHARES = [TableShare(number, ()) for number in range(20)]


def first_times(share, factor):
    return [share.first * factor]


def odd_fails(share):
    if share.first % 2:
        raise InvalidValue(f"share {share.first}")
    return []


def joined(a, b):
    return a + b


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_every_share_is_looked_at_once_and_what_is_found_is_merged(threads):
    found = ThreadsEngine(threads).run(first_times, SHARES, (3,), joined)
    assert sorted(found) == [3 * number for number in range(20)]


def test_of_several_errors_the_first_shares_comes_out_as_it_is():
    with pytest.raises(InvalidValue, match=r"^share 1$"):
        ThreadsEngine(5).run(odd_fails, SHARES, (), joined)


def test_an_engine_that_is_none_is_named():
    with pytest.raises(InvalidValue, match="engine='spark': one of 'arrow'"):
        engine_of("spark")
