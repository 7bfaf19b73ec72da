"""Lightning's and Hugging Face's callbacks log scores and plans to the Trainer's own tools; of several ranks the first does."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.loggers import Logger, Summary, summarize
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.torch import (
    AdaptiveSampler,
    DistributedAdaptiveSampler,
    IndexedDataset,
    LossHook,
    distributed_store,
    sync,
)
from tests.loggers.conftest import client, offline  # noqa: F401 - fixtures
from tests.loggers.readers import histograms_of, history_of, scalars_of
from tests.torch.processes import run, succeeded
from tests.torch.training import Model, Samples, data

N, BATCH, EPOCHS = 44, 4, 2
STEPS = N // BATCH  # of an epoch
SCORES = [EL2N(), Loss()]
WATCHED = {"scores/el2n/mean", "scores/loss/age", "sampler/kept", "hook/skipped", "hook/effective_samples"}


class Noted(Logger):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, Summary]] = []

    def write(self, summary: Summary, step: int) -> None:
        self.seen.append((step, summary))


@pytest.fixture
def store(tmp_path: Path) -> ScoreStore:
    return ScoreStore.create(tmp_path / "scores.zarr", N, SCORES)


def sampler_of(store: ScoreStore) -> AdaptiveSampler:
    return AdaptiveSampler(store, Prune(0.5, "loss"), warmup_epochs=1, num_samples=N)


# -- Lightning ---------------------------------------------------------------------------------------------------------------


def fit(store: ScoreStore, folder: Path, logger: Any, **settings: Any) -> AdaptiveSampler:
    """Two epochs, of which the first keeps every row -> the sampler."""
    lightning = pytest.importorskip("lightning")
    from adaptive_sampler.torch.lightning import SamplerCallback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.__dict__["hook"] = nn.Linear(6, 3), LossHook(nn.CrossEntropyLoss(), store)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            rows, (inputs, labels) = batch
            return self.hook(self.net(inputs), labels, rows=rows)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    sampler = sampler_of(store)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=1,
        logger=logger,
        default_root_dir=folder,
        log_every_n_steps=1,
        callbacks=[SamplerCallback(sampler, **settings)],
        **quiet,
    )
    trainer.fit(Module(), DataLoader(IndexedDataset(data(N), store), sampler=sampler, batch_size=BATCH))
    return sampler


def test_lightnings_tensorboard_has_scores_and_plan_at_the_trainers_steps(store: ScoreStore, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    logger = loggers.TensorBoardLogger(tmp_path)
    sampler = fit(store, tmp_path, logger)
    found = scalars_of(Path(logger.log_dir))
    assert found.keys() >= WATCHED
    assert found["sampler/kept"] == [(STEPS, 1), (2 * STEPS, 0.5)]
    assert found["scores/loss/mean"][-1][1] == pytest.approx(summarize(store, sampler).scalars["scores/loss/mean"])
    assert found["hook/effective_samples"][-1][1] == N
    (_, last) = histograms_of(Path(logger.log_dir))["scores/loss"]
    assert last[1].bucket == np.histogram(store["loss"].astype(np.float64), 64)[0].tolist()


def test_lightnings_wandb_has_histograms_over_the_trainers_steps(
    store: ScoreStore,
    tmp_path: Path,
    offline: Callable[[], Any],  # noqa: F811
) -> None:
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    logger = loggers.WandbLogger(experiment=(run := offline()))
    fit(store, tmp_path, logger)
    run.finish()
    mine = [entry for entry in history_of(tmp_path) if "scores/loss" in entry]
    assert [entry["trainer/global_step"] for entry in mine] == [STEPS, 2 * STEPS]
    assert sum(mine[-1]["scores/loss"]["values"]) == N
    assert mine[-1]["sampler/kept"] == 0.5


@pytest.mark.filterwarnings("ignore:.*filesystem tracking backend")
def test_lightnings_mlflow_has_quantiles_at_the_trainers_steps(
    store: ScoreStore,
    tmp_path: Path,
    client: Any,  # noqa: F811
) -> None:
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    logger = loggers.MLFlowLogger(tracking_uri=f"file:{tmp_path}/mlruns", experiment_name="it")
    fit(store, tmp_path, logger)
    kept = logger.experiment.get_metric_history(logger.run_id, "sampler/kept")
    assert [(m.step, m.value) for m in kept] == [(STEPS, 1), (2 * STEPS, 0.5)]
    assert len(logger.experiment.get_metric_history(logger.run_id, "scores/loss/p50")) == 2


def test_another_logger_of_lightnings_has_the_numbers(store: ScoreStore, tmp_path: Path) -> None:
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    logger = loggers.CSVLogger(tmp_path)
    fit(store, tmp_path, logger)
    with open(Path(logger.log_dir) / "metrics.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["step"], float(line["sampler/kept"])) for line in lines] == [("11", 1), ("22", 0.5)]


def test_loggers_that_are_named_take_the_place_of_lightnings_own(store: ScoreStore, tmp_path: Path) -> None:
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    noted, own = Noted(), loggers.CSVLogger(tmp_path)
    fit(store, tmp_path, own, loggers=[noted])
    assert [step for step, _ in noted.seen] == [STEPS, 2 * STEPS]
    assert not (Path(own.log_dir) / "metrics.csv").exists()


def test_a_lightning_trainer_without_a_logger_logs_nothing(store: ScoreStore, tmp_path: Path) -> None:
    fit(store, tmp_path, False)
    assert {path.name for path in tmp_path.iterdir()} == {"scores.zarr"}


# -- Hugging Face --------------------------------------------------------------------------------------------------------------


def trained(store: ScoreStore, folder: Path, report_to: list[str], **settings: Any) -> Any:
    """Two epochs, of which the first keeps every row -> the Trainer."""
    transformers = pytest.importorskip("transformers")
    from adaptive_sampler.torch.transformers import AdaptiveTrainer

    arguments = transformers.TrainingArguments(
        str(folder / "out"),
        use_cpu=True,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        report_to=report_to,
        disable_tqdm=True,
        save_strategy="no",
        dataloader_pin_memory=False,
    )
    dataset = IndexedDataset(Samples(N), store, key="row")
    hook = LossHook(nn.CrossEntropyLoss(), store)
    trainer = AdaptiveTrainer(
        Model(), arguments, train_dataset=dataset, sampler=sampler_of(store), hook=hook, **settings
    )
    trainer.train()
    return trainer


def test_the_trainers_tensorboard_has_scores_and_plan_at_its_steps(
    store: ScoreStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tb"))
    trained(store, tmp_path, ["tensorboard"])
    found = scalars_of(tmp_path / "tb")
    assert found.keys() >= WATCHED | {"train/train_loss"}, "ours and the Trainer's own, in one file"
    assert found["sampler/kept"] == [(STEPS, 1), (2 * STEPS, 0.5)]
    assert [step for step, _ in histograms_of(tmp_path / "tb")["scores/el2n"]] == [STEPS, 2 * STEPS]


def test_the_trainers_wandb_has_histograms_over_its_steps(
    store: ScoreStore,
    tmp_path: Path,
    offline: Callable[[], Any],  # noqa: F811
) -> None:
    run = offline()
    trained(store, tmp_path, ["wandb"])
    run.finish()
    mine = [entry for entry in history_of(tmp_path) if "scores/loss" in entry]
    assert [entry["train/global_step"] for entry in mine] == [STEPS, 2 * STEPS]
    assert mine[-1]["hook/effective_samples"] == N


def test_the_trainers_mlflow_has_quantiles_at_its_steps(
    store: ScoreStore,
    tmp_path: Path,
    client: Any,  # noqa: F811
) -> None:
    import mlflow

    run_id = mlflow.active_run().info.run_id
    trained(store, tmp_path, ["mlflow"])
    assert [m.step for m in client.get_metric_history(run_id, "scores/el2n/p95")] == [STEPS, 2 * STEPS]


def test_a_trainer_that_reports_to_nothing_logs_nothing_and_takes_loggers_of_ones_own(
    store: ScoreStore, tmp_path: Path
) -> None:
    noted = Noted()
    trainer = trained(store, tmp_path, [], loggers=[noted])
    assert [step for step, _ in noted.seen] == [STEPS, 2 * STEPS]
    assert noted.seen[-1][1].scalars.keys() >= WATCHED
    assert not any("sampler/kept" in entry for entry in trainer.state.log_history)


# -- ranks -----------------------------------------------------------------------------------------------------------------------


def on_two(rank: int, path: str) -> list[Any]:
    store = distributed_store(path, N, SCORES)
    sampler = DistributedAdaptiveSampler(sampler_of(store))
    hook, noted, model = LossHook(nn.CrossEntropyLoss(), store), Noted(), nn.Linear(6, 3)
    for inputs, labels in hook.watch(DataLoader(IndexedDataset(data(N), store), sampler=sampler, batch_size=BATCH)):
        hook(model(inputs), labels)
    noted.log(store, sampler, hook, step=0)  # before the sync: what is there so far
    sync(store, sampler)
    noted.log(store, sampler, hook, step=1)
    return [(step, summary.scalars["scores/loss/observed"]) for step, summary in noted.seen]


def test_of_two_ranks_the_first_logs_and_the_other_does_not(tmp_path: Path) -> None:
    first, second = succeeded(run(2, on_two, str(tmp_path / "s")))
    assert first == [(0, 0), (1, 1)]
    assert second == []
