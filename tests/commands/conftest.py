"""The demo trains with torch: on one thread, because two cores are shared; and not at all where there is no torch. And a store
for the commands."""

from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import EL2N, Forgetting
from adaptive_sampler.selection import Prune

try:
    import torch
except ImportError:
    collect_ignore = ["test_demo.py"]
else:
    torch.set_num_threads(1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a version and a plan."""
    with ScoreStore.create(tmp_path / "store", 20, [EL2N(), Forgetting()]) as store:
        rng = np.random.default_rng(0)
        store.fold("el2n", np.arange(16), rng.random(16), epoch=4)
        store.commit("after four epochs", pin=True)
        next(iter(AdaptiveSampler(store, Prune(0.5, "el2n"))))
    return tmp_path / "store"
