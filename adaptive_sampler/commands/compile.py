"""Compiles all kernels ahead of a training, for images and CI: by a small run of everything that calls one."""

import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np

from adaptive_sampler.errors import StoreError
from adaptive_sampler.kernels import cache, cover, shuffle, split, tally
from adaptive_sampler.progress import Show, shown
from adaptive_sampler.ranking import stability
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.scoring import EL2N, Confidence, Entropy, Error, Forgetting, Loss, Margin, ScoreLike, Variability
from adaptive_sampler.selection import (
    Draw,
    InfoBatch,
    KeepAll,
    Policy,
    Prune,
    RandomPrune,
    Stratified,
    Threshold,
    Upsample,
    Window,
)
from adaptive_sampler.shards import ShardIndex, ShardReader
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.tables import plan_table

ROWS = 40_000  # enough for the ways that only large stores go


def run(progress: Show = None) -> tuple[str, float]:
    """Call every kernel with the types that the package calls it with -> (the folder of the cache, seconds).

    Raises `StoreError` if what was compiled cannot be kept.
    """
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, shown(progress, "compiling") as tell:
        steps = [*_steps(Path(folder))]
        for done, (what, step) in enumerate(steps):
            tell(done, len(steps), what)
            step()
    if cache.LOST or not cache.KEPT:
        raise StoreError(
            f"compiled kernels cannot be kept: {cache.LOST[0] if cache.LOST else 'no folder for them can be written'}. Set "
            "NUMBA_CACHE_DIR to a folder that can, here and where they are to be used."
        )
    return cache.KEPT[0], time.perf_counter() - begun


