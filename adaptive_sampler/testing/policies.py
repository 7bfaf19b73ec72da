"""What a policy must do."""

import json
from collections.abc import Sequence

import numpy as np

from adaptive_sampler.plan import Plan, from_files
from adaptive_sampler.selection.base import Policy
from adaptive_sampler.selection.base import describe as describe_policy
from adaptive_sampler.selection.following import at_epoch
from adaptive_sampler.selection.made import plan_by
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.testing.identical import identical


def check_policy(
    policy: Policy, store: ScoreStore, *, epochs: Sequence[int] = (0, 3), seeds: Sequence[int] = (0, 7)
) -> None:
    """Check a policy on the scores of `store`: is it pure, are its plans valid and restorable? Raises AssertionError."""
    assert isinstance(policy, Policy), f"{policy!r} has no plan method"
    described = describe_policy(policy)
    assert json.loads(json.dumps(described)) == described, "a policy's fields must be JSON data, or arrays"
    before = [(name, store[name].tobytes(), store.count(name).tobytes()) for name in store.names]
    generator = np.random.get_state()  # noqa: NPY002 - read only, to check that it is left alone
    for epoch in epochs:
        for seed in seeds:
            plan = plan_by(policy, store, epoch, seed)
            again = policy.plan(store, epoch=epoch, seed=seed)
            assert plan.id == again.id, "the same scores, epoch and seed must give the same plan"
            _check_plan(plan, len(store))
            assert (plan.epoch, plan.seed) == (epoch, seed), "a plan names the epoch and seed it was made for"
            assert plan.made_from == store.made_from, "a plan names the scores that it was made from"
            told = describe_policy(at_epoch(policy, epoch))
            assert plan.policy == told, (
                "a plan names its policy, with the numbers of its epoch; make it with selection.make"
            )
    after = [(name, store[name].tobytes(), store.count(name).tobytes()) for name in store.names]
    assert after == before, "planning changed the scores"
    assert describe_policy(policy) == described, "planning changed the policy"
    ours = np.random.get_state()  # noqa: NPY002 - as above
    assert all(identical(a, b) for a, b in zip(generator, ours, strict=True)), "planning used NumPy's global generator"


def _check_plan(plan: Plan, n: int) -> None:
    rows = plan.rows
    assert plan.n == n, f"a plan of {plan.n} rows for a store of {n}"
    assert plan.num_samples >= 1, "an epoch without samples is none"
    assert ((rows >= 0) & (rows < n)).all(), "a bit beyond the last row is set"
    assert (np.diff(rows) > 0).all(), "rows are not ascending"
    assert len(plan.indices()) == plan.num_samples == int(plan.repeats.sum()), "repeats and length disagree"
    assert (plan.repeats[rows] >= 1).all(), "a row that is kept is visited at least once"
    weights = plan.loss_weights_of(rows)
    assert np.isfinite(weights).all(), "loss weights must be finite"
    assert (weights >= 0).all(), "loss weights must not be negative"
    files = {name: np.frombuffer(b"".join(map(bytes, parts)), np.uint8) for name, parts in plan.files().items()}
    assert from_files(files, "memory").id == plan.id, "a plan read back from its files differs"
