"""Runs of updates in a journal: folded at once they give what they give one after another."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adaptive_sampler import ScoreStore
from adaptive_sampler.memory.journal import JournalEntry, JournalPieces, runs, visits_taken
from adaptive_sampler.scoring import EMA, Forgetting, Loss, Variability

N = 5
NAMES = ("loss", "ema", "forgetting", "variability")


@st.composite
def journals(draw: st.DrawFn) -> list[JournalEntry]:
    """Updates of few rows, so that many come twice, of some scores each."""
    found = []
    for seed in range(draw(st.integers(0, 12))):
        rng, mask = np.random.default_rng(seed), draw(st.sampled_from([15, 15, 15, 3, 8]))
        size, epoch, apart = draw(st.integers(1, 9)), draw(st.integers(0, 1)), draw(st.booleans())
        values = rng.integers(0, 2, (mask.bit_count(), size)).astype(np.float32)
        found.append(JournalEntry(rng.integers(0, N, size), mask, values, epoch, apart))
    return found


def sent(entries: list[JournalEntry], ranks: list[int], later: int = 1 << 30) -> JournalPieces:
    """The entries as pieces, each in what its rank sent: one behind the other, and filled up to the same length.

    `later`: the entry with which the sampler's next pass begins.
    """
    rows: list[list[int]] = [[], [], []]
    values: list[list[float]] = [[], [], []]
    told = []
    for i, (entry, rank) in enumerate(zip(entries, ranks, strict=True)):
        nth = -1 if entry.apart else int(i >= later)
        told.append((rank, len(entry.rows), len(rows[rank]), len(values[rank]), entry.mask, entry.epoch, nth))
        rows[rank] += entry.rows.tolist()
        values[rank] += entry.values.ravel().tolist()
    all_rows = np.array([some + [-1] * (max(map(len, rows)) - len(some)) for some in rows], np.int64)
    all_values = np.array([some + [np.nan] * (max(map(len, values)) - len(some)) for some in values], np.float32)
    return JournalPieces(all_rows, all_values, *np.ascontiguousarray(np.array(told, np.int64).reshape(-1, 7).T))


def folded(entries: list[tuple[JournalEntry, int, int]]) -> tuple[int, int, int]:
    scores = [Loss(), Loss(name="ema", fold=EMA(0.7)), Forgetting(), Variability()]
    with ScoreStore.create(None, N, scores) as store:
        for entry, updates, _ in entries:
            names = tuple(name for bit, name in enumerate(NAMES) if entry.mask >> bit & 1)
            store.session.fold_merged(entry.rows, names, entry.values, entry.epoch, updates=updates)
        return store.session.digest(), store.session.updates, len(store.session.table.books)


@given(journals(), st.data())
def test_folding_runs_gives_the_same_bits_and_counts_as_folding_updates_one_by_one(
    entries: list[JournalEntry], data: st.DataObject
) -> None:
    ranks = [data.draw(st.integers(0, 2)) for _ in entries]
    found = [*runs(sent(entries, ranks, data.draw(st.integers(0, 12))), by_batches=False)]
    assert all((kind(one), nth) != (kind(other), later) for (one, _, nth), (other, _, later) in pairwise(found))
    assert folded(found) == folded([(entry, 1, 0) for entry in entries])


@given(journals(), st.data())
def test_by_batches_every_update_stays_by_itself(entries: list[JournalEntry], data: st.DataObject) -> None:
    ranks = [data.draw(st.integers(0, 2)) for _ in entries]
    found = [*runs(sent(entries, ranks), by_batches=True)]
    assert [updates for _, updates, _ in found] == [1] * len(entries)
    for (one, _, _), entry in zip(found, entries, strict=True):
        assert (kind(one), one.rows.tolist()) == (kind(entry), entry.rows.tolist())
        np.testing.assert_array_equal(one.values, entry.values)


def kind(entry: JournalEntry) -> tuple[int, int, bool]:
    return entry.mask, entry.epoch, entry.apart


def entry(mask: int, epoch: int, apart: bool = False) -> JournalEntry:
    return JournalEntry(np.zeros(2, np.int64), mask, np.zeros((mask.bit_count(), 2), np.float32), epoch, apart)


def test_a_run_ends_where_scores_epoch_or_pass_change_or_a_scoring_pass_begins() -> None:
    journal = [entry(1, 0), entry(1, 0), entry(3, 0), entry(1, 0), entry(1, 1), entry(1, 1), entry(1, 1, apart=True)]
    found = runs(sent(journal, [0, 1, 2, 2, 0, 1, 0], later=5), by_batches=False)
    assert [(kind(run), updates, nth) for run, updates, nth in found] == [
        ((1, 0, False), 2, 0),
        ((3, 0, False), 1, 0),
        ((1, 0, False), 1, 0),
        ((1, 1, False), 1, 0),
        ((1, 1, False), 1, 1),
        ((1, 1, True), 1, -1),
    ]


def test_a_tables_folds_look_at_batches_if_one_is_custom() -> None:
    class Own(EMA):
        """A subclass may fold otherwise."""

    for fold, custom in ((EMA(0.7), False), (Own(0.7), True)):
        with ScoreStore.create(None, N, [Loss(), Loss(name="own", fold=fold)]) as store:
            assert store.session.table.by_batches is custom


def test_a_digest_is_of_values_not_of_which_scores_lie_side_by_side() -> None:
    digests = set()
    for apart in (False, True):
        with ScoreStore.create(None, 10_000, [Loss(), Forgetting()]) as store:
            if apart:
                store.session.table.apart(["loss"])
            store.update(
                np.arange(9_000), loss=np.arange(9_000), labels=np.zeros(9_000, int), logits=np.eye(2)[[0] * 9_000]
            )
            digests.add(store.session.digest())
    assert len(digests) == 1


def test_a_digest_sees_one_bit_of_one_row_anywhere() -> None:
    with ScoreStore.create(None, 10_000, [Loss(), Forgetting()]) as store:
        digests = [store.session.digest()]
        for book in store.session.table.books:
            for key in book.keys:
                for row in (0, 4096, 9_999):
                    book.column(key)[row : row + 1].view(np.uint8)[0] ^= 1
                    digests.append(store.session.digest())
    assert len({*digests}) == len(digests)


@given(st.lists(st.integers(0, 7)), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_visits_are_taken_in_order_until_none_is_left_and_rows_outside_have_none(
    rows: list[int], left: list[int]
) -> None:
    remaining = np.array(left, np.uint8)
    mine = visits_taken(np.array(rows, np.int64), remaining)
    expected, own = [], dict(enumerate(left))
    for row in rows:
        expected.append(own.get(row, 0) > 0)
        own[row] = own.get(row, 0) - expected[-1]
    assert mine.tolist() == expected
    assert remaining.tolist() == [own[row] for row in range(5)]
