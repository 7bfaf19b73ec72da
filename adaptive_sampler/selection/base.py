"""What a policy is, and the few questions that every policy asks: how many, from which scores, which must come first."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from adaptive_sampler.checks import whole_number
from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import select
from adaptive_sampler.plan import MadeFrom, Plan

if TYPE_CHECKING:
    from fractions import Fraction

Order = Literal["highest", "lowest"]
Ties = Literal["random", "row"]


class Scores(Protocol):
    """What a policy may ask of a store; `ScoreStore` is one."""

    def __len__(self) -> int:
        """The number of rows."""

    def __getitem__(self, name: str) -> np.ndarray:
        """(n,) float32, NaN where never observed."""

    def last_seen(self, name: str) -> np.ndarray:
        """(n,) int32 epochs, −1 where never observed."""

    def observed(self, name: str) -> int:
        """How many rows have been observed."""

    @property
    def made_from(self) -> MadeFrom:
        """Which state of the scores this is."""


@runtime_checkable
class Policy(Protocol):
    """Scores → plan. Pure: the same scores, epoch and seed give the same plan, on any number of ranks."""

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """The plan of one epoch."""


def describe(policy: Any) -> dict[str, Any]:
    """A policy as JSON data: its class and arguments; arrays by length and checksum."""
    fields = dataclasses.fields(policy) if dataclasses.is_dataclass(policy) else ()
    return {"kind": type(policy).__name__} | {f.name: _plain(getattr(policy, f.name)) for f in fields}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"length": len(value), "crc32c": checksum([value])}
    return value.item() if isinstance(value, np.generic) else value


def make(store: Scores, policy: Any, epoch: int, seed: int, **arrays: np.ndarray | None) -> Plan:
    """The plan with these arrays (none: everything is kept), made by `policy` from the scores as they are.

    `kept`: (n,) bool, or the same packed (np.packbits with bitorder="little").
    """
    if arrays.get("kept") is not None:
        arrays["kept"] = _packed(np.asarray(arrays["kept"]), len(store))
    weights = arrays.get("weights")
    if weights is not None and (weights == 1).all():
        arrays["weights"] = None
    plan = Plan(len(store), describe(policy), seed, epoch, store.made_from, **arrays)
    if plan.num_samples == 0:
        raise InvalidValue(
            f"{policy} keeps none of {len(store)} rows, and an epoch without samples is none. Keep more."
        )
    return plan


def _packed(kept: np.ndarray, n: int) -> np.ndarray:
    if kept.dtype == np.bool_ and kept.shape == (n,):
        return np.packbits(kept, bitorder="little")
    if kept.dtype != np.uint8 or kept.shape != (-(-n // 8),):
        raise InvalidValue(
            f"kept has dtype {kept.dtype} and shape {kept.shape}: pass ({n},) bool, an entry for each row of the store, or "
            f"({-(-n // 8)},) uint8, which np.packbits(mask, bitorder='little') makes of it."
        )
    return kept


def check_share(name: str, value: Any, *, zero: bool = False) -> None:
    """Refuse what is neither a fraction in (0, 1] nor a count above 1. `zero`: whether 0 is allowed, and with it 1."""
    rule = f"a fraction, 0 {'<=' if zero else '<'} {name} <= 1 as a float, or a count of rows as an int"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidValue(f"{name}={value!r} must be {rule}.")
    if isinstance(value, (int, np.integer)):
        if value == 1 and not zero:
            raise InvalidValue(f"{name}=1 could mean one row or all of them: write {name}=1.0 for all. It is {rule}.")
        if value < 0 or (value == 0 and not zero):
            raise InvalidValue(f"{name}={value}: must be {rule}.")
    elif not (0 < value <= 1 or (zero and value == 0)):
        raise InvalidValue(f"{name}={value}: must be {rule}.")


def exactly(share: float) -> "Fraction":
    """The decimal number that a float is written as."""
    from fractions import Fraction  # late, for the sake of the package's import

    return Fraction(str(float(share)))


def cut(shares: Mapping[str, float | int], n: int) -> int:
    """How many of `n` rows the shares are together: fractions are added exactly, then cut at floor(f·n + ½)."""
    fraction = sum(exactly(s) for s in shares.values() if not isinstance(s, (int, np.integer)))
    count = sum(int(s) for s in shares.values() if isinstance(s, (int, np.integer)))
    total = math.floor(fraction * n + exactly(0.5)) + count
    if total > n:
        asked = " + ".join(f"{name}={value}" for name, value in shares.items())
        raise InvalidValue(f"{asked} asks for {total} of {n} rows. Ask for at most {n}, or for a fraction.")
    return total


def stale_age(store: Scores, by: str, epoch: int, max_age: int | None) -> np.ndarray | None:
    """(n,) float32: the age in epochs of each row's score where that is above `max_age`, NaN elsewhere. None: no limit.

    A row seen in an epoch that is still to come was seen in an earlier run, whose clock had gone further: it ages from the
    beginning of this one, as if seen in the epoch before the first.
    """
    if max_age is None:
        return None
    seen = store.last_seen(by)
    age = np.where(seen > epoch, epoch + 1, epoch - seen).astype(np.float32)
    age[(seen < 0) | (age <= max_age)] = np.nan
    return age


def fill(
    scores: np.ndarray,
    budget: int,
    start: Callable[[int, int], int],
    *,
    age: np.ndarray | None,
    salt: int,
    ties: Ties,
    observed: int | None = None,
) -> np.ndarray:
    """Fill `budget` rows: those never observed (all of them), then the oldest of `age`, then a window of the ranking.

    `start(ranked, number)` says where, among the `ranked` other rows in ascending order, the window of `number` rows
    begins. `observed`: how many rows have a score, where that is known. -> packed bits.
    """
    forced: Any = np.uint8(0)
    ranked = len(scores)
    if observed != len(scores):
        unseen = np.isnan(scores)
        forced, ranked = np.packbits(unseen, bitorder="little"), ranked - int(np.count_nonzero(unseen))
    number = max(budget - (len(scores) - ranked), 0)
    if age is not None:
        old = int(np.count_nonzero(~np.isnan(age)))
        first = min(old, number)
        oldest = select.rank_window(age, old - first, old, salt=salt, ties="random")
        scores = np.where(np.unpackbits(oldest, count=len(scores), bitorder="little").view(np.bool_), np.nan, scores)
        forced = forced | oldest
        ranked, number = ranked - first, number - first
    low = start(ranked, number)
    best: np.ndarray = select.rank_window(scores, low, low + number, salt=salt, ties=ties)
    best |= forced
    return best


def check_max_age(max_age: int | None) -> None:
    """Refuse an age that is no number of epochs."""
    if max_age is not None:
        whole_number("max_age", max_age, 1, what="a number of epochs", otherwise=", or None for no limit")


def check_by(by: Any) -> None:
    """Refuse what names no score."""
    if not isinstance(by, str):
        remedy = (
            "Policies do not nest: take the score that it goes by" if hasattr(by, "plan") else "Pass the score's name"
        )
        raise InvalidValue(f"by={by!r}: the name of a score of the store, as a str such as 'el2n'. {remedy}.")


def check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Refuse what is none of the allowed words."""
    if value not in allowed:
        raise InvalidValue(f"{name}={value!r}: one of {', '.join(map(repr, allowed))}.")
