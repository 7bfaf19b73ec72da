"""The loggers of a Lightning Trainer as loggers of ours: each has its own way to a histogram."""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

from adaptive_sampler.loggers import Logger, MLflow, Summary, TensorBoard, Wandb

GLOBAL_STEP = "trainer/global_step"  # the metric over which Lightning has Weights & Biases draw its own


class Scalars(Logger):
    """Any other logger of Lightning's, which takes numbers and no histograms."""

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self.theirs = theirs

    def write(self, summary: Summary, step: int) -> None:
        """Write the numbers."""
        self.theirs.log_metrics(summary.scalars, step)


def trainers_own(loggers: Iterable[Any]) -> list[Logger]:
    """What logs to the loggers of a Trainer, one for each."""
    return [_ours(theirs) for theirs in loggers]


def _ours(theirs: Any) -> Logger:
    if isinstance(theirs, TensorBoardLogger):
        return TensorBoard(theirs.experiment)
    if isinstance(theirs, WandbLogger):
        return Wandb(theirs.experiment, step_metric=GLOBAL_STEP)
    if isinstance(theirs, MLFlowLogger):
        client = theirs.experiment  # which begins the run
        return MLflow(theirs.run_id, client=client)
    return Scalars(theirs)
