"""`check_resume` finds what it is for: each kind of fault, planted in a training that is sound otherwise."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.testing import Loop, Trace, check_resume
from adaptive_sampler.torch import AdaptiveSampler, IndexedDataset

N = 20


def opened(folder: Path, commit: int | None) -> ScoreStore:
    if commit is None:
        return ScoreStore.create(folder / "scores", N, [Loss()])
    return ScoreStore.open(folder / "scores", version=commit)


def loader(folder: Path, commit: int | None, seed: int = 0) -> Any:
    store = opened(folder, commit)
    return DataLoader(IndexedDataset(range(N), store), 4, sampler=AdaptiveSampler(store, Prune(0.6, "loss"), seed=seed))


def test_a_loader_of_ours_goes_on_exactly() -> None:
    check_resume(loader)


def test_a_folder_of_the_callers_holds_the_store_afterwards(tmp_path: Path) -> None:
    check_resume(loader, epochs=1, folder=tmp_path)
    with ScoreStore.open(tmp_path / "scores", mode="r") as store:
        assert store.observed("loss") == N


def late(folder: Path, commit: int | None) -> Loop:
    """Its states lie a batch before what was trained on."""
    made = loader(folder, commit)
    return Loop(made, save=lambda hook: made.sampler.state_dict(delivered=max(hook.delivered - 4, made.sampler.start)))


def test_rows_that_come_twice_are_found() -> None:
    with pytest.raises(AssertionError, match=r"stopped after batch 2: batch 1 after it has the rows .*, and without a"):
        check_resume(late)


def skipping(folder: Path, commit: int | None) -> Loop:
    """Loads the place of a whole epoch later."""
    made = loader(folder, commit)
    return Loop(made, load=lambda state: made.sampler.set_epoch(state["epoch"] + 1))


def test_an_epoch_that_is_left_out_is_found() -> None:
    with pytest.raises(AssertionError, match="resumes differ from the run that never stopped"):
        check_resume(skipping)


def forgetting(folder: Path, commit: int | None) -> Any:
    """Goes on with the rows and an empty store."""
    return Forgetful(loader(folder, commit), forget=commit is not None)


class Forgetful(Loop):
    """Loses a score when it begins."""

    def __init__(self, loader: Any, *, forget: bool) -> None:
        super().__init__(loader)
        self.forget = forget

    def train(self, epochs: int, trace: Trace, resume: Any = None) -> None:
        super().train(epochs, trace, resume)
        if self.forget:
            self.store.update([0], loss=[9.0])


def test_a_score_that_differs_at_the_end_is_found() -> None:
    with pytest.raises(AssertionError, match="the same batches come after it, and loss: count, loss: value differ at"):
        check_resume(forgetting, epochs=1)


def reseeded(folder: Path, commit: int | None) -> Any:
    """Makes its sampler with another seed when it goes on."""
    return loader(folder, commit, seed=0 if commit is None else 1)


def test_what_a_resume_raises_comes_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)rank 0: .*in load_state_dict.*ResumeError: .*saved with seed=0"):
        check_resume(reseeded, epochs=1)


class Unsaved(Loop):
    """Trains, and is never saved."""

    def train(self, epochs: int, trace: Trace, resume: Any = None) -> None:
        super().train(epochs, Trace(), resume)


def unsaved(folder: Path, commit: int | None) -> Loop:
    return Unsaved(loader(folder, commit))


def test_a_training_that_is_never_saved_is_told_so() -> None:
    with pytest.raises(AssertionError, match="the training was never saved"):
        check_resume(unsaved, epochs=1)


def nothing(folder: Path, commit: int | None) -> None:
    return None


def test_what_is_no_loader_is_refused() -> None:
    with pytest.raises(RuntimeError, match="InvalidValue: make returned None: return a loader"):
        check_resume(nothing)


def foreign(folder: Path, commit: int | None) -> Any:
    return DataLoader(range(4))  # type: ignore[arg-type]  # a sequence


def test_a_loader_without_a_sampler_of_ours_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"InvalidValue: .*DataLoader.* has no sampler of ours"):
        check_resume(foreign)


def test_what_cannot_be_called_in_another_process_is_refused_and_the_remedy_works() -> None:
    with pytest.raises(InvalidValue, match=r"cannot be pickled.*Use a function at the top of a module, or a functools"):
        check_resume(lambda folder, commit: loader(folder, commit))
    check_resume(partial(loader, seed=3), epochs=1)
