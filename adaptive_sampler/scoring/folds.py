"""Folds: how the values of a row over time become one number, such as the last, the mean, the largest or the spread."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import fold as kernels
from adaptive_sampler.scoring.base import CannotMerge, Column, State, register

__all__ = ["EMA", "Deviation", "Last", "Max", "Mean", "Transitions"]

VALUE: Mapping[str, Column] = {"value": Column("float32", np.nan)}


class _Simple:
    """What the folds share that keep one value: the score is that value itself, and a new run does not change it."""

    columns: ClassVar[Mapping[str, Column]] = VALUE
    relies_on: ClassVar[str] = ""

    def read(self, state: State) -> np.ndarray:
        return state["value"]

    def begin_run(self, state: State) -> None:
        pass


@register("last")
@dataclass(frozen=True)
class Last(_Simple):
    """The newest value."""

    rule: ClassVar[int] = kernels.LAST
    relies_on: ClassVar[str] = "epochs"

    def fold(self, state: State, rows: np.ndarray, values: np.ndarray, before: np.ndarray) -> None:
        kernels.last(rows, values, state["value"])

    def merge(self, state: State, other: State) -> None:
        mine, theirs = state["last_seen"], other["last_seen"]
        tied = np.flatnonzero((mine == theirs) & (state["value"] != other["value"]))
        if len(tied):
            raise CannotMerge(
                int(tied[0]),
                f"both last in epoch {mine[tied[0]]}, with the values {state['value'][tied[0]]} and "
                f"{other['value'][tied[0]]}: which came last is not known. A score with fold=Mean() or Max() can be merged.",
            )
        np.copyto(state["value"], other["value"], where=theirs > mine)


@register("mean")
@dataclass(frozen=True)
class Mean(_Simple):
    """The arithmetic mean of all values, over epochs and runs."""

    rule: ClassVar[int] = kernels.MEAN

    def fold(self, state: State, rows: np.ndarray, values: np.ndarray, before: np.ndarray) -> None:
        kernels.mean(rows, values, before, state["value"])

    def merge(self, state: State, other: State) -> None:
        share = other["count"] / (state["count"] + other["count"].astype(np.float64))
        state["value"] += (other["value"].astype(np.float64) - state["value"]) * share


@register("ema")
@dataclass(frozen=True)
class EMA(_Simple):
    """A moving average: decay · old + (1 − decay) · new, starting at the first value.

    Raises `InvalidValue` unless `decay` is in [0, 1).
    """

    rule: ClassVar[int] = kernels.EMA

    decay: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise InvalidValue(f"decay={self.decay!r}: 0 <= decay < 1. Use Mean() for equal weights, Last() for 0.")

    def fold(self, state: State, rows: np.ndarray, values: np.ndarray, before: np.ndarray) -> None:
        kernels.ema(rows, values, before, self.decay, state["value"])

    def merge(self, state: State, other: State) -> None:
        if len(state["value"]):
            raise CannotMerge(
                0,
                "a moving average depends on the order of all its values, and does not keep them. A score with fold=Mean() or "
                "Max() can be merged.",
            )


@register("max")
@dataclass(frozen=True)
class Max(_Simple):
    """The largest value so far."""

    rule: ClassVar[int] = kernels.MAXIMUM

    def fold(self, state: State, rows: np.ndarray, values: np.ndarray, before: np.ndarray) -> None:
        kernels.maximum(rows, values, before, state["value"])

    def merge(self, state: State, other: State) -> None:
        np.maximum(state["value"], other["value"], out=state["value"])


@register("deviation")
@dataclass(frozen=True)
class Deviation:
    """The standard deviation of all values, with ddof 0 (Swayamdipta et al. 2020, section 2)."""

    rule: ClassVar[int] = kernels.DEVIATION

    relies_on: ClassVar[str] = ""
    columns: ClassVar[Mapping[str, Column]] = {"mean": Column("float32", 0), "m2": Column("float32", 0)}

    def fold(self, state: State, rows: np.ndarray, values: np.ndarray, before: np.ndarray) -> None:
        kernels.deviation(rows, values, before, state["mean"], state["m2"])

    def read(self, state: State) -> np.ndarray:
        with np.errstate(all="ignore"):  # 0 / 0: the NaN of a row that was never observed; tiny spreads may underflow
            spread: np.ndarray = np.sqrt(state["m2"] / state["count"].astype(np.float32))
        return spread

    def begin_run(self, state: State) -> None:
        pass

    def merge(self, state: State, other: State) -> None:
        """Two sums of squared deviations become one (Chan, Golub and LeVeque 1979, equation 2.1)."""
        mine, theirs = state["count"].astype(np.float64), other["count"].astype(np.float64)
        apart = other["mean"].astype(np.float64) - state["mean"]
        state["mean"] += apart * theirs / (mine + theirs)
        state["m2"] += other["m2"] + apart * apart * mine * theirs / (mine + theirs)


NeverLearned = Literal["inf", "presentations", "zero"]
Runs = Literal["sum", "mean"]


@register("transitions")
@dataclass(frozen=True)
class Transitions:
    """How often a row went from right (value 0) to wrong (value 1) between consecutive presentations of a training run.

    `never_learned`: the score in a run for a row that was presented in it but never right: infinity, the number of its
    presentations, or zero. `runs`: whether the scores of several runs are summed or averaged. Raises `InvalidValue` for
    another choice.
    """

    rule: ClassVar[int] = kernels.TRANSITIONS

    never_learned: NeverLearned = "inf"
    runs: Runs = "sum"
    relies_on: ClassVar[str] = "runs"
    columns: ClassVar[Mapping[str, Column]] = {
        "events": Column("uint32", 0),
        "presentations": Column("uint32", 0),
        "state": Column("uint8", 0),  # bit 0: right at the last presentation; bit 1: ever right in this run
        "total": Column("float32", 0),  # the score summed over the runs before this one
        "runs": Column("uint32", 0),  # how many runs before this one presented the row
    }

    def __post_init__(self) -> None:
        if self.never_learned not in ("inf", "presentations", "zero"):
            raise InvalidValue(f"never_learned={self.never_learned!r}: one of 'inf', 'presentations', 'zero'.")
        if self.runs not in ("sum", "mean"):
            raise InvalidValue(f"runs={self.runs!r}: one of 'sum', 'mean'.")

    def fold(self, state: State, rows: np.ndarray, values: np.ndarray, before: np.ndarray) -> None:
        kernels.transitions(rows, values, state["events"], state["presentations"], state["state"])

    def read(self, state: State) -> np.ndarray:
        total: np.ndarray = state["total"] + self._this_run(state)
        if self.runs == "mean":
            total /= np.maximum(state["runs"] + (state["presentations"] > 0), 1)
        total[state["count"] == 0] = np.nan
        return total

    def begin_run(self, state: State) -> None:
        state["total"] += self._this_run(state)
        state["runs"] += state["presentations"] > 0
        for name in ("events", "presentations", "state"):
            state[name][:] = 0

    def merge(self, state: State, other: State) -> None:
        """Runs are summed; of the current one, at most one store may have presented a row: the order is not known."""
        torn = np.flatnonzero((state["presentations"] > 0) & (other["presentations"] > 0))
        if len(torn):
            raise CannotMerge(
                int(torn[0]),
                "both in the current run, and which presentation came after which is not known. Scores of one run can be "
                "merged if each row was trained on in one store; name separate runs separately, by store.begin_run(name).",
            )
        for name in ("events", "presentations", "total", "runs"):
            state[name] += other[name]
        state["state"] |= other["state"]

    def _this_run(self, state: State) -> np.ndarray:
        """The score of the current run alone, (n,) float32; 0 for rows that it has not presented yet."""
        value: np.ndarray = state["events"].astype(np.float32)
        never = (state["presentations"] > 0) & (state["state"] & kernels.LEARNED == 0)
        if self.never_learned == "inf":
            value[never] = np.inf
        elif self.never_learned == "presentations":
            value[never] = state["presentations"][never]
        return value
