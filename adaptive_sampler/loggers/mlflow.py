"""MLflow: metrics of a run. It has no histograms, so quantiles stand for them."""

import re
import time
from typing import Any, ClassVar

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.loggers.base import Logger
from adaptive_sampler.loggers.summary import Summary

_MOST = 1000  # metrics that MLflow takes at once
_LONGEST = 250  # characters of a metric's name


class MLflow(Logger):
    """Logs to MLflow: `MLflow().log(store, sampler, hook, step=epoch)` within `with mlflow.start_run():`.

    MLflow has metrics over steps and files, and no histograms. So the 5th, 25th, 50th, 75th and 95th percentiles of each score
    are logged as metrics, `scores/el2n/p05` and so on, which it draws as curves and compares among runs, as it would no picture
    in a file.

    `run_id`: that of a run; None for `mlflow.active_run()`. `client`: a `mlflow.MlflowClient`, for a tracking server of its own;
    None for that of `mlflow.get_tracking_uri()`. `labels`: as for `Logger`. Characters that MLflow allows in no name become "_".
    To log raises ImportError without mlflow (or mlflow-skinny), `InvalidValue` if no run is active, and whatever the server raises.
    """

    quantiles: ClassVar[tuple[float, ...]] = (0.05, 0.25, 0.5, 0.75, 0.95)

    def __init__(self, run_id: str | None = None, *, client: Any = None, labels: Any = None) -> None:
        super().__init__(labels=labels)
        self.run_id, self.client = run_id, client

    def write(self, summary: Summary, step: int) -> None:
        """Write the scalars, which have the quantiles among them, as metrics of the run."""
        mlflow = _mlflow()
        client, run_id = self.client or mlflow.MlflowClient(), self.run_id
        if run_id is None:
            active = mlflow.active_run()
            if active is None:
                raise InvalidValue(
                    "no run of MLflow is active: log within `with mlflow.start_run():`, or pass run_id=."
                )
            run_id = active.info.run_id
        now = time.time_ns() // 1_000_000
        metrics = [mlflow.entities.Metric(_allowed(name), value, now, step) for name, value in summary.scalars.items()]
        for start in range(0, len(metrics), _MOST):
            client.log_batch(run_id, metrics=metrics[start : start + _MOST])


def _allowed(name: str) -> str:
    """A name that MLflow takes: it makes paths of names."""
    parts = re.sub(r"[^0-9A-Za-z_\-. /]", "_", name)[:_LONGEST].split("/")
    return "/".join(re.sub(r"^\.{1,2}$", "_", part) for part in parts)


def _mlflow() -> Any:
    try:
        import mlflow
    except ImportError as error:
        raise ImportError("MLflow(...).log needs MLflow: pip install mlflow, or mlflow-skinny") from error
    return mlflow
