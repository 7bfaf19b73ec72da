"""Resume anywhere equals never having stopped: the same rows in the same order, the same scores at the end."""

from pathlib import Path
from typing import Any

import pytest

from tests.torch.training import POLICIES, plain, resumed, stateful, whole

BLOCKED = [name for name in POLICIES if name != "infobatch"]  # its plans weigh samples, which replan=k refuses
CASES = [(name, replan) for name in POLICIES for replan in ("epoch", "once")] + [(name, 2) for name in BLOCKED]


def check_resume(path: Path, policy: str, make_loader: Any, steps: slice = slice(None), **sampling: Any) -> None:
    training, saves = whole(path, POLICIES[policy](), make_loader, **sampling)
    scores = training.scores()
    training.store.close()
    for step in range(len(saves))[steps]:
        again = resumed(path, saves[step], len(saves) - step - 1, POLICIES[policy](), make_loader, **sampling)
        assert again.rows == training.rows[step + 1 :], f"rows differ after step {step + 1}"
        assert again.scores() == scores, f"scores differ after step {step + 1}"
        again.store.close()


@pytest.mark.parametrize(("policy", "replan"), CASES)
def test_a_plain_loader_resumes_exactly_at_every_batch_of_two_epochs(place: Path, policy: str, replan: Any) -> None:
    check_resume(place, policy, plain(), replan=replan)


@pytest.mark.parametrize("replan", ["epoch", "once", 2])
def test_an_unshuffled_walk_resumes_exactly(place: Path, replan: Any) -> None:
    check_resume(place, "prune", plain(), replan=replan, shuffle=False)


@pytest.mark.parametrize("replan", ["epoch", 1, 3])
def test_what_was_delivered_counts_where_workers_draw_ahead(place: Path, replan: Any) -> None:
    check_resume(place, "prune", plain(num_workers=2), slice(None, None, 3), replan=replan)


@pytest.mark.parametrize("policy", ["prune", "upsample", "draw"])
@pytest.mark.parametrize("replan", ["epoch", "once", 2])
def test_a_stateful_loader_resumes_exactly_at_every_batch(place: Path, policy: str, replan: Any) -> None:
    check_resume(place, policy, stateful(), replan=replan)


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("replan", ["epoch", 1, 2])
def test_a_stateful_loader_with_workers_resumes_exactly(place: Path, replan: Any, persistent: bool, every: int) -> None:
    loader = stateful(num_workers=2, persistent_workers=persistent, snapshot_every_n_steps=every)
    check_resume(place, "prune", loader, slice(None, None, 4), replan=replan)
