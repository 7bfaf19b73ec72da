"""Policies that work together: `a & b` visits what both keep."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import bits
from adaptive_sampler.plan import MOST_VISITS, Plan
from adaptive_sampler.selection.base import Policy, Scores, is_policy
from adaptive_sampler.selection.following import Following
from adaptive_sampler.selection.made import make, plan_by


class Composable(Following):
    """What lets a policy be composed with `&`, and its numbers follow the epoch; both are here for policies of your own.

    One that has not inherited it is composed by `Composed(a, b)`. A number may be a `Schedule`; where a field is annotated as
    `Varying`, also a function of the epoch. `__post_init__` and `plan` then see a number.
    """

    def __and__(self: Any, other: Policy) -> "Composed":
        return Composed(self, other)

    def __rand__(self: Any, other: Policy) -> "Composed":
        return Composed(other, self)


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Composed(Composable):
    """Visit the rows that all `parts` keep; how often a row is visited, and its loss weight, are the products of theirs.

    `Composed(a, b)` is `a & b`, also for policies of your own. Each part plans alone, on the whole store, with the same epoch
    and seed: so shares are of all rows, not of what another part leaves, `a & b` and `b & a` plan the same, and
    `RandomPrune(0.5) & RandomPrune(0.2)` keeps what `RandomPrune(0.2)` keeps. Raises `InvalidValue` for what is no policy,
    and for fewer than two parts.
    """

    parts: tuple[Policy, ...]

    def __init__(self, *parts: Policy) -> None:
        for part in parts:
            if not is_policy(part):
                raise InvalidValue(
                    f"{part!r} cannot be composed: it has no method plan(store, *, epoch, seed). Pass one of "
                    "adaptive_sampler.selection, or an object of your own that has it."
                )
        if len(parts) < 2:
            raise InvalidValue(f"Composed takes two policies or more, and got {len(parts)}: pass Composed(a, b).")
        object.__setattr__(self, "parts", tuple(inner for part in parts for inner in parts_of(part)))

    def __repr__(self) -> str:
        return " & ".join(map(repr, self.parts))

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """The rows that the plans of all parts have.

        Raises `InvalidValue` if no row is in all of them, and for products that are too large: visits of a row above 2³² − 1,
        or a loss weight above what float32 holds.
        """
        plans = [plan_by(part, store, epoch, seed) for part in self.parts]
        kept = _intersection(plans)
        if kept is not None and not kept.any():
            each = ", ".join(f"{part} keeps {plan.num_rows}" for part, plan in zip(self.parts, plans, strict=True))
            raise InvalidValue(
                f"of {len(store)} rows {each}, and no row is kept by all: an epoch without samples is none. Keep more."
            )
        return make(store, self, epoch, seed, kept=kept, counts=_visits(plans, kept), weights=_weights(plans, kept))


def scores_of(policy: Any) -> tuple[str, ...]:
    """The names of the scores that a policy goes by, those of its parts if it is composed; without repeats.

    They are its attribute `by`, a name or a list of names.
    """
    if isinstance(policy, Composed):
        return tuple(dict.fromkeys(name for part in policy.parts for name in scores_of(part)))
    by = getattr(policy, "by", None)
    if type(by) is str:
        return (by,)
    names = by if isinstance(by, (list, tuple)) else (by,)
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))


def parts_of(policy: Any) -> tuple[Any, ...]:
    """The policies that a policy is composed of; itself if it is not composed."""
    return policy.parts if isinstance(policy, Composed) else (policy,)


def _intersection(plans: list[Plan]) -> np.ndarray | None:
    """The rows of all plans, packed; None if every plan has every row."""
    kept: np.ndarray | None = None
    for plan in plans:
        if plan.kept is not None:
            kept = plan.kept if kept is None else kept & plan.kept
    return kept


def _visits(plans: list[Plan], kept: np.ndarray | None) -> np.ndarray | None:
    """How often each row of `kept` is visited, (kept rows,) unsigned; None if once each."""
    most, found = 1, None
    for plan in plans:
        if plan.counts is not None:
            most *= int(plan.counts.max(initial=1))
            own = _within(plan, plan.counts, kept)
            found = own if found is None else np.multiply(found, own, dtype=np.uint64)
    if most > MOST_VISITS:
        raise InvalidValue(f"rows would be visited up to {most} times in an epoch. Compose smaller factors.")
    return found


def _weights(plans: list[Plan], kept: np.ndarray | None) -> np.ndarray | None:
    """The loss weight of each row of `kept`, (kept rows,) float32; None if all are 1."""
    found = None
    for plan in plans:
        if plan.weights is not None:
            own = _within(plan, plan.weights, kept)
            found = own if found is None else np.multiply(found, own, dtype=np.float64)
    if found is None or found.dtype == np.float32:
        return found
    with np.errstate(over="ignore"):
        return found.astype(np.float32)


def _within(plan: Plan, values: np.ndarray, kept: np.ndarray | None) -> np.ndarray:
    """`values`, one for each row of `plan`, for the rows of `kept` alone, which are all among them."""
    return values if kept is None or kept is plan.kept else bits.part(values, plan.kept, kept)
