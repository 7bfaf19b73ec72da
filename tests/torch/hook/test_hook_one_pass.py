"""The shortest way through a hook, cross entropy of classes on the host, records what every other way records."""

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.kernels import fold
from adaptive_sampler.scoring import EL2N, Confidence, Entropy, Forgetting, Loss, Margin

torch = pytest.importorskip("torch")
from adaptive_sampler.torch import LossHook  # noqa: E402

CLASSES = [3, 10, 100, 1000]
NAMES = ("el2n", "forgetting", "loss", "margin", "confidence", "entropy")


def scores():
    return [EL2N(), Forgetting(never_learned="zero"), Loss(), Margin(), Confidence(), Entropy()]


def outputs(classes):
    """(8, classes) logits, some of them −inf, and (8,) labels."""
    torch.manual_seed(classes)
    logits, labels = torch.randn(8, classes), torch.randint(1, classes, (8,))
    logits[::2, 0] = -torch.inf
    return logits, labels


def recorded(criterion, logits, labels):
    """What a hook records: name -> (8,), and how many rows it skipped."""
    with ScoreStore.create(None, 8, scores()) as store:
        hook = LossHook(criterion, store)
        hook(logits.requires_grad_(), labels, rows=torch.arange(8)).sum().backward()
        skipped = hook.skipped
        return {name: store[name].copy() for name in NAMES}, skipped


@pytest.mark.parametrize("classes", CLASSES)
def test_it_records_logits_of_minus_infinity_as_a_criterion_of_your_own_is_recorded(classes):
    class Own(torch.nn.CrossEntropyLoss):
        pass

    (ours, _), (other, _) = (recorded(kind(), *outputs(classes)) for kind in (torch.nn.CrossEntropyLoss, Own))
    for name in NAMES:
        np.testing.assert_allclose(ours[name], other[name], rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("classes", CLASSES)
def test_a_row_with_a_nan_is_left_out_and_counted_and_no_other_is(classes):
    logits, labels = outputs(classes)
    clean, _ = recorded(torch.nn.CrossEntropyLoss(), logits.clone(), labels)
    logits[3, 1] = torch.nan
    with pytest.warns(RuntimeWarning, match="1 of 8 observations"):
        found, skipped = recorded(torch.nn.CrossEntropyLoss(), logits, labels)
    assert skipped == 1
    for name in NAMES:
        assert np.isnan(found[name][3])
        np.testing.assert_array_equal(np.delete(found[name], 3), np.delete(clean[name], 3))


@pytest.mark.parametrize("ignored", [-100, 1, 50])
def test_an_ignored_sample_is_left_out_wherever_its_index_lies(ignored):
    logits, labels = outputs(100)
    labels[5] = ignored
    found, skipped = recorded(torch.nn.CrossEntropyLoss(ignore_index=ignored), logits, labels)
    assert skipped == 0
    assert np.isnan(found["loss"]).tolist() == (labels == ignored).tolist()


def test_labels_are_noted_for_plans_that_ask_for_classes():
    logits, labels = outputs(10)
    with ScoreStore.create(None, 8, scores()) as store:
        store.session.classes.wanted_by.add(hook := LossHook(torch.nn.CrossEntropyLoss(), store))
        hook(logits.requires_grad_(), labels, rows=torch.arange(8))
        seen, _ = store.session.classes.counts(np.array([255], np.uint8))
    assert seen.tolist() == torch.bincount(labels).tolist()


@pytest.mark.parametrize("rows", [torch.arange(16)[::2], torch.tensor(3).expand(8)], ids=["every other", "one row"])
def test_rows_that_do_not_lie_behind_one_another_are_recorded_and_compile_nothing(rows):
    logits, labels = outputs(10)
    recorded(torch.nn.CrossEntropyLoss(), logits.clone(), labels)
    before = len(fold.fold._made().nopython_signatures)
    with ScoreStore.create(None, 16, scores()) as store:
        LossHook(torch.nn.CrossEntropyLoss(), store)(logits.requires_grad_(), labels, rows=rows)
        assert np.flatnonzero(store.count("loss")).tolist() == rows.unique().tolist()
    assert len(fold.fold._made().nopython_signatures) == before


def test_logits_of_which_numpy_has_no_view_are_recorded():
    logits, labels = outputs(10)
    negated = (
        torch.complex(logits, -logits.nan_to_num(neginf=-50)).conj().imag
    )  # torch only notes that they are negated
    assert negated.is_neg()
    found, _ = recorded(torch.nn.CrossEntropyLoss(), negated.detach(), labels)
    expected, _ = recorded(torch.nn.CrossEntropyLoss(), negated.detach().resolve_neg(), labels)
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, atol=2e-6, err_msg=name)
