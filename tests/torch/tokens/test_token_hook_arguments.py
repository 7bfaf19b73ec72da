"""What does not fit is refused in a sentence that names the value, the rule and the remedy."""

import numpy as np
import pytest
import torch

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue, StoreError
from adaptive_sampler.scoring import EL2N, Forgetting, GraNd, Loss, Score, Tokens, Transitions
from adaptive_sampler.torch import TokenLossHook
from tests.torch.tokens.samples import WORDS, hooked, make_store, of_two_documents, outputs

LOGITS, LABELS = outputs(3, 3)


def refuses(words, *given, hook=None, **named):
    hook = hook or hooked()
    with pytest.raises(InvalidValue, match=words):
        hook(*(given or (LOGITS, LABELS)), **named)
    assert hook.store.observed("loss") == 0


# -- logits and labels ---------------------------------------------------------------------------------------------------


def test_hidden_logits_name_the_setting_and_the_ways_around_it():
    refuses(r"logits=None: .*use_liger_kernel=True.*hook\.linear\(.*hook\.record_tokens\(", None, LABELS, rows=[0])


def test_logits_of_one_sequence_are_asked_for_as_a_batch():
    refuses(r"logits are Tensor of shape \(6, 11\): .*logits\[None\]", LOGITS[0], LABELS, rows=[0])
    hooked()(LOGITS[0][None], LABELS, rows=[0])


def test_labels_of_one_sequence_are_asked_for_as_a_batch():
    refuses(r"labels have shape \(6,\).*labels\[None\]", LOGITS, LABELS[0], rows=[0])
    hooked()(LOGITS, LABELS[0][None], rows=[0])


@pytest.mark.parametrize("labels", [torch.rand(1, 6), torch.ones(1, 6, dtype=torch.bool), torch.rand(1, 6, WORDS)])
def test_labels_that_are_no_classes_are_refused(labels):
    refuses(r"labels have dtype .*number in the vocabulary.*hook\.record_tokens", LOGITS, labels, rows=[0])


def test_logits_that_were_shifted_already_name_the_switch():
    refuses(r"The logits are one shorter: they were shifted already, .*shift=False", LOGITS[:, :-1], LABELS, rows=[0])
    refuses(r"The labels are one shorter: they were shifted already, .*shift=False", LOGITS, LABELS[:, 1:], rows=[0])


def test_the_switch_makes_of_shifted_ones_the_same_loss():
    ours, shifted = hooked(), hooked(shift=False)
    value = shifted(LOGITS[:, :-1], LABELS[:, 1:], rows=[0])
    torch.testing.assert_close(value, ours(LOGITS, LABELS, rows=[0]))
    for name in ours.store.names:
        np.testing.assert_allclose(shifted.store[name], ours.store[name], rtol=1e-6)


def test_without_the_switch_one_shorter_is_told_to_be_cut_too():
    refuses(r"stand side by side|side by side", LOGITS[:, :-1], LABELS, rows=[0], hook=hooked(shift=False))


def test_other_shapes_that_disagree_are_refused():
    refuses(r"logits \(1, 6, 11\) and labels \(1, 3\) disagree", LOGITS, LABELS[:, :3], rows=[0])


@pytest.mark.parametrize("label", [WORDS, -1])
def test_a_label_outside_the_vocabulary_names_a_parallel_loss(label):
    labels = LABELS.clone()
    labels[0, 2] = label
    refuses(rf"label {label} is outside the vocabulary 0 … 10 .*vocabulary-parallel", LOGITS, labels, rows=[0])


def test_an_empty_batch_is_refused():
    refuses(r"labels have shape \(0, 6\)", LOGITS[:0], LABELS[:0], rows=[])


def test_another_ignored_label_may_be_set():
    hook = hooked(Loss(), ignore_index=-1)
    labels = LABELS.clone()
    labels[0, :3] = -1
    hook(LOGITS, labels, rows=[0])
    assert hook.store["tokens"][0] == 3


# -- documents -----------------------------------------------------------------------------------------------------------


def test_rows_without_bounds_are_one_for_each_row_of_the_batch():
    refuses(
        r"2 rows for 1 rows of the batch: without bounds .*position_ids=, seq_idx=, cu_seqlens= or a row map",
        rows=[0, 1],
    )


