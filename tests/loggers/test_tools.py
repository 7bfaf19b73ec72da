"""TensorBoard, Weights & Biases and MLflow have what was summarized, as their own readers read it back."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.loggers import MLflow, TensorBoard, Wandb, summarize
from adaptive_sampler.scoring import EL2N, Forgetting, Loss
from adaptive_sampler.selection import Prune
from tests.loggers.readers import histograms_of, history_of, scalars_of

N = 200
LABELS = np.array(["cat", "a/b", "..", ""] * (N // 4))


@pytest.fixture
def store() -> ScoreStore:
    """A score with gaps, one with infinite values, one that was never observed."""
    store = ScoreStore.create(None, N, [EL2N(), Forgetting(), Loss()])
    rows = np.arange(150)
    store.fold("el2n", rows, np.random.default_rng(0).random(150))
    store.fold("forgetting", rows, rows % 2)
    return store


@pytest.fixture
def sampler(store: ScoreStore) -> AdaptiveSampler:
    sampler = AdaptiveSampler(store, Prune(0.5, "el2n"))
    list(sampler)
    return sampler


# -- TensorBoard -----------------------------------------------------------------------------------------------------------


def test_tensorboard_has_every_scalar_at_its_step(tmp_path: Path, writer: Any, sampler: AdaptiveSampler) -> None:
    logger = TensorBoard(writer, labels=LABELS)
    for step in (0, 3):
        logger.log(sampler.store, sampler, step=step)
    expected = summarize(sampler.store, sampler, labels=LABELS).scalars
    found = scalars_of(tmp_path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == [(0, pytest.approx(value)), (3, pytest.approx(value))]


def test_tensorboard_has_every_histogram_as_numpy_bins_it(tmp_path: Path, writer: Any, store: ScoreStore) -> None:
    TensorBoard(writer).log(store, step=4)
    found = histograms_of(tmp_path)
    assert found.keys() == {"scores/el2n", "scores/forgetting"}
    values = store["el2n"][:150].astype(np.float64)
    counts, edges = np.histogram(values, 64)
    ((step, kept),) = found["scores/el2n"]
    assert (step, kept.num, kept.min, kept.max) == (4, 150, values.min(), values.max())
    assert kept.sum == pytest.approx(values.sum())
    assert kept.sum_squares == pytest.approx((values**2).sum())
    assert kept.bucket == counts.tolist()
    assert kept.bucket_limit == pytest.approx(edges[1:].tolist())


def test_a_step_that_is_logged_twice_is_in_tensorboard_twice(tmp_path: Path, writer: Any, store: ScoreStore) -> None:
    for _ in range(2):
        TensorBoard(writer).log(store, step=1)
    assert [step for step, _ in scalars_of(tmp_path)["scores/el2n/mean"]] == [1, 1]


def test_a_writer_that_was_closed_goes_on_in_another_file(tmp_path: Path, writer: Any, store: ScoreStore) -> None:
    TensorBoard(writer).log(store, step=1)
    writer.close()
    TensorBoard(writer).log(store, step=2)
    assert [step for step, _ in scalars_of(tmp_path)["scores/el2n/mean"]] == [1, 2]


def test_what_is_no_writer_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"writer='runs' has no add_histogram_raw: pass torch.utils.tensorboard"):
        TensorBoard("runs")


# -- Weights & Biases --------------------------------------------------------------------------------------------------------


def test_wandb_has_scalars_histograms_and_the_step(
    tmp_path: Path, offline: Callable[[], Any], sampler: AdaptiveSampler
) -> None:
    store = sampler.store
    with offline() as run:
        run.log({"loss": 1.0}, step=50)  # the loop's own log, far ahead: W&B's step never goes back
        logger = Wandb(run, labels=LABELS, bins=16)
        for step in (2, 3, 3):
            logger.log(store, sampler, step=step)
    mine = [entry for entry in history_of(tmp_path) if "scores/el2n" in entry]
    assert [entry["adaptive_sampler/step"] for entry in mine] == [2, 3, 3]
    expected = summarize(store, sampler, labels=LABELS).scalars
    for entry in mine:
        assert {name: entry[name] for name in expected} == pytest.approx(expected)
        counts, edges = np.histogram(store["el2n"][:150].astype(np.float64), 16)
        assert entry["scores/el2n"]["_type"] == "histogram"
        assert entry["scores/el2n"]["values"] == counts.tolist()
        assert entry["scores/el2n"]["bins"] == pytest.approx(edges.tolist())


def test_wandb_logs_to_the_current_run_and_draws_over_a_metric_of_ones_own(
    tmp_path: Path, offline: Callable[[], Any], store: ScoreStore
) -> None:
    with offline():
        Wandb(step_metric="epoch").log(store, step=6)
    assert history_of(tmp_path)[-1]["epoch"] == 6


def test_a_run_that_has_ended_is_told_with_the_remedy(offline: Callable[[], Any], store: ScoreStore) -> None:
    run = offline()
    run.finish()
    with pytest.raises(InvalidValue, match=r"takes nothing any more: .* Log before run.finish\(\)"):
        Wandb(run).log(store)
    with pytest.raises(InvalidValue, match=r"no run of Weights & Biases is active: call wandb.init"):
        Wandb().log(store)
    Wandb(offline()).log(store)  # as the message says


def test_more_bins_than_wandb_draws_are_refused() -> None:
    with pytest.raises(InvalidValue, match="bins=513: Weights & Biases draws at most 512"):
        Wandb(bins=513)


# -- MLflow ------------------------------------------------------------------------------------------------------------------


def metrics_of(client: Any) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, value) of each metric of the active run."""
    import mlflow

    run = client.get_run(mlflow.active_run().info.run_id)
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: [(m.step, m.value) for m in metrics] for name, metrics in history.items()}


