"""Weights & Biases: scalars and histograms in a run of yours."""

from typing import Any

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.loggers.base import Logger
from adaptive_sampler.loggers.summary import Summary

_DRAWN_OVER = ("scores/*", "sampler/*", "kept_of_class/*", "hook/*")


class Wandb(Logger):
    """Logs to Weights & Biases: `Wandb(wandb.init(...)).log(store, sampler, hook, step=epoch)`.

    `run`: a run; None for `wandb.run`, the current one. `step_metric`: the metric that holds the step, over which the others are
    drawn. W&B's own step is not it: that only ever grows, and counts your own calls of `run.log` too. `labels`, `bins`: as for
    `Logger`; W&B draws 512 bins at most. To log raises ImportError without wandb, and `InvalidValue` if no run is active or the run
    has ended.
    """

    def __init__(
        self, run: Any = None, *, step_metric: str = "adaptive_sampler/step", labels: Any = None, bins: int = 64
    ) -> None:
        super().__init__(labels=labels, bins=bins)
        if bins > 512:
            raise InvalidValue(f"bins={bins}: Weights & Biases draws at most 512. Pass bins=512 or fewer.")
        self.run, self.step_metric = run, step_metric
        self._defined: Any = None  # the run that knows over what our metrics are drawn

    def write(self, summary: Summary, step: int) -> None:
        """Write one entry of the run's history."""
        wandb = _wandb()
        run = wandb.run if self.run is None else self.run
        if run is None:
            raise InvalidValue("no run of Weights & Biases is active: call wandb.init(...) before, or pass its run.")
        drawn = {
            name: wandb.Histogram(np_histogram=(found.counts, found.edges))
            for name, found in summary.histograms.items()
        }
        try:
            if self._defined is not run:
                for names in _DRAWN_OVER:
                    run.define_metric(names, step_metric=self.step_metric)
                self._defined = run
            run.log({**summary.scalars, **drawn, self.step_metric: step})
        except wandb.errors.UsageError as error:
            raise InvalidValue(
                f"the run of Weights & Biases takes nothing any more: {error} Log before run.finish(), or go on with "
                "wandb.init(id=run.id, resume='must')."
            ) from error


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ImportError("Wandb(...).log needs Weights & Biases: pip install wandb") from error
    return wandb
