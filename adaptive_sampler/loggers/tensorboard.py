"""TensorBoard: scalars and histograms by a writer of yours."""

from typing import Any

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.loggers.base import Logger
from adaptive_sampler.loggers.summary import Summary


class TensorBoard(Logger):
    """Logs to TensorBoard: `TensorBoard(SummaryWriter()).log(store, sampler, hook, step=epoch)`.

    `writer`: a `torch.utils.tensorboard.SummaryWriter`, or tensorboardX's. One that was closed opens another file in its folder.
    `labels`, `bins`: as for `Logger`. Raises `InvalidValue` for what is no writer.
    """

    def __init__(self, writer: Any, *, labels: Any = None, bins: int = 64) -> None:
        super().__init__(labels=labels, bins=bins)
        if not hasattr(writer, "add_histogram_raw"):
            raise InvalidValue(
                f"writer={writer!r} has no add_histogram_raw: pass torch.utils.tensorboard.SummaryWriter(log_dir)."
            )
        self.writer = writer

    def write(self, summary: Summary, step: int) -> None:
        """Write scalars and histograms, as they are binned already, and flush the writer."""
        for name, value in summary.scalars.items():
            self.writer.add_scalar(name, value, step)
        for name, found in summary.histograms.items():
            self.writer.add_histogram_raw(
                name,
                min=found.min,
                max=found.max,
                num=found.num,
                sum=found.sum,
                sum_squares=found.sum_squares,
                bucket_limits=found.edges[1:].tolist(),
                bucket_counts=found.counts.tolist(),
                global_step=step,
            )
        self.writer.flush()
