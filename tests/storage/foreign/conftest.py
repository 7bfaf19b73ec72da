"""What the tests of a store that somebody else made share: a sound store to change, beside a folder that is not ours."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import Forgetting, Loss
from adaptive_sampler.selection import Draw
from tests.storage.foreign.changes import N


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with keys and two columns, the versions 0, 1 and 2 and a plan; and the plan's id."""
    path, keys = tmp_path_factory.mktemp("sound") / "s", [f"key {i}" for i in range(N)]
    own = {"source": ["a", "b"] * (N // 2), "tokens": range(N)}
    with ScoreStore.create(path, N, [Loss(), Forgetting()], keys=keys, columns=own) as store:
        for value in (1, 2):
            store.fold("loss", np.arange(N), np.arange(N) + value)
            store.commit()
        plan = Draw("loss", unbiased=True).plan(store, epoch=0, seed=0)
        store.session.plans.keep(plan)
    return path, plan.id


@pytest.fixture
def place(tmp_path: Path, sound: tuple[Path, str]) -> Path:
    """A copy of that store, beside a folder that belongs to somebody else."""
    shutil.copytree(sound[0], tmp_path / "s")
    for name in ("manifests/9.json", "v1/loss/value/c/0", "plan.json", "kept.npy", "0", "file"):
        (tmp_path / "outside" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "outside" / name).write_text("precious")
    return tmp_path / "s"
