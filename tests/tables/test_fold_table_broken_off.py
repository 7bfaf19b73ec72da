"""A table that is folded is folded whole or not at all, whatever breaks off: a fold that raises, an interrupt, a full disk."""

import _thread
import os
import resource
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import StoreError
from adaptive_sampler.scoring import EL2N, Column, Loss, Max, Score

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")

from adaptive_sampler.memory.table import Table  # noqa: E402
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


@pytest.fixture
def at_each_fold(monkeypatch):
    """Do something whenever some lines are folded."""

    def do(what):
        fold = Table.fold
        monkeypatch.setattr(Table, "fold", lambda *told: (what(), fold(*told), what()))

    return do


@pytest.fixture
def exit_at_sigterm():
    """As trainers do that are told to leave their machine."""

    def leave(number, frame):
        raise SystemExit("told to end")

    before = signal.signal(signal.SIGTERM, leave)
    yield leave
    signal.signal(signal.SIGTERM, before)


def fold_all_lines(store):
    with at_once(1):
        store.fold_table(table(range(N), q=range(N), e=range(N)), scores={"q": "loss", "e": "el2n"})


def all_lines_are_folded(store):
    return store["loss"].tolist() == store["el2n"].tolist() == [*range(N)] and store.made_from.updates == 1


@pytest.mark.usefixtures("interruptible")
def test_interrupts_from_the_keyboard_wait_until_all_is_folded(at_each_fold):
    store = ScoreStore.create(None, N, [Loss(), EL2N()])
    at_each_fold(_thread.interrupt_main)
    with pytest.raises(KeyboardInterrupt):
        fold_all_lines(store)
    assert all_lines_are_folded(store)


def test_other_signals_whose_handlers_raise_wait_too(at_each_fold, exit_at_sigterm):
    store = ScoreStore.create(None, N, [Loss(), EL2N()])
    at_each_fold(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit, match="told to end"):
        fold_all_lines(store)
    assert all_lines_are_folded(store)
    assert signal.getsignal(signal.SIGTERM) is exit_at_sigterm


def test_of_several_signals_each_is_handled_once_though_the_first_raises(at_each_fold, exit_at_sigterm):
    noted = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: noted.append(number))
    try:
        at_each_fold(lambda: (signal.raise_signal(signal.SIGTERM), signal.raise_signal(signal.SIGUSR1)))
        with pytest.raises(SystemExit):
            fold_all_lines(ScoreStore.create(None, N, [Loss(), EL2N()]))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert noted == [signal.SIGUSR1]


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


def broken_from(first):
    """Reading spooled lines fails from the `first` time on that they are read, at the second batch."""
    batches, times = spool.Spool.batches, []

    def broken(self):
        times.append(self)
        for number, batch in enumerate(batches(self)):
            if number and len(times) >= first:
                raise OSError(5, "Input/output error")
            yield batch

    return broken


def test_lines_that_cannot_be_read_back_change_nothing(monkeypatch):
    store = ScoreStore.create(None, N, [Loss(), EL2N()])
    before = store.session.digest()
    monkeypatch.setattr(spool.Spool, "batches", broken_from(1))
    with pytest.raises(OSError, match="Input/output error"):
        fold_all_lines(store)
    assert (store.session.digest(), store.made_from.updates) == (before, 0)


def test_a_store_into_which_a_part_was_folded_when_lines_were_lost_can_only_be_opened_again(tmp_path, monkeypatch):
    store = ScoreStore.create(tmp_path / "s", N, [Loss(), EL2N()])
    monkeypatch.setattr(spool.Spool, "batches", broken_from(2))
    with pytest.raises(StoreError, match=r"Input/output error.* the store was closed.* Open it again"):
        fold_all_lines(store)
    with pytest.raises(StoreError, match="was closed"):
        store.commit("half of it")
    monkeypatch.undo()
    with ScoreStore.open(tmp_path / "s", mode="r+") as again:
        assert again.observed("loss") == 0
        fold_all_lines(again)
        assert all_lines_are_folded(again)


def test_without_any_temporary_folder_the_remedy_is_told(monkeypatch):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found")

    store = ScoreStore.create(None, N, [Loss(), EL2N()])
    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setattr(spool, "IN_MEMORY", 1)
    with pytest.raises(OSError, match=r"No usable temporary directory found: .* TMPDIR"):
        fold_all_lines(store)


def test_what_a_handler_of_signals_raises_is_not_told_as_a_lack_of_room(monkeypatch):
    class Interrupted:
        close = staticmethod(lambda: None)

        def write(self, octets):
            raise TimeoutError("told to end")  # an OSError, too

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda size: Interrupted())
    with pytest.raises(TimeoutError, match=r"^told to end$"):
        fold_all_lines(ScoreStore.create(None, N, [Loss(), EL2N()]))


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
