"""What is random in a plan follows from the rows' names: the same keys are planned in whatever order they stand."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.kernels.identity import KeyIdentity, RowIdentity
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Draw, Exclude, InfoBatch, Prune, RandomPrune, Window

N = 300
KEYS = np.array([f"image-{row}" for row in range(N)])
SCORES = np.random.default_rng(0).integers(0, 4, N).astype(np.float32)  # nearly all tie
SCORES[::7] = np.nan
GROUPS = np.random.default_rng(1).integers(0, 3, N)
ORDERS = [np.random.default_rng(seed).permutation(N) for seed in (2, 3)]

POLICIES = {
    "Prune": lambda groups: Prune(0.4, "loss", per_class=groups, max_age=2),
    "Window": lambda groups: Window(0.3, 0.3, "loss", per_class=groups),
    "Exclude": lambda groups: Exclude("loss", lowest=0.2, highest=0.3, per_class=groups),
    "RandomPrune": lambda groups: RandomPrune(0.3, per_class=groups),
}
UNGROUPED = {
    "Draw a few": Draw("loss", 30, floor=0.1),
    "Draw many": Draw("loss", 3000, unbiased=True),
    "Draw without replacement": Draw("loss", 100, replacement=False),
    "InfoBatch": InfoBatch(epochs=9),
}


def keyed(order: np.ndarray) -> ScoreStore:
    store = ScoreStore.create(None, N, [Loss()], keys=KEYS[order])
    seen = np.flatnonzero(np.isfinite(SCORES[order]))
    store.fold("loss", seen, SCORES[order][seen], epoch=3)
    return store


def planned(policy: Any, order: np.ndarray, seed: int = 4) -> Mapping[str, tuple[int, float]]:
    """Key -> (visits, loss weight) of the keys that a plan has."""
    plan = policy.plan(keyed(order), epoch=5, seed=seed)
    rows, weights = Counter(plan.indices().tolist()), plan.loss_weights
    return {str(KEYS[order][row]): (times, float(weights[row])) for row, times in rows.items()}


@pytest.mark.parametrize("policy", UNGROUPED.values(), ids=UNGROUPED)
def test_the_same_keys_are_planned_in_whatever_order_they_stand(policy):
    one, other = (planned(policy, order) for order in ORDERS)
    assert one == other


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_the_same_share_of_keys_is_kept_in_whatever_order_they_stand(policy, grouped):
    one, other = (planned(policy(GROUPS[order] if grouped else None), order) for order in ORDERS)
    assert one == other


@pytest.mark.parametrize("policy", [*UNGROUPED.values(), *(make(GROUPS) for make in POLICIES.values())], ids=repr)
def test_another_seed_plans_other_keys(policy):
    if getattr(policy, "per_class", None) is not None:
        policy = type(policy)(**vars(policy) | {"per_class": GROUPS[ORDERS[0]]})
    assert planned(policy, ORDERS[0], seed=4) != planned(policy, ORDERS[0], seed=5)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_group_is_planned_as_a_store_of_its_rows_alone(policy):
    """With keys: what is random in one group has nothing to do with the others."""
    store = keyed(np.arange(N))
    within = set(policy(GROUPS).plan(store, epoch=5, seed=4).rows.tolist())
    for group in range(3):
        rows = np.flatnonzero(group == GROUPS)
        alone = ScoreStore.create(None, len(rows), [Loss()], keys=KEYS[rows])
        seen = np.flatnonzero(np.isfinite(SCORES[rows]))
        alone.fold("loss", seen, SCORES[rows][seen], epoch=3)
        kept = policy(np.zeros(len(rows), int)).plan(alone, epoch=5, seed=4).rows
        assert set(rows[kept].tolist()) == within & set(rows.tolist())


def test_the_names_of_a_store_are_its_keys_or_the_numbers_of_its_rows():
    with ScoreStore.create(None, 3, [Loss()]) as store:
        assert isinstance(store.identity, RowIdentity)
        assert len(store.identity) == 3
    with ScoreStore.create(None, 3, [Loss()], keys="abc") as store:
        assert isinstance(store.identity, KeyIdentity)
        store.grow(4, keys="d")
        assert len(store.identity) == 4
