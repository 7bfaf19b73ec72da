"""The plans of a store, as figures and the page ask about them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan
from adaptive_sampler.store import ScoreStore


def newest_plan(store: ScoreStore) -> Plan | None:
    """The newest saved plan: newest by the scores that it was made from, then by its epoch; None if none is saved."""
    return store.session.plans.newest()


def visits(plan: Plan, n: int) -> np.ndarray:
    """How often the plan visits each of the store's `n` rows, (n,) uint32; those that came after it was made, never.

    Raises `InvalidValue` for a plan of more rows.
    """
    if plan.n > n:
        raise InvalidValue(f"plan {plan.id} is one of {plan.n} rows, the store has {n}: pass a plan of this store.")
    return np.pad(plan.repeats, (0, n - plan.n))


def parts(plan: Plan) -> list[Mapping[str, Any]]:
    """The plan's policy as data, or its parts if it is a composed one."""
    found: list[Mapping[str, Any]] = plan.policy.get("parts", [plan.policy])
    return found


def kind(plan: Plan) -> str:
    """The name of the plan's policy, or those of its parts."""
    return " & ".join(part["kind"] for part in parts(plan))
