"""What a logger is: it summarizes a store, and a tool of its own writes the summary."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from adaptive_sampler.checks import whole_number
from adaptive_sampler.loggers.kept import Labelled
from adaptive_sampler.loggers.summary import Summary, summarize
from adaptive_sampler.store import ScoreStore


class Logger(ABC):
    """Writes summaries of a store to a tool; derive one for a tool of your own, with a method `write`.

    `labels`: (n,) integers, bools or strings, the class of each row, of which the kept shares are logged; None: the labels that
    hooks have seen, if they keep them. `bins`: of each histogram.
    """

    quantiles: ClassVar[tuple[float, ...]] = ()  # of each score, for tools that have no histograms

    def __init__(self, *, labels: Any = None, bins: int = 64) -> None:
        self.labels = None if labels is None else Labelled(labels)
        self.bins = whole_number("bins", bins, 1)

    def log(self, store: ScoreStore, sampler: Any = None, hook: Any = None, *, step: int | None = None) -> None:
        """Summarize the store as it is now, and write that as of `step`; None for the store's epoch.

        `sampler`, `hook`: as for `summarize`. Call it when an epoch is over, on ranks after `sync`, and on all of them: only the
        one that writes the store logs. Nothing is fixed, planned or committed by it. A step that is logged twice is written twice,
        and the tool shows both or the last. Raises as `summarize` does, and `InvalidValue` where the tool takes nothing any more.
        """
        if store.session.mode == "journal":
            return
        summary = summarize(store, sampler, hook, labels=self.labels, bins=self.bins, quantiles=self.quantiles)
        self.write(summary, store.epoch if step is None else whole_number("step", step, 0))

    @abstractmethod
    def write(self, summary: Summary, step: int) -> None:
        """Write `summary`, which is of `step`, to the tool."""