def test_mlflow_has_scalars_and_quantiles_under_names_that_it_takes(client: Any, sampler: AdaptiveSampler) -> None:
    logger = MLflow(labels=LABELS)
    for step in (0, 5):
        logger.log(sampler.store, sampler, step=step)
    expected = summarize(sampler.store, sampler, labels=LABELS, quantiles=MLflow.quantiles).scalars
    renamed = {"kept_of_class/..": "kept_of_class/_", "kept_of_class/(empty)": "kept_of_class/_empty_"}
    found = metrics_of(client)
    assert found.keys() == {renamed.get(name, name) for name in expected}
    for name, value in expected.items():
        assert found[renamed.get(name, name)] == [(0, pytest.approx(value)), (5, pytest.approx(value))]
    values = sampler.store["el2n"][:150]
    assert found["scores/el2n/p95"][0][1] == pytest.approx(np.quantile(values, 0.95))


def test_mlflow_logs_to_a_run_by_its_id_and_a_step_twice(client: Any, store: ScoreStore) -> None:
    import mlflow

    run_id = mlflow.active_run().info.run_id
    mlflow.end_run()
    for _ in range(2):
        MLflow(run_id, client=client).log(store, step=3)
    assert [m.step for m in client.get_metric_history(run_id, "scores/el2n/mean")] == [3, 3]


def test_without_an_active_run_mlflow_says_how_to_have_one(client: Any, store: ScoreStore) -> None:
    import mlflow

    mlflow.end_run()
    with pytest.raises(InvalidValue, match=r"no run of MLflow is active: log within `with mlflow.start_run\(\):`"):
        MLflow().log(store)


# -- all ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tool", "name"), [("wandb", "Wandb"), ("mlflow", "MLflow")])
def test_a_tool_that_is_not_installed_is_named_when_it_is_to_log(tool: str, name: str) -> None:
    code = f"""
import sys
sys.modules[{tool!r}] = None
from adaptive_sampler import ScoreStore
from adaptive_sampler.loggers import {name}
{name}().log(ScoreStore.create(None, 2, []))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"pip install {tool}" in done.stderr.splitlines()[-1]


def test_importing_the_loggers_imports_no_tool() -> None:
    code = "import sys, adaptive_sampler.loggers; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"torch", "tensorboard", "wandb", "mlflow"}.isdisjoint(loaded.split())