def _steps(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "scores", lambda: _observe(folder / "store")
    for policy in _policies():
        yield f"plans of {type(policy).__name__}", partial(_walk, folder / "store", policy)
    yield "plans of few rows", _plan_few
    yield "keys", lambda: _look_up(folder / "keys")
    yield "what hardly any training needs", _rare
    yield "shards", lambda: _stream(folder)
    if find_spec("pyarrow"):
        for text in (False, True):
            yield f"plans of tables whose keys are {'texts' if text else 'numbers'}", partial(_plan_tables, text)


def _observe(path: Path) -> None:
    scores: list[ScoreLike] = [EL2N(), Confidence(), Variability(), Entropy(), Error(), Forgetting(), Margin(), Loss()]
    rows, rng = np.arange(ROWS), np.random.default_rng(0)
    with ScoreStore.create(path, ROWS, [*scores, Loss(name="few")], columns={"size": rows}) as store:
        for dtype in (np.float32, np.float64):
            store.update(rows, logits=rng.normal(size=(ROWS, 3)).astype(dtype), labels=rows % 3)
        store.fold("few", rows, (rows % 3).astype(np.float32))  # few values, which many rows share
        store.session.digest()  # as `sync` compares them
        store.commit()


def _policies() -> Iterator[Policy]:
    yield KeepAll()
    yield from (RandomPrune(0.5), RandomPrune(0.5, per_class=np.arange(ROWS) % 2), RandomPrune(0.5, size="size"))
    for ties in ("random", "row"):
        yield from (Prune(0.5, by, ties=ties, max_age=9) for by in ("el2n", "few"))
        yield Window(0.5, 0.1, "margin", ties=ties)
    yield from (Prune(0.5, "el2n", order="lowest", per_class=np.arange(ROWS) % 2), Threshold(0.5, "el2n"))
    yield Prune(0.5, "el2n", ties="row", per_class=np.arange(ROWS) % 2, size="size")
    yield from (Upsample(3, "error"), InfoBatch(epochs=9))
    yield from (
        Stratified(0.5, "el2n", strata=strata, skip_hardest=0.1) for strata in (5, 50, 5000)
    )  # codes of three sizes
    for number in (ROWS, 64 * ROWS):  # sparse and dense draws go two ways
        yield Draw("loss", number, unbiased=True)
        yield Draw("loss", number, floor=0.1)
    yield Draw("loss", 0.5, per_group=np.arange(ROWS) % 2)
    yield from (Draw("loss", ROWS // 2, replacement=False), Draw("few", ROWS // 2, replacement=False))


def _walk(path: Path, policy: Policy) -> None:
    """Plan an epoch from scores as they lie on disk, and from scores as they lie in memory once they are updated."""
    with ScoreStore.open(path) as store:
        for shuffled in (True, False):
            sampler = AdaptiveSampler(store, policy, shuffle=shuffled)
            batch = next(iter(sampler.batches(256)))
            plan = store.plan(sampler.plan.id)
            plan.loss_weights_of(np.sort(batch)), plan.repeats_of(batch), plan.loss_weights, sampler.epoch_rows()[:10]
            store.update([0], logits=np.zeros((1, 3), np.float32), labels=[0])


def _plan_few() -> None:
    """Plan and walk stores of few rows, which go their own ways: by a column that is read as it lies, and by one that is copied."""
    alone: list[ScoreLike] = [Loss()]
    for scores in (alone, [*alone, Error()]):
        with ScoreStore.create(None, 1000, scores) as store:
            store.update(np.arange(1000), logits=np.zeros((1000, 3), np.float32), labels=np.arange(1000) % 3)
            for ties in ("random", "row"):
                next(iter(AdaptiveSampler(store, Prune(0.5, "loss", ties=ties)).batches(256)))


def _rare() -> None:
    pair = cover.Neighbours(np.array([[1], [0]]), np.ones((2, 1), np.float32))  # what `Spread` finds by faiss
    pair.cover(np.ones(2), 1, ties=np.zeros(2, np.uint64), given=np.zeros(2, np.bool_))
    shuffle.Network(100, key=1).images(0, 100)  # epochs of more than 2**26 visits
    split.histogram(np.zeros(1, np.uint32), -1, np.zeros(1 << 16, np.int64))  # ranks that no sample of scores finds
    for scores in (np.arange(9, dtype=np.float32), np.arange(9, dtype=np.float64)):
        stability(scores, scores)
    keys, counts = (
        np.zeros(1, np.uint64),
        np.zeros((1, 1), np.int64),
    )  # tables with more lines near a cut than are listed
    tally.count_within(
        keys, np.empty(0, np.int32), np.zeros(1, np.int32), np.array([0, 1]), keys, keys, keys, keys, counts[0], counts
    )
    none, firsts = np.uint32(0), np.zeros(1 << 16, np.uint32)
    tally.count_all(  # tables with more scores than 32 bits count
        firsts[:1],
        np.empty(0, np.int32),
        np.zeros(1, np.int32),
        firsts,
        firsts.astype(np.uint8),
        none,
        none,
        counts[0],
        counts[0],
    )


def _look_up(path: Path) -> None:
    names = [f"image-{row}" for row in range(1000)]
    with ScoreStore.create(path, 1000, [Loss()], keys=names) as store:
        store.rows(names)
        store.identity.ordered(np.uint64(0), np.zeros(2, np.int64))  # keys of equal hash
        store.grow(1001, keys=["another"])
        store.commit()
    with ScoreStore.open(path) as store:
        store.rows(names)


def _plan_tables(text: bool) -> None:
    """Plan a table by every way to choose lines, all together and by groups that are texts or numbers."""
    import pyarrow as pa

    from adaptive_sampler.tables.arrow.runs import Run

    rows = np.arange(4000)
    Run().add(pa.array(rows))  # of a Parquet file
    keys, texts = pa.array([f"document-{row}" for row in rows] if text else rows), pa.array(rows % 3).cast(pa.string())
    scores = np.random.default_rng(0).random(len(rows), np.float32)
    table = pa.table({"key": keys, "score": scores, "text": texts.dictionary_encode(), "number": rows % 3})
    for group in (None, "text", "number"):
        policies: list[Policy] = [Prune(0.5, "score", per_group=group), RandomPrune(0.5, per_group=group)]
        policies += [Window(0.5, 0.1, "score", per_group=group), Draw("score", 0.5, replacement=False, per_group=group)]
        policies += [Draw("score", number, floor=0.1, per_group=group) for number in (0.5, 9.0)]
        for policy in policies:
            plan_table(table, policy, key="key").rows(0)


def _stream(folder: Path) -> None:
    with tarfile.open(folder / "shard.tar", "w") as shard:
        for row in range(10):
            entry = tarfile.TarInfo(f"{row}.txt")
            entry.size = 3
            shard.addfile(entry, BytesIO(b"one"))
    index = ShardIndex.build(str(folder / "shard.tar"), folder / "index", progress=False)
    with ScoreStore.create(None, len(index), [Loss()]) as store:
        store.fold("loss", np.arange(10), np.arange(10))
        for _ in ShardReader(index, Prune(0.5, "loss").plan(store, epoch=0, seed=0)):
            pass