@of_two_documents
@pytest.mark.parametrize("rows", [[4], [4, 5, 6]])
def test_bounds_and_rows_that_do_not_fit_say_how_many_there_are_of_each(bounds, rows):
    refuses(rf"{next(iter(bounds))} make 2 documents and {len(rows)} rows came", rows=rows, **bounds)


@pytest.mark.parametrize("name", ["position_ids", "seq_idx"])
def test_bounds_of_another_shape_are_refused(name):
    refuses(rf"{name} have shape \(6,\), and labels \(1, 6\)", rows=[0], **{name: torch.arange(6)})


@pytest.mark.parametrize("name", ["position_ids", "seq_idx", "cu_seqlens"])
def test_bounds_that_are_no_integers_are_refused(name):
    refuses(rf"{name} have dtype torch.float32: integers", rows=[0], **{name: torch.zeros(1, 6)})


@pytest.mark.parametrize("lengths", [[1, 3, 6], [0, 4, 3, 6], [0, 3, 7], [0, 3, 6, 5]])
def test_lengths_that_do_not_ascend_from_zero_within_the_batch_are_refused(lengths):
    refuses(
        r"cu_seqlens go .*they ascend from 0 to the 6 positions", rows=list(range(len(lengths) - 1)), cu_seqlens=lengths
    )


@pytest.mark.parametrize("lengths", [[0], [[0, 6]]])
def test_lengths_of_another_shape_are_refused(lengths):
    refuses(r"cu_seqlens have shape .*\(documents \+ 1,\)", rows=[0], cu_seqlens=lengths)


def test_lengths_that_leave_counted_labels_out_are_refused():
    refuses(r"a label that counts is of no document, as cu_seqlens tell", rows=[0], cu_seqlens=[0, 3])


def test_lengths_may_leave_ignored_labels_out():
    hook, labels = hooked(Loss()), LABELS.clone()
    labels[0, 3:] = -100
    hook(LOGITS, labels, rows=[0], cu_seqlens=[0, 3])
    assert hook.store["tokens"][0] == 2


def test_empty_documents_behind_the_rows_are_none():
    hook = hooked(Loss())
    hook(LOGITS, LABELS, rows=[0, 1], cu_seqlens=[0, 3, 6, 6, 6])
    assert hook.store["tokens"][:2].tolist() == [2, 2]


def test_indices_that_decrease_are_refused():
    refuses(r"seq_idx decrease", rows=[0, 1], seq_idx=torch.tensor([[1, 1, 1, 0, 0, 0]]))


def test_bounds_that_disagree_are_refused():
    bounds = {"cu_seqlens": [0, 2, 6], "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])}
    refuses(r"position_ids and cu_seqlens name different documents", rows=[0, 1], **bounds)


def test_bounds_that_agree_are_taken_together():
    hook = hooked(Loss())
    hook(LOGITS, LABELS, rows=[0, 1], cu_seqlens=[0, 3, 6], position_ids=torch.tensor([[0, 1, 2, 0, 1, 2]]))
    assert hook.store["tokens"][:2].tolist() == [2, 2]


def test_a_row_map_of_another_shape_is_refused():
    refuses(r"the row map has shape \(1, 5\), and labels \(1, 6\)", rows=torch.zeros(1, 5, dtype=torch.int64))


def test_a_row_map_that_is_no_integers_is_refused():
    refuses(r"the row map has dtype torch.float32", rows=torch.zeros(1, 6))


def test_a_row_map_that_leaves_a_counted_label_out_is_refused():
    refuses(r"a label that counts is of no document, as the row map tell", rows=torch.tensor([[0, 0, 0, 0, 0, -1]]))


def test_a_row_map_of_another_pack_than_its_bounds_is_refused():
    refuses(
        r"the row map changes its row within a document of cu_seqlens",
        rows=torch.tensor([[0, 0, 1, 1, 1, 1]]),
        cu_seqlens=[0, 3, 6],
    )


def test_padding_between_rows_of_the_batch_that_may_be_a_document_is_in_doubt():
    labels = LABELS.view(2, 3).clone()
    labels[:, 1:] = -100
    ids = torch.tensor([[0, 0, 0], [0, 0, 0]])
    refuses(
        r"make 6 documents, 4 of which have no label that counts, as padding, and 3 rows",
        LOGITS.view(2, 3, -1),
        labels,
        rows=[0, 1, 2],
        position_ids=ids,
    )


def test_a_row_outside_the_store_is_refused():
    with pytest.raises(IndexError, match="row 99"):
        hooked()(LOGITS, LABELS, rows=[99])


# -- scores and the store ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "score", [Forgetting(), Score("turns", lambda logits, labels: labels, Transitions())], ids=["built-in", "custom"]
)
def test_a_score_that_counts_turns_from_right_to_wrong_is_refused(score):
    with pytest.raises(InvalidValue, match=rf"score '{score.name}' counts how often .*Error\(\) keeps the share"):
        hooked(score)


