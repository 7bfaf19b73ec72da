"""How a sampler shows itself: its policy, where it is, and the plan of its epoch. Neither makes a plan nor reads a score."""

from typing import Any

from adaptive_sampler.markup import card
from adaptive_sampler.plan import facts


def as_text(sampler: Any) -> str:
    """The sampler in one line, for `repr`."""
    kind, of = type(sampler).__name__, f"{sampler.store!r}, {sampler.policy!r}"
    return f"{kind}({of}, seed={sampler.seed}, epoch={sampler.epoch})"


def as_html(sampler: Any) -> str:
    """The sampler as a table of facts, for notebooks."""
    plan = sampler.fixed_plan
    shown: dict[str, object] = {
        "policy": sampler.policy,
        "store": f"{sampler.store.path}, {len(sampler.store):,} rows",
        "epoch": f"{sampler.epoch}, of which {sampler.drawn:,} samples are drawn",
        "plan": "made when the epoch's first row is drawn"
        if plan is None
        else f"{plan.id}: {facts(plan)['rows']} rows",
        "warm-up": f"{sampler.warmup_epochs} epochs keep every row",
        "replan": sampler.replan,
        "length": "that of the plan" if sampler.num_samples is None else f"{sampler.num_samples:,} samples",
        "seed": sampler.seed,
    }
    return card(type(sampler).__name__, shown)
