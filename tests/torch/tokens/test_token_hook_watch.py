"""A token loss hook in a loop: the rows of a watched loader, what counts once, and what is left out."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler as BaseSampler
from adaptive_sampler.errors import InvalidValue, NotFinite
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import KeepAll, Upsample
from adaptive_sampler.torch import AdaptiveSampler, DistributedAdaptiveSampler, IndexedDataset, TokenLossHook
from tests.torch.tokens.samples import WORDS, hooked, make_store, outputs

LENGTHS = [3, 2, 4, 5, 2, 6]
MODEL = torch.nn.Embedding(WORDS, WORDS)


def texts():
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(WORDS, (length,), generator=generator) for length in LENGTHS]


def flattened(batch):
    """One pack of a batch's documents, as padding-free collators make it."""
    rows, some = zip(*batch, strict=True)
    ids = torch.cat(some)[None]
    positions = torch.cat([torch.arange(len(one)) for one in some])[None]
    return torch.tensor(rows), {"input_ids": ids, "position_ids": positions}


def loader(store, **arguments):
    dataset = IndexedDataset(texts(), store)
    return DataLoader(dataset, batch_size=4, collate_fn=flattened, **arguments)


def document_losses():
    """The mean loss of each document alone."""
    losses = []
    for text in texts():
        losses.append(torch.nn.functional.cross_entropy(MODEL(text[:-1]), text[1:]).item())
    return losses


def epoch(hook, batches):
    for batch in hook.watch(batches):
        hook(MODEL(batch["input_ids"]), batch["input_ids"], position_ids=batch["position_ids"])


def test_a_watched_loader_of_packs_records_every_document():
    hook = TokenLossHook(make_store(Loss(), n=6))
    epoch(hook, loader(hook.store))
    np.testing.assert_allclose(hook.store["loss"], document_losses(), rtol=1e-5)
    assert hook.store["tokens"].tolist() == [length - 1 for length in LENGTHS]
    assert hook.delivered == 6


def test_packs_of_a_sampler_are_recorded_under_its_epochs():
    hook = TokenLossHook(make_store(Loss(), n=6))
    sampler = AdaptiveSampler(hook.store, KeepAll())
    for _ in range(2):
        epoch(hook, loader(hook.store, sampler=sampler))
    assert hook.store.last_seen("loss").tolist() == [1] * 6
    assert hook.store.count("loss").tolist() == [2] * 6
    np.testing.assert_allclose(hook.store["loss"], document_losses(), rtol=1e-5)


def test_documents_that_the_plan_visits_several_times_are_observed_as_often():
    store = make_store(Loss(), n=6)
    store.fold("loss", range(6), [0, 1, 0, 0, 0, 1])
    hook = TokenLossHook(store)
    sampler = AdaptiveSampler(store, Upsample(3, "loss"))
    epoch(hook, loader(store, sampler=sampler))
    assert store.count("loss").tolist() == [2, 4, 2, 2, 2, 4]
    assert store["tokens"].tolist() == [length - 1 for length in LENGTHS]


@pytest.mark.parametrize("dealt", [False, True], ids=["sampler", "distributed sampler"])
def test_visits_are_told_from_pieces_by_the_hooks_own_sampler_too(dealt):
    store = make_store(Loss(), n=6)
    store.fold("loss", range(6), [0, 1, 0, 0, 0, 1])
    sampler = AdaptiveSampler(store, Upsample(3, "loss"))
    next(iter(sampler))  # the epoch has begun: its plan is fixed
    hook = TokenLossHook(store)
    hook.sampler = DistributedAdaptiveSampler(sampler, num_replicas=2, rank=0) if dealt else sampler
    hook(*outputs(3, 3), rows=[1, 1], cu_seqlens=[0, 3, 6])
    assert store.count("loss")[1] == 3
    assert store["tokens"][1] == 2


def test_joining_pieces_is_refused_where_the_plan_repeats_documents():
    store = make_store(Loss(), n=6)
    store.fold("loss", range(6), [0, 1, 0, 0, 0, 1])
    hook = TokenLossHook(store, joins=True)
    sampler = AdaptiveSampler(store, Upsample(3, "loss"))
    with pytest.raises(InvalidValue, match=r"joins=True, and the plan visits rows several times.*hook.joins = False"):
        epoch(hook, loader(store, sampler=sampler))
    hook.joins = False
    epoch(hook, loader(store, sampler=sampler))
    assert store["tokens"].tolist() == [length - 1 for length in LENGTHS]


