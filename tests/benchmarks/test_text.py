"""The evidence on text: what is planted is what it says, packing keeps documents apart, and the hook's loss is the plain one."""

from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll
from adaptive_sampler.torch import TokenLossHook
from benchmarks.evidence import corpus, lm
from benchmarks.evidence.planted import (
    BYTES,
    COPIED,
    CORRUPTED,
    KINDS,
    ORDER,
    RANKS,
    WORDS,
    first_of_each,
    lies_below,
    planted,
    told,
)
from benchmarks.evidence.text import recorded_loss

CLEAN = [f"document {number} of two hundred".encode() for number in range(200)]
TEXTS = [b"short", b"a text of several words", b"x" * corpus.LONGEST, b"another one"]


@pytest.fixture(scope="module")
def given() -> tuple[list[bytes], np.ndarray]:
    return planted(CLEAN, seed=3)


def test_the_text_is_the_same_each_time_and_nothing_of_the_test_is_trained_on() -> None:
    one, other = corpus.load(quick=True), corpus.load(quick=True)
    assert one == other
    assert not set(one.train) & set(one.test)
    assert len(set(one.train)) == len(one.train)


def test_every_seed_holds_out_other_documents_and_trains_on_the_rest() -> None:
    texts = corpus.Texts(CLEAN, [], "")
    rest, held = texts.held_out(20, seed=0)
    assert sorted(rest + held) == sorted(CLEAN)
    assert held != texts.held_out(20, seed=1)[1]


def test_one_in_twenty_documents_is_planted_of_each_kind(given: tuple[list[bytes], np.ndarray]) -> None:
    assert np.bincount(given[1]).tolist() == [160, 10, 10, 10, 10]


@pytest.mark.parametrize("kind", CORRUPTED, ids=[KINDS[kind] for kind in CORRUPTED])
def test_a_corrupted_document_differs_and_is_as_long(kind: int, given: tuple[list[bytes], np.ndarray]) -> None:
    rows = np.flatnonzero(given[1] == kind)
    assert all(given[0][row] != CLEAN[row] and len(given[0][row]) == len(CLEAN[row]) for row in rows)


def test_another_order_keeps_the_bytes_and_another_order_of_words_the_words(
    given: tuple[list[bytes], np.ndarray],
) -> None:
    documents, kinds = given
    assert all(sorted(documents[row]) == sorted(CLEAN[row]) for row in np.flatnonzero(kinds == ORDER))
    words = [(documents[row].split(), CLEAN[row].split()) for row in np.flatnonzero(kinds == WORDS)]
    assert all(sorted(one) == sorted(other) for one, other in words)


def test_ten_copies_are_of_one_text_and_without_what_is_planted_one_is_left(
    given: tuple[list[bytes], np.ndarray],
) -> None:
    documents, kinds = given
    assert len({documents[row] for row in np.flatnonzero(kinds == COPIED)}) == 1
    left = first_of_each(documents, kinds)
    assert np.bincount(kinds[left], minlength=5).tolist() == [160, 0, 0, 0, 1]


def test_a_score_that_knows_the_kinds_finds_all_that_is_planted(given: tuple[list[bytes], np.ndarray]) -> None:
    kinds = given[1]
    known = np.isin(kinds, CORRUPTED) * 1.0 - (kinds == COPIED)
    found = told(known, kinds, negated=False)
    assert found == told(-known, kinds, negated=True)
    assert (found["corrupted"], found["copies"]) == (pytest.approx(100), pytest.approx(100))
    assert set(found["at its end"].values()) == {100.0}
    assert lies_below(known, kinds)["10 copies"][:2] == [0.0, 100.0]
    assert lies_below(known, kinds)[KINDS[BYTES]][RANKS.index(85) :][0] == 0.0


def test_packing_keeps_every_document_whole_and_in_one_row() -> None:
    found = {}
    for pack in lm.packs(range(len(TEXTS)), TEXTS):
        for tokens, rows in zip(pack.tokens, pack.rows, strict=True):
            for row in set(rows.tolist()) - {-1}:
                assert row not in found
                found[row] = bytes(tokens[rows == row].tolist())
    assert found == {row: b"\0" + text + b"\0" for row, text in enumerate(TEXTS)}


def test_a_packed_document_has_the_losses_that_it_has_alone() -> None:
    model = lm.LanguageModel(0)
    together = [loss for pack in lm.packs([0, 1, 3], TEXTS) for loss in lm.losses(model(pack), pack).tolist()]
    alone = [
        loss for row in (0, 1, 3) for pack in lm.packs([row], TEXTS) for loss in lm.losses(model(pack), pack).tolist()
    ]
    assert together == pytest.approx(alone, abs=1e-5)


def test_the_hook_returns_the_plain_loss_and_records_the_mean_over_each_documents_tokens() -> None:
    model, store = lm.LanguageModel(0), ScoreStore.create(None, len(TEXTS), [Loss()])
    hook = TokenLossHook(store, ignore_index=lm.IGNORED)
    for pack in lm.packs(range(len(TEXTS)), TEXTS):
        logits = model(pack)
        torch.testing.assert_close(recorded_loss(hook, logits, pack), lm.mean_loss(logits, pack))
    means = [lm.losses(model(pack), pack).mean().item() for row in range(4) for pack in lm.packs([row], TEXTS)]
    assert store["loss"].tolist() == pytest.approx(means, rel=1e-5)


def test_a_training_ends_with_its_tokens_and_learns() -> None:
    seen = []

    def counted(logits: torch.Tensor, pack: lm.Pack) -> torch.Tensor:
        seen.append(int(pack.counted.sum()))
        return lm.mean_loss(logits, pack)

    texts = [TEXTS[1]] * 40
    sampler = AdaptiveSampler(ScoreStore.create(None, len(texts), [Loss()]), KeepAll())
    trained = partial(lm.train, texts, sampler, seed=0)
    model = trained(tokens=6000, loss=counted)
    assert 6000 <= sum(seen) < 6000 + max(seen)
    assert lm.bits(model, texts[:1]) < lm.bits(lm.LanguageModel(0), texts[:1]) - 1
