"""What is read from tables takes the memory of a batch, beside what the store itself holds, however many lines there are."""

import tracemalloc

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Loss

pa = pytest.importorskip("pyarrow", reason="tables are read with PyArrow")
from pyarrow import parquet  # noqa: E402

from adaptive_sampler.tables import filling, spool  # noqa: E402
from tests.tables.helpers import at_once  # noqa: E402

N = 1 << 19
LINES = 1 << 12  # that are read at a time
BESIDE = 4 * N  # bytes, as many as the values of all lines have


@pytest.fixture(scope="module", params=["in order", "in another order"])
def path(request, tmp_path_factory):
    found = tmp_path_factory.mktemp("table") / "x.parquet"
    rng = np.random.default_rng(0)
    rows = np.arange(N) if request.param == "in order" else rng.permutation(N)
    columns = {"row": rows, "q": rng.random(N, np.float32), "site": pa.array([f"s{i % 9}" for i in range(N)])}
    parquet.write_table(pa.table(columns), found, row_group_size=1 << 14)
    return found


def most_memory(work):
    """Bytes that Python and NumPy held at most beside what `work` returns, and that."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = work()
        now, most = tracemalloc.get_traced_memory()
        return most - max(now, before), made
    finally:
        tracemalloc.stop()


def test_a_new_store(path):
    def fill():
        return filling.filled(path, {"q": Loss(name="q")}, None, 0, None, ["site"])

    with at_once(LINES):
        fill()  # imports and compiles
        beside, body = most_memory(fill)
    assert beside < BESIDE
    assert np.isfinite(body.table.read("q", slice(None))).all()


def test_values_that_are_folded(path, monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 1 << 16)
    store = ScoreStore.create(None, N, [Loss()])
    store.session.table.fetch()
    with at_once(LINES):
        store.fold_table(path, scores={"q": "loss"})
        beside, _ = most_memory(lambda: store.fold_table(path, scores={"q": "loss"}))
    assert beside < BESIDE
    assert store.count("loss").tolist() == [2] * N
