"""A document's score in a pack is the one that it has unpacked, however its bounds are told, and also if it is cut."""

import numpy as np
import pytest
import torch
from hypothesis import given as examples
from hypothesis import strategies as st

from adaptive_sampler.scoring import EL2N, Entropy, Error, Loss, Margin
from tests.references import scores as references
from tests.references.tokens import document_means
from tests.torch.tokens.packs import WAYS, packs
from tests.torch.tokens.samples import WORDS, hooked, outputs

MEASURES = {
    "loss": references.cross_entropy,
    "el2n": references.el2n,
    "entropy": references.entropy,
    "error": references.incorrect,
    "margin": references.margin,
}
KEPT = [Loss(), EL2N(), Entropy(), Error(), Margin()]

some_have_no_token = pytest.mark.filterwarnings(
    "ignore:[0-9]+ of [0-9]+ documents have no label that counts:RuntimeWarning"
)
each_way = pytest.mark.parametrize("way", WAYS)


def expected(name, *given, shift=True):
    """Row -> (tokens, mean) over several packs, the twin's."""
    found = {}
    for pack in given:
        lists = pack.logits.tolist(), pack.labels.tolist(), pack.row_map.tolist()
        for row, (tokens, mean) in document_means(*lists, MEASURES[name], shift=shift).items():
            before, old = found.get(row, (0, 0.0))
            found[row] = before + tokens, (before * old + tokens * mean) / (before + tokens)
    return found


def same(store, *given, shift=True):
    for name in MEASURES:
        found = expected(name, *given, shift=shift)
        assert np.flatnonzero(store.count(name)).tolist() == sorted(found)
        assert store.count(name).max(initial=0) <= 1
        for row, (tokens, mean) in found.items():
            assert store[name][row] == pytest.approx(mean, rel=1e-5, abs=1e-6)
            assert store["tokens"][row] == tokens


@some_have_no_token
@each_way
@examples(pack=packs(padded=False, cut=False))
def test_documents_of_a_pack_have_the_twins_scores(way, pack):
    hook = hooked(*KEPT)
    hook(pack.logits, pack.labels, **pack.given(way))
    same(hook.store, pack)


@some_have_no_token
@pytest.mark.parametrize("way", ["position_ids", "seq_idx", "row map"])
@examples(pack=packs(padded=True, cut=False))
def test_padding_at_the_end_of_a_row_of_the_batch_is_of_no_document(way, pack):
    hook = hooked(*KEPT, shift=False)
    hook(pack.logits, pack.labels, **pack.given(way))
    same(hook.store, pack, shift=False)


@some_have_no_token
@each_way
@examples(pack=packs(padded=False, cut=True))
def test_pieces_of_a_document_in_one_call_make_one_observation(way, pack):
    hook = hooked(*KEPT)
    hook(pack.logits, pack.labels, **pack.given(way))
    same(hook.store, pack)


@some_have_no_token
@each_way
@examples(given=st.lists(packs(padded=False, cut=True), min_size=2, max_size=3))
def test_joined_pieces_of_several_calls_make_one_observation(way, given):
    hook = hooked(*KEPT, joins=True)
    for pack in given:
        hook(pack.logits, pack.labels, **pack.given(way))
    same(hook.store, *given)


@each_way
def test_a_pack_gives_each_document_the_score_of_a_batch_of_documents(way):
    lengths = [4, 1, 6, 3]
    logits, labels = outputs(*lengths)
    rows = torch.tensor([7, 2, 9, 0])
    unpacked = hooked()
    for row, one, label in zip(rows, logits.split(lengths, 1), labels.split(lengths, 1), strict=True):
        if one.shape[1] > 1:
            unpacked(one, label, rows=row[None])
    ids = torch.cat([torch.arange(length) for length in lengths])[None]
    bounds = {
        "position_ids": {"position_ids": ids},
        "seq_idx": {"seq_idx": torch.arange(4).repeat_interleave(torch.tensor(lengths))[None].int()},
        "cu_seqlens": {"cu_seqlens": torch.tensor([0, 4, 5, 11, 14], dtype=torch.int32)},
        "row map": {"rows": rows.repeat_interleave(torch.tensor(lengths))[None]},
    }
    packed = hooked()
    with pytest.warns(RuntimeWarning, match="1 of 4 documents have no label that counts"):
        packed(logits, labels, **({"rows": rows} | bounds[way]))
    assert packed.skipped_documents == 1
    for name in packed.store.names:
        np.testing.assert_allclose(packed.store[name], unpacked.store[name], rtol=1e-5, atol=1e-6)


def test_no_document_predicts_the_first_token_of_the_next():
    logits, labels = outputs(3, 3)
    hook = hooked()
    value = hook(logits, labels, rows=[0, 1], cu_seqlens=[0, 3, 6])
    losses = torch.nn.functional.cross_entropy(logits[0, [0, 1, 3, 4]], labels[0, [1, 2, 4, 5]])
    torch.testing.assert_close(value, losses)
    assert hook.store["tokens"][:2].tolist() == [2, 2]


