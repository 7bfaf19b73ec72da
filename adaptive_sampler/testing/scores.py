"""What a score and its fold must do."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adaptive_sampler.arrays import as_rows
from adaptive_sampler.scoring.base import BOOKKEEPING, Fold, ScoreLike, describe, restore
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.testing.identical import identical

Batch = tuple[Any, Mapping[str, Any]]  # rows (batch,), observation arrays by name


def check_score(score: ScoreLike, *batches: Batch) -> None:
    """Check a score and its fold on some batches of your own: (rows, {"logits": …, "labels": …}).

    Give at least two batches. Some rows should come twice in one batch, and some in several batches. Raises
    AssertionError, which names the rule that is broken.
    """
    rows = [as_rows(rows, 1 << 31) for rows, _ in batches]
    n = 2 + max(int(r.max(initial=0)) for r in rows)  # the last row is never observed
    _check_form(score)
    values = [_measured(score, observation, len(r)) for r, (_, observation) in zip(rows, batches, strict=True)]
    _check_batches(score, rows, values, n)
    _check_kept(score, rows, values, n)


def _check_form(score: ScoreLike) -> None:
    assert isinstance(score, ScoreLike), f"{score!r} lacks one of name, fold, inputs, measure"
    assert isinstance(score.fold, Fold), f"{score.fold!r} lacks one of columns, fold, read, begin_run"
    assert score.name.isidentifier(), f"name {score.name!r} is no identifier"
    assert score.inputs, "inputs are empty: no observation would feed the score"
    assert all(score.inputs), "an alternative of inputs is empty: every observation would feed the score"
    assert not set(score.fold.columns) & set(BOOKKEEPING), "the fold's columns may not be named count or last_seen"
    described = json.loads(json.dumps(describe(score)))
    assert described["kind"] == "custom" or restore(described) == score, "describe and restore give another score"


def _measured(score: ScoreLike, observation: Mapping[str, Any], batch: int) -> Any:
    """The measured values, after checks that a second call gives the same ones and that no input has changed."""
    with ScoreStore.create(None, 1, [score]) as store:
        before = {name: np.array(value) for name, value in observation.items() if isinstance(value, np.ndarray)}
        first, second = (store.session.measure(**observation)[score.name] for _ in range(2))
        assert tuple(first.shape) == (batch,), f"measure gives {tuple(first.shape)}, not ({batch},): one value a row"
        assert identical(first, second), "measure is not pure: a second call gives other values"
        for name, value in before.items():
            assert identical(value, observation[name]), f"measure changed its input {name!r}"
    return first


def _check_batches(score: ScoreLike, rows: Sequence[np.ndarray], values: Sequence[Any], n: int) -> None:
    whole, single = (ScoreStore.create(None, n, [score]) for _ in range(2))
    with whole, single:
        assert np.isnan(whole[score.name]).all(), "a row never observed must read as NaN"
        for epoch, (r, v) in enumerate(zip(rows, values, strict=True)):
            before = whole[score.name].copy()
            whole.fold(score.name, r, v, epoch=epoch)
            others = ~np.isin(np.arange(n), r)
            assert identical(before[others], whole[score.name][others]), "a fold changed rows that it was not given"
            for i in range(len(r)):
                single.fold(score.name, r[i : i + 1], v[i : i + 1], epoch=epoch)
        scores = whole[score.name]
        assert scores.dtype == np.float32, f"read gives {scores.dtype}, not float32"
        assert scores.shape == (n,), f"read gives {scores.shape}, not ({n},)"
        assert identical(scores, single[score.name]), (
            "a batch must fold as its samples do one by one, duplicates in order"
        )
        count = np.bincount(np.concatenate(rows), minlength=n)
        assert identical(whole.count(score.name), count.astype(np.uint32)), "count must be the number of observations"
        seen = [max([e for e, r in enumerate(rows) if row in r], default=-1) for row in range(n)]
        assert whole.last_seen(score.name).tolist() == seen, "last_seen must be the epoch of the last observation"
        assert identical(np.isnan(scores), count == 0), "a score must be NaN exactly where never observed"
        assert identical(whole.values(score.name, slice(1, n - 1)), scores[1 : n - 1]), "reading a slice differs"


def _check_kept(score: ScoreLike, rows: Sequence[np.ndarray], values: Sequence[Any], n: int) -> None:
    """Check that neither a commit between updates nor the beginning of a new run changes a score."""
    with ScoreStore.create(None, n, [score]) as store:
        half = len(rows) // 2
        for r, v in zip(rows[:half], values[:half], strict=True):
            store.fold(score.name, r, v)
        store.commit()
        again = ScoreStore.open(store.path, mode="r", scores=[score])
        assert identical(again[score.name], store[score.name]), "a score read back from disk differs"
        before = store[score.name].copy()
        store.begin_run("another run")
        assert identical(before, store[score.name]), "begin_run must leave every score as it is"
        for r, v in zip(rows[half:], values[half:], strict=True):
            store.fold(score.name, r, v)
        store.commit()
        again = ScoreStore.open(store.path, mode="r", scores=[score])
        assert identical(again[score.name], store[score.name]), "a score read back from disk differs after a new run"
