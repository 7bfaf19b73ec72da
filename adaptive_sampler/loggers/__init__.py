"""Loggers for the tools where people watch training: what becomes of the scores and of the plans, beside the loss.

`TensorBoard(writer).log(store, sampler, hook, step=epoch)` once an epoch, and so with `Wandb` and `MLflow`; a tool of your own is a
`Logger` with one method, `write`.
"""

from adaptive_sampler.loggers.base import Logger
from adaptive_sampler.loggers.histogram import Histogram
from adaptive_sampler.loggers.mlflow import MLflow
from adaptive_sampler.loggers.summary import Summary, summarize
from adaptive_sampler.loggers.tensorboard import TensorBoard
from adaptive_sampler.loggers.wandb import Wandb

__all__ = ["Histogram", "Logger", "MLflow", "Summary", "TensorBoard", "Wandb", "summarize"]