def test_micro_batches_of_a_watched_batch_pass_their_rows():
    hook = hooked(Loss())
    logits, labels = outputs(12)
    logits, labels = logits.view(4, 3, WORDS), labels.view(4, 3)
    for _ in hook.watch([(torch.tensor([3, 1, 4, 5]), None)]):
        for part in (slice(0, 2), slice(2, 4)):
            hook(logits[part], labels[part], rows=torch.tensor([3, 1, 4, 5])[part])
    assert np.flatnonzero(hook.store.count("loss")).tolist() == [1, 3, 4, 5]


def test_a_row_that_is_not_of_the_watched_batch_is_refused():
    hook = hooked(Loss())
    for _ in hook.watch([(torch.tensor([3]), None)]):
        with pytest.raises(InvalidValue, match="row 4 is not of the batch"):
            hook(*outputs(3), rows=[4])


def test_each_document_of_a_batch_counts_once():
    hook = hooked(Loss())
    logits, labels = outputs(6)
    logits, labels = logits.view(2, 3, WORDS), labels.view(2, 3)
    for _ in hook.watch([(torch.tensor([3, 1]), None)]):
        hook(logits[:1], labels[:1], rows=[3])
        hook(logits, labels, rows=[3, 1])
    assert hook.store.count("loss")[[3, 1]].tolist() == [1, 1]


def test_without_a_watched_loader_rows_are_asked_for():
    with pytest.raises(InvalidValue, match="watch was forgotten"):
        hooked()(*outputs(3))


def test_a_validation_needs_no_rows_and_records_nothing():
    hook = hooked(Loss())
    with torch.no_grad():
        hook(*outputs(3))
        hook(*outputs(3), rows=[0])
    assert hook.store.observed("loss") == 0


def test_a_call_again_records_nothing():
    hook = hooked(Loss())
    with hook.again():
        hook(*outputs(3), rows=[0])
        hook(*outputs(3))
    assert hook.store.observed("loss") == 0


def test_a_claimed_batch_is_recorded_by_what_was_computed_elsewhere():
    hook = hooked(Loss())
    for _ in hook.watch([(torch.tensor([3, 1]), None)]):
        hook.record_outputs(hook.claim(2), *outputs(5), cu_seqlens=[0, 2, 5])
    assert hook.store["tokens"][[3, 1]].tolist() == [1, 2]


def test_what_is_recorded_without_a_loader_is_no_count_of_deliveries():
    hook = hooked(Loss(), joins=True)
    hook(*outputs(3), rows=[0], cu_seqlens=[0, 3])
    with pytest.raises(InvalidValue, match=r"hook\.delivered counts what hook.watch"):
        hook.delivered  # noqa: B018


# -- what is left out ------------------------------------------------------------------------------------------------------


def test_a_document_without_a_counted_token_is_left_out_counted_and_said_once():
    hook, (logits, labels) = hooked(Loss()), outputs(6)
    logits, labels = logits.view(2, 3, WORDS), labels.view(2, 3)
    labels[0] = -100
    with pytest.warns(RuntimeWarning, match="1 of 2 documents have no label that counts.*`skipped_documents`"):
        hook(logits, labels, rows=[0, 1])
    hook(logits, labels, rows=[0, 1])
    assert hook.skipped_documents == 2
    assert hook.store.count("loss")[:2].tolist() == [0, 2]
    assert hook.skipped == 0


def test_where_no_label_counts_the_value_is_hugging_faces_nan_and_nothing_is_recorded():
    hook, (logits, labels) = hooked(), outputs(4)
    with pytest.warns(RuntimeWarning, match="1 of 1 documents"):
        value = hook(logits, torch.full_like(labels, -100), rows=[0])
    assert value.isnan()
    assert [hook.store.observed(name) for name in hook.store.names] == [0] * 8


def test_one_token_has_nothing_to_predict():
    hook, (logits, labels) = hooked(Loss()), outputs(1)
    with pytest.warns(RuntimeWarning, match="1 of 1 documents"):
        assert hook(logits, labels, rows=[0]).isnan()


def test_one_token_is_predicted_without_a_shift():
    hook = hooked(Loss(), shift=False)
    hook(*outputs(1), rows=[0])
    assert hook.store["tokens"][0] == 1


