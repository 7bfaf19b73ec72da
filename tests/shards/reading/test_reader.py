"""A reader delivers exactly what its plan keeps, from its share, in an order of (seed, epoch), and resumes anywhere."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.kernels.window import window_order
from adaptive_sampler.shards import Place, ShardIndex, ShardReader
from tests.references import window_order as slow_window_order
from tests.shards.tars import body, index_of, plan_of, shards


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    return index_of(tmp_path_factory.mktemp("shards"), [13, 1, 40, 7, 29])


N = 90


def rows_of(reader: ShardReader) -> list[int]:
    return [sample["__index__"] for sample in reader]


def test_a_sample_is_a_raw_webdataset_sample_with_its_row_and_weight(index: ShardIndex) -> None:
    (sample,) = ShardReader(index, plan_of(N, [15], weights={15: 2.5}))
    assert sample == {
        "__key__": "s2/00001",
        "__url__": index.urls[2],
        "__index__": 15,
        "__loss_weight__": 2.5,
        "bin": body("s2/00001"),
        "cls": b"1",
    }


def test_an_epoch_visits_each_row_as_often_as_the_plan_says(index: ShardIndex) -> None:
    plan = plan_of(N, range(0, N, 3), counts={3: 4, 60: 2})
    expected = Counter(plan.indices().tolist())
    assert Counter(rows_of(ShardReader(index, plan))) == expected


def test_repeats_are_dicts_of_their_own(index: ShardIndex) -> None:
    first, second = ShardReader(index, plan_of(N, [20], counts={20: 2}))
    assert first == second
    assert first is not second


def test_pruned_samples_are_not_read(index: ShardIndex) -> None:
    reader = ShardReader(index, plan_of(N, [0, 30, 31]), merge_gap=0)
    list(reader)
    # header, body padded to blocks, header, class: nothing of the neighbours
    assert reader.counts.bytes_read == 3 * (512 + 1024 + 512 + 1)
    assert reader.counts.bytes_kept == 3 * 701


def test_a_shard_without_kept_rows_is_never_opened(tmp_path: Path) -> None:
    index = index_of(tmp_path, [5, 5, 5])
    Path(index.urls[1]).unlink()
    assert sorted(rows_of(ShardReader(index, plan_of(15, [0, 4, 10])))) == [0, 4, 10]


@pytest.mark.parametrize("gap", [0, 4000, 1 << 30])
def test_merging_changes_the_number_of_ranges_and_not_the_samples(index: ShardIndex, gap: int) -> None:
    plan = plan_of(N, range(0, N, 2))
    merged, apart = ShardReader(index, plan, merge_gap=gap), ShardReader(index, plan, merge_gap=0)
    assert list(merged) == list(apart)
    assert (merged.counts.ranges < apart.counts.ranges) == (gap > 0)


def test_long_runs_are_read_in_pieces(tmp_path: Path) -> None:
    index = index_of(tmp_path, [12], size=1_500_000)
    reader = ShardReader(index, plan_of(12, range(12)), window=0)
    assert [s["bin"] == body(s["__key__"], 1_500_000) for s in reader] == [True] * 12
    assert reader.counts.ranges >= 5


def test_the_order_is_a_function_of_seed_and_epoch(index: ShardIndex) -> None:
    plan = plan_of(N, range(N))
    orders = {(s, e): rows_of(ShardReader(index, plan, seed=s, epoch=e)) for s in (0, 1) for e in (0, 1, 2)}
    assert len({tuple(order) for order in orders.values()}) == len(orders)
    assert rows_of(ShardReader(index, plan, seed=1, epoch=2)) == orders[1, 2]


def test_without_a_window_rows_come_in_their_own_order(index: ShardIndex) -> None:
    assert rows_of(ShardReader(index, plan_of(N, range(N)), window=0)) == list(range(N))


def test_a_window_holds_no_more_samples_than_asked_for() -> None:
    order = window_order(1000, 16, np.uint64(7))
    assert sorted(order) == list(range(1000))
    assert np.all(order < np.arange(1000) + 16)


@given(n=st.integers(0, 60), window=st.integers(1, 70), key=st.integers(0, 2**64 - 1))
def test_the_window_kernel_equals_its_twin(n: int, window: int, key: int) -> None:
    assert window_order(n, window, np.uint64(key)).tolist() == slow_window_order(n, window, key)


@pytest.mark.parametrize("kept", [range(N), range(14, 54), [5], []], ids=["all", "two shards", "one row", "none"])
@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_shares_are_equal_and_disjoint_to_the_row(index: ShardIndex, kept: range, workers: int, ranks: int) -> None:
    plan = plan_of(N, kept)
    places = [[Place(r, ranks, w, workers) for w in range(workers)] for r in range(ranks)]
    padded = [[rows_of(ShardReader(index, plan, place=p)) for p in row] for row in places]
    cut = [[rows_of(ShardReader(index, plan, place=p, drop_last=True)) for p in row] for row in places]
    for shares, least in ((padded, -(-len(kept) // ranks)), (cut, len(kept) // ranks)):
        assert [sum(map(len, rank)) for rank in shares] == [least] * ranks
        assert len({tuple(map(len, rank)) for rank in shares}) == 1
        assert max(map(len, shares[0])) - min(map(len, shares[0])) <= 1
    seen = Counter(r for rank in padded for share in rank for r in share)
    assert set(seen) == set(kept)
    assert sum(seen.values()) - len(seen) < ranks
    assert max(Counter(r for rank in cut for share in rank for r in share).values(), default=1) == 1


def test_the_length_is_the_share(index: ShardIndex) -> None:
    reader = ShardReader(index, plan_of(N, range(50)), place=Place(1, 3, 0, 2))
    assert len(reader) == len(list(reader)) == 8


@pytest.mark.parametrize("stop", [0, 1, 17, 44, 45])
def test_resuming_anywhere_equals_never_having_stopped(index: ShardIndex, stop: int) -> None:
    plan = plan_of(N, range(0, N, 2))
    whole = rows_of(ShardReader(index, plan, window=9))
    reader = ShardReader(index, plan, window=9)
    walk = iter(reader)
    before = [next(walk)["__index__"] for _ in range(stop)]
    again = ShardReader(index, plan, window=9)
    again.load_state_dict(reader.state_dict())
    assert before + rows_of(again) == whole
    assert rows_of(again) == whole, "a second pass begins at the start"


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_an_epoch_resumed_on_other_ranks_and_workers_visits_each_row_once(
    index: ShardIndex, data: st.DataObject
) -> None:
    plan = plan_of(N, range(0, N, 2), counts={10: 3})
    seen: Counter[int] = Counter()
    states: list[dict[str, object]] = []
    for _ in range(3):
        ranks, workers = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
        stop = data.draw(st.integers(0, 4))
        layout = [Place(r, ranks, w, workers) for r in range(ranks) for w in range(workers)]
        readers = [ShardReader(index, plan, window=5, place=place) for place in layout]
        after = []
        for reader in readers:
            if states:
                reader.load_state_dict(states)
            walk = iter(reader)
            seen.update(s["__index__"] for s in islice(walk, stop))
            after.append(reader.state_dict())
        states = after
    last = ShardReader(index, plan, window=5)
    last.load_state_dict(states)
    seen.update(rows_of(last))
    expected = Counter(plan.indices().tolist())
    # Padding repeats visits; nothing else does, and nothing is left out.
    assert set(seen) == set(expected)
    assert all(seen[row] >= times for row, times in expected.items())
    assert sum(seen.values()) - sum(expected.values()) <= 3 * 2


def test_ranks_in_step_need_only_one_state(index: ShardIndex) -> None:
    plan = plan_of(N, range(N))
    seen = []
    for rank in range(2):
        reader = ShardReader(index, plan, place=Place(rank, 2))
        walk = iter(reader)
        seen += [next(walk)["__index__"] for _ in range(10)]
    for rank in range(3):
        resumed = ShardReader(index, plan, place=Place(rank, 3))
        resumed.load_state_dict(reader.state_dict())
        seen += rows_of(resumed)
    assert set(seen) == set(range(N))
    assert len(seen) <= N + 2


def test_one_workers_state_does_not_speak_for_the_others(index: ShardIndex) -> None:
    plan = plan_of(N, range(N))
    reader = ShardReader(index, plan, place=Place(0, 1, 0, 2))
    next(iter(reader))
    other = ShardReader(index, plan, place=Place(0, 1, 1, 2))
    with pytest.raises(ResumeError, match=r"says nothing of worker 1.*Load the whole loader's state"):
        other.load_state_dict(reader.state_dict())


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}, {"window": 3}, {"drop_last": True}])
def test_a_state_of_another_order_is_refused(index: ShardIndex, change: dict[str, object]) -> None:
    plan = plan_of(N, range(N))
    state = ShardReader(index, plan).state_dict()
    with pytest.raises(ResumeError, match=next(iter(change))):
        ShardReader(index, plan, **change).load_state_dict(state)  # type: ignore[arg-type]


def test_a_state_of_another_numbering_is_refused(tmp_path: Path) -> None:
    urls, plan = shards(tmp_path, [5, 5]), plan_of(10, range(10))
    index = ShardIndex.build(urls, tmp_path / "index")
    state = ShardReader(index, plan).state_dict()
    turned = ShardIndex.build(urls[::-1], tmp_path / "index", renumber=True)
    with pytest.raises(ResumeError, match=f"saved with index '{index.digest}' and is loaded with '{turned.digest}'"):
        ShardReader(turned, plan).load_state_dict(state)


def test_a_state_is_loaded_where_the_shards_have_moved_to(tmp_path: Path) -> None:
    urls, plan = shards(tmp_path, [5, 5]), plan_of(10, range(10))
    reader = ShardReader(ShardIndex.build(urls, tmp_path / "index"), plan)
    walk = iter(reader)
    begun = [next(walk)["__key__"] for _ in range(4)]
    (tmp_path / "elsewhere").mkdir()
    there = [str(Path(url).rename(tmp_path / "elsewhere" / Path(url).name)) for url in urls]
    again = ShardReader(ShardIndex.build(there, tmp_path / "other"), plan)
    again.load_state_dict(reader.state_dict())
    assert sorted(begun + [sample["__key__"] for sample in again]) == sorted(again.index.keys)


def test_a_plan_of_another_length_is_refused_and_the_message_says_how_to_grow(index: ShardIndex) -> None:
    with pytest.raises(InvalidValue, match=r"for 80 rows and the shards have 90.*store\.grow\(90"):
        ShardReader(index, plan_of(80, range(80)))


def test_shards_added_later_append_rows(tmp_path: Path) -> None:
    urls = shards(tmp_path, [4, 6, 5])
    before = ShardIndex.build([urls[0], urls[2]], tmp_path / "index")
    after = ShardIndex.build(urls, tmp_path / "index")
    assert after.keys[: len(before)] == before.keys
    assert after.urls == (urls[0], urls[2], urls[1])
    assert after.starts.tolist() == [0, 4, 9, 15]


def test_a_state_of_an_older_format_is_refused_by_its_name(tmp_path: Path) -> None:
    index = index_of(tmp_path, [4])
    reader = ShardReader(index, plan_of(4, range(4)))
    state = reader.state_dict() | {"kind": "adaptive_sampler.shards/1"}
    with pytest.raises(ResumeError, match=r"of format 'adaptive_sampler.shards/1' and this adaptive-sampler reads"):
        reader.load_state_dict(state)