def test_bounds_that_ignore_first_tokens_themselves_give_hugging_faces_value():
    logits, labels = outputs(3, 3)
    labels[0, [0, 3]] = -100
    hook = hooked()
    assert torch.equal(hook(logits, labels, rows=[0, 1], cu_seqlens=[0, 3, 6]), hooked()(logits, labels, rows=[0]))


def test_positions_may_begin_at_another_number_than_zero():
    logits, labels = outputs(3, 3)
    hook = hooked()
    hook(logits, labels, rows=[0, 1], position_ids=torch.tensor([[2, 3, 4, 2, 3, 4]]))
    assert hook.store["tokens"][:2].tolist() == [2, 2]


def test_a_row_of_the_batch_that_begins_within_a_document_is_a_piece_of_it():
    logits, labels = outputs(8)
    hook = hooked(Loss())
    ids = torch.tensor([[0, 1, 2, 3], [4, 5, 0, 1]])
    hook(logits.view(2, 4, WORDS), labels.view(2, 4), rows=[5, 5, 6], position_ids=ids)
    assert hook.store["tokens"][[5, 6]].tolist() == [4, 1]
    assert hook.store.count("loss")[[5, 6]].tolist() == [1, 1]


def test_joined_pieces_are_folded_when_the_epoch_is_over():
    hook = hooked(Loss(), joins=True)
    folded = hook.store.session.table["loss"].book  # read without draining the hook
    for seed in range(2):
        hook(*outputs(3, 2, seed=seed), rows=[4, 5 + seed], cu_seqlens=[0, 3, 5])
    assert folded.observed == 0
    hook.epoch = 1
    hook(*outputs(5), rows=[1], cu_seqlens=[0, 5])
    assert folded.observed == 3
    assert hook.store.last_seen("loss")[[4, 5, 6, 1]].tolist() == [0, 0, 0, 1]
    assert hook.store["tokens"][4] == 4


def test_joined_pieces_may_be_rows_of_the_batch_of_their_own():
    logits, labels = outputs(18)
    logits, labels = logits.view(3, 6, WORDS), labels.view(3, 6)
    labels[1, 3:] = -100
    chunks, whole = hooked(*KEPT, joins=True), hooked(*KEPT)
    chunks(logits[:2], labels[:2], rows=[4, 4])
    chunks(logits[2:], labels[2:], rows=[4])
    whole(logits, labels, rows=torch.full((3, 6), 4))
    assert chunks.store.count("loss")[4] == 1
    for name in whole.store.names:
        np.testing.assert_allclose(chunks.store[name], whole.store[name], rtol=1e-6)


def test_rows_of_the_batch_that_are_not_joined_are_documents_of_their_own():
    hook, (logits, labels) = hooked(Loss()), outputs(12)
    hook(logits.view(2, 6, WORDS), labels.view(2, 6), rows=[4, 4])
    assert hook.store.count("loss")[4] == 2


def test_a_pack_in_which_no_label_counts_does_not_part_the_pieces_around_it():
    hook = hooked(Loss(), joins=True)
    for seed in range(3):
        logits, labels = outputs(3, seed=seed)
        hook(logits, torch.full_like(labels, -100) if seed == 1 else labels, rows=[4], cu_seqlens=[0, 3])
    assert hook.store.count("loss")[4] == 1
    assert hook.store["tokens"][4] == 4


def test_what_is_not_joined_is_folded_call_by_call():
    hook = hooked(Loss())
    for seed in range(2):
        hook(*outputs(3, seed=seed), rows=[4], cu_seqlens=[0, 3])
    assert hook.store.count("loss")[4] == 2
    assert hook.store["tokens"][4] == 2


def test_joined_pieces_that_are_read_in_between_are_two_observations():
    hook = hooked(Loss(), joins=True)
    for seed in range(2):
        hook(*outputs(3, seed=seed), rows=[4], cu_seqlens=[0, 3])
        hook.store.commit()
    assert hook.store.count("loss")[4] == 2


def test_many_pieces_wait_in_the_memory_of_their_documents(monkeypatch):
    monkeypatch.setattr("adaptive_sampler.torch.tokens.pieces._MANY", 8)
    hook = hooked(Loss(), joins=True)
    waiting = hook._adaptive_sampler.recorder.waiting
    waiting._most = 8
    for seed in range(40):
        hook(*outputs(2, 2, 2, seed=seed), rows=[1, 2, 3], cu_seqlens=[0, 2, 4, 6])
        assert waiting._held <= 11
    assert hook.store["tokens"][1:4].tolist() == [40, 40, 40]
    assert hook.store.count("loss")[1:4].tolist() == [1, 1, 1]
