"""Counts and epochs are kept once for scores that are observed together, and apart for those that are not."""

from pathlib import Path

import numpy as np

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Forgetting, Loss, Margin


def together(path: Path | None) -> ScoreStore:
    store = ScoreStore.create(path, 10, [EL2N(), Loss(), Margin()])
    store.update([1, 2, 2], epoch=3, logits=np.eye(3), labels=[0, 1, 1])
    return store


def test_scores_observed_together_share_their_counts() -> None:
    store = together(None)
    assert np.shares_memory(store.count("el2n"), store.count("margin"))
    assert store.count("loss").tolist() == [0, 1, 2, *[0] * 7]
    assert store.last_seen("margin").tolist() == [-1, 3, 3, *[-1] * 7]


def test_a_score_observed_alone_leaves_the_others_counts_as_they_were() -> None:
    store = together(None)
    store.fold("loss", [2, 5], [1.0, 1.0], epoch=8)
    assert store.count("loss").tolist() == [0, 1, 3, 0, 0, 1, 0, 0, 0, 0]
    assert store.count("el2n").tolist() == [0, 1, 2, *[0] * 7]
    assert store.last_seen("el2n")[5] == -1
    store.update([9], epoch=9, logits=[[1.0, 0.0]], labels=[0])
    assert store.count("loss")[9] == store.count("margin")[9] == 1


def test_scores_that_parted_come_back_apart(tmp_path: Path) -> None:
    with together(tmp_path / "s") as store:
        store.fold("loss", [5], [1.0], epoch=8)
        store.commit()
    with ScoreStore.open(tmp_path / "s") as store:
        assert np.shares_memory(store.count("el2n"), store.count("margin"))
        assert not np.shares_memory(store.count("el2n"), store.count("loss"))
        assert (store.count("loss")[5], store.count("el2n")[5]) == (1, 0)


def test_a_shared_book_is_one_file_on_disk(tmp_path: Path) -> None:
    with together(tmp_path / "s") as store:
        store.commit()
    count = "count/c/0"
    assert (tmp_path / f"s/v1/el2n/{count}").samefile(tmp_path / f"s/v1/margin/{count}")


def test_a_score_added_later_has_a_book_of_its_own() -> None:
    store = ScoreStore.create(None, 10, [EL2N()])
    store.update([1], logits=[[1.0, 0.0]], labels=[0])
    store.add(Loss())
    store.update([1], logits=[[1.0, 0.0]], labels=[0])
    assert (store.count("el2n")[1], store.count("loss")[1]) == (2, 1)


def test_a_grown_store_keeps_sharing() -> None:
    store = together(None)
    store.grow(20)
    assert np.shares_memory(store.count("el2n"), store.count("margin"))
    assert store.count("loss").tolist() == [0, 1, 2, *[0] * 17]


def test_a_run_begun_on_a_store_just_opened_closes_the_run_before(tmp_path: Path) -> None:
    right, wrong = [[1.0, 0.0]], [[0.0, 1.0]]
    with ScoreStore.create(tmp_path / "s", 3, [Forgetting(never_learned="zero")]) as store:
        for epoch, logits in enumerate([right, wrong, right]):
            store.update([1], epoch=epoch, logits=logits, labels=[0])
        store.commit()
    with ScoreStore.open(tmp_path / "s") as store:
        store.begin_run("second")
        store.update([1], epoch=0, logits=wrong, labels=[0])  # no transition: the run before ended right, not this one
        assert store["forgetting"][1] == 1
        store.commit()
    assert ScoreStore.open(tmp_path / "s", mode="r")["forgetting"][1] == 1
