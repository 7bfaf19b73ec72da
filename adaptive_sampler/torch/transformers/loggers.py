"""The tools that a Trainer reports to, as loggers of ours, so that histograms come to them too."""

from typing import Any

from transformers.integrations import MLflowCallback, TensorBoardCallback, WandbCallback

from adaptive_sampler.loggers import Logger, MLflow, TensorBoard, Wandb

GLOBAL_STEP = "train/global_step"  # the metric over which the Trainer has Weights & Biases draw its own


def trainers_own(trainer: Any) -> list[Logger]:
    """A logger for each tool that the Trainer reports to, of those that we know, in the run or file that is open now."""
    found: list[Logger] = []
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
            found.append(TensorBoard(callback.tb_writer))
        elif isinstance(callback, WandbCallback) and _active("wandb"):
            found.append(Wandb(step_metric=GLOBAL_STEP))
        elif isinstance(callback, MLflowCallback) and _active("mlflow"):
            found.append(MLflow())
    return found


def _active(tool: str) -> bool:
    """Whether the tool, which the callback has imported, has a run: it has none where an environment variable disables it."""
    if tool == "wandb":
        import wandb

        return wandb.run is not None
    import mlflow

    return mlflow.active_run() is not None