def test_such_a_score_that_is_added_later_is_refused_at_the_next_call():
    hook = hooked(Loss())
    hook.store.add(Forgetting())
    refuses("score 'forgetting' counts how often", rows=[0], hook=hook)


def test_scores_that_need_gradients_stay_unfed():
    hook = hooked(Loss(), GraNd())
    hook(LOGITS, LABELS, rows=[0])
    assert (hook.store.observed("loss"), hook.store.observed("grand")) == (1, 0)


def test_a_store_without_a_score_of_tokens_keeps_their_number():
    hook = hooked(GraNd())
    hook(LOGITS, LABELS, rows=[0])
    assert hook.store["tokens"][0] == 5


@pytest.mark.parametrize(
    "score",
    [
        Score("top", lambda logits: logits.amax(1), Loss().fold),
        Score("square", lambda loss: loss**2, Loss().fold),
        Score("both", lambda loss, labels: loss * labels, Loss().fold),
    ],
    ids=lambda score: score.name,
)
def test_a_score_of_your_own_is_measured_token_by_token(score):
    hook = hooked(score)
    hook(LOGITS, LABELS, rows=[0])
    logits, labels = LOGITS.detach()[0, :-1], LABELS[0, 1:]
    given = {
        "logits": logits,
        "labels": labels,
        "loss": torch.nn.functional.cross_entropy(logits, labels, reduction="none"),
    }
    values = score.measure(**{name: given[name] for name in score.inputs[0]})
    assert hook.store[score.name][0] == pytest.approx(values.mean().item(), rel=1e-5)


def test_a_score_that_is_not_one_value_a_token_is_refused():
    hook = hooked(Score("wide", lambda logits: logits, Loss().fold), Loss())
    refuses(r"score 'wide' measures values of shape \(5, 11\) from 5 tokens: one a token", rows=[0], hook=hook)


def test_the_count_of_tokens_keeps_the_name_that_it_has():
    hook = TokenLossHook(make_store(Loss(), Tokens(name="length")))
    hook(LOGITS, LABELS, rows=[0])
    assert hook.store.names == ("loss", "length")
    assert hook.store["length"][0] == 5


def test_a_second_hook_finds_the_count_of_tokens():
    store = make_store(Loss())
    assert [TokenLossHook(store).store.names for _ in range(2)] == [("loss", "tokens")] * 2


def test_a_store_that_is_open_to_read_cannot_be_given_the_count(tmp_path):
    with ScoreStore.create(tmp_path / "store", 3, [Loss()]) as store:
        store.commit()
    with pytest.raises(StoreError, match="is open to read"):
        TokenLossHook(ScoreStore.open(tmp_path / "store", mode="r"))
    with ScoreStore.open(tmp_path / "store") as store:
        TokenLossHook(store)


def test_on_ranks_the_count_is_added_to_the_journal():
    store = make_store(Loss())
    store.session.keep_journal()
    hook = TokenLossHook(store)
    hook(LOGITS, LABELS, rows=[0])
    hook.flush()
    (entry,) = store.session.journal.entries
    assert entry.values[1].tolist() == [5]


def test_on_ranks_the_count_cannot_be_added_while_updates_wait():
    store = make_store(Loss())
    store.session.keep_journal()
    store.update([0], loss=[1.0])
    with pytest.raises(StoreError, match="sync"):
        TokenLossHook(store)


def test_an_unknown_way_with_values_that_are_not_finite_is_refused():
    with pytest.raises(InvalidValue, match="nonfinite='ignore': one of 'skip', 'raise'"):
        hooked(nonfinite="ignore")


def test_el2n_may_be_squared_token_by_token():
    hook, squared = hooked(EL2N()), hooked(EL2N(squared=True))
    for one in (hook, squared):
        one(*outputs(2), rows=[0])
    assert squared.store["el2n"][0] == pytest.approx(hook.store["el2n"][0] ** 2)
