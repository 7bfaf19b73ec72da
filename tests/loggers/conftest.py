"""Tools that log into a temporary folder and to no network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Any]:
    """TensorBoard's, into `tmp_path`."""
    pytest.importorskip("torch", reason="the writer is torch's")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (the extra dev brings it)")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        yield writer


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """Begins a run of Weights & Biases in `tmp_path`, offline; what it has begun is over when the test is."""
    wandb = pytest.importorskip("wandb", reason="wandb is not installed (the extra dev brings it)")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    settings = wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True)
    yield lambda: wandb.init(project="test", dir=tmp_path, settings=settings)
    if wandb.run is not None:
        wandb.finish()
    wandb.teardown()  # or its service would stay


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow's, whose tracking lies in `tmp_path`, and an active run."""
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (the extra dev brings mlflow-skinny)")
    # mlflow-skinny has no other store without a server; mlflow would like a database better, and asks for this consent
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"file:{tmp_path}/mlruns")
    with mlflow.start_run():
        yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)
