"""A table that is folded is folded whole or not at all, whatever breaks off: a fold that raises, an interrupt, a full disk."""

import _thread
import resource
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Column, Loss, Max, Score

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")

from adaptive_sampler.tables import spool  # noqa: E402
from tests.tables.helpers import at_once  # noqa: E402

N = 6
BOTH = {"q": "loss", "o": "own"}


class Raising:
    """A fold that raises for a negative value, after it has written it."""

    relies_on = ""

    @property
    def columns(self):
        return {"value": Column("float32", np.nan)}

    def fold(self, state, rows, values, before):
        state["value"][rows] = values
        if (values < 0).any():
            raise ZeroDivisionError("a negative value")

    def read(self, state):
        return state["value"]

    def begin_run(self, state):
        pass


def table(rows, **columns):
    return pa.table({"row": rows} | columns)


@pytest.mark.parametrize("lines", [1, 100])
def test_a_fold_of_your_own_that_raises_undoes_the_other_scores_too(lines):
    store = ScoreStore.create(None, N, [Loss(fold=Max()), Score("own", lambda own: own, Raising())])
    store.fold_table(table([0, 1], q=[1, 2], o=[3, None]), scores=BOTH)
    before = store.session.digest(), store.observed("loss"), store.observed("own"), store.made_from
    with at_once(lines), pytest.raises(ZeroDivisionError):
        store.fold_table(table([3, 2, 0, 4], q=[9, 6, 5, 1], o=[7, None, -1, 1]), scores=BOTH)
    assert (store.session.digest(), store.observed("loss"), store.observed("own"), store.made_from) == before


def test_interrupts_from_the_keyboard_wait_until_all_is_folded(monkeypatch):
    store, batches = ScoreStore.create(None, N, [Loss(), EL2N()]), spool.Spool.batches

    def interrupted(self):
        for batch in batches(self):
            _thread.interrupt_main()
            yield batch

    monkeypatch.setattr(spool.Spool, "batches", interrupted)
    with at_once(1), pytest.raises(KeyboardInterrupt):
        store.fold_table(table(range(N), q=range(N), e=range(N)), scores={"q": "loss", "e": "el2n"})
    assert store["loss"].tolist() == store["el2n"].tolist() == [*range(N)]
    assert store.made_from.updates == 1


def test_in_another_thread_nothing_interrupts():
    store = ScoreStore.create(None, N, [Loss()])
    with ThreadPoolExecutor(1) as thread:
        thread.submit(store.fold_table, table(range(N), q=range(N)), scores={"q": "loss"}).result()
    assert store["loss"].tolist() == [*range(N)]


def test_a_temporary_folder_without_room_is_named_and_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 1)
    store = ScoreStore.create(None, N, [Loss()])
    before, limits = store.session.digest(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, limits[1]))  # no file may become larger
    try:
        with pytest.raises(
            OSError, match=r"File too large: .*keeps the lines of a table until all are checked.*TMPDIR"
        ):
            store.fold_table(table(range(N), q=range(N)), scores={"q": "loss"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (store.session.digest(), store.made_from.updates) == (before, 0)


def test_a_spool_gives_back_what_was_put_in_from_memory_and_from_a_file(monkeypatch):
    rng = np.random.default_rng(0)
    batches = [(rng.permutation(size), rng.random((2, size), np.float32)) for size in (3, 1, 0, 5)]
    batches.append((np.arange(7, 9), rng.random((2, 2), np.float32)))
    for in_memory in (1, 1 << 20):
        monkeypatch.setattr(spool, "IN_MEMORY", in_memory)
        with spool.Spool() as kept:
            for batch in batches:
                kept.put(*batch)
            for _ in range(2):
                for (rows, values), (found, same) in zip(batches, kept.batches(), strict=True):
                    assert found.tolist() == rows.tolist()
                    assert same.tolist() == values.tolist()