def test_a_document_with_a_loss_that_is_not_finite_is_left_out_alone():
    hook, (logits, labels) = hooked(Loss()), outputs(6)
    logits, labels = logits.detach().view(2, 3, WORDS), labels.view(2, 3)
    logits[0, 1, 2] = float("nan")
    with pytest.warns(RuntimeWarning, match="1 of 2 observations have a value that is not finite"):
        hook(logits.requires_grad_(), labels, rows=[0, 1])
    assert (hook.skipped, hook.skipped_documents) == (1, 0)
    assert np.isnan(hook.store["tokens"][0])
    assert hook.store["tokens"][1] == 2


def test_or_stops_the_training():
    hook, (logits, labels) = hooked(Loss(), nonfinite="raise"), outputs(3)
    with pytest.raises(NotFinite):
        hook(logits * float("inf"), labels, rows=[0])


# -- a module like others --------------------------------------------------------------------------------------------------


def test_it_adds_nothing_to_a_models_state():
    assert hooked().state_dict() == {}
    assert list(hooked().parameters()) == []


def test_a_copy_shares_the_store_and_has_the_same_arguments():
    hook = hooked(Loss(), shift=False, ignore_index=-1, joins=True, nonfinite="raise", max_skipped=0.5)
    hook.sampler = BaseSampler(hook.store, KeepAll())
    for twin in (copy.copy(hook), copy.deepcopy(hook)):
        assert (twin.store, twin.sampler) == (hook.store, hook.sampler)
        assert (twin.shift, twin.ignore_index, twin.joins) == (False, -1, True)
        recorder = twin._adaptive_sampler.recorder
        assert (recorder.nonfinite, recorder.tally.max_skipped) == ("raise", 0.5)


def test_what_was_sent_and_not_yet_folded_is_not_copied():
    hook = hooked(Loss(), joins=True)
    hook(*outputs(3), rows=[0], cu_seqlens=[0, 3])
    twin = copy.deepcopy(hook)
    assert hook.store.count("loss")[0] == 1
    assert twin._adaptive_sampler.recorder.waiting.take() is None


def test_in_another_process_it_computes_and_says_that_its_store_stayed():
    hook = pickle.loads(pickle.dumps(hooked(shift=False)))
    logits, labels = outputs(3)
    with torch.no_grad():
        assert torch.equal(hook(logits, labels), hooked(shift=False)(logits, labels))
    anew = r"TokenLossHook\(store, shift=hook.shift, ignore_index=hook.ignore_index, joins=hook.joins\)"
    with pytest.raises(InvalidValue, match=rf"its store stayed where it was made .* make the hook anew: {anew}"):
        hook(logits, labels, rows=[0])
    store = make_store()
    other = TokenLossHook(store, shift=hook.shift, ignore_index=hook.ignore_index, joins=hook.joins)
    other(logits, labels, rows=[0])
    assert store["tokens"][0] == 3


def test_inside_a_transform_one_sentence_says_what_to_do():
    hook, (logits, labels) = hooked(), outputs(3)
    with pytest.raises(InvalidValue, match=r"Call the loss itself inside the transform, and hook.record_outputs"):
        torch.func.grad(lambda x: hook(x, labels, rows=[0]))(logits.detach())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch's own look
def test_a_compiled_model_calls_it_outside_of_the_graph():
    hook, (logits, labels) = hooked(Loss()), outputs(3)
    value = torch.compile(lambda x: hook(2 * x, labels, rows=[0]), backend="eager")(logits)
    assert torch.equal(value, hooked()(2 * logits, labels, rows=[0]))
    assert hook.store.count("loss")[0] == 1


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch's own look
def test_a_compiled_model_calls_its_linear_loss_outside_of_the_graph_too():
    hook, (_, labels) = hooked(Loss()), outputs(3)
    hidden, weight = torch.randn(1, 3, 5), torch.randn(WORDS, 5)
    value = torch.compile(lambda x: hook.linear(2 * x, weight, labels, rows=[0]), backend="eager")(hidden)
    assert torch.equal(value, hooked(Loss()).linear(2 * hidden, weight, labels, rows=[0]))
    assert hook.store.count("loss")[0] == 1


def test_it_is_printed_with_its_arguments():
    assert repr(hooked(Loss(), joins=True)).endswith("shift=True, ignore_index=-100, joins=True)")
