"""A plan that keeps almost none of a class that the hook has seen is warned of, with the numbers and the remedies."""

import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.selection import Prune, RandomPrune, Threshold, Window
from adaptive_sampler.torch import AdaptiveSampler, DistributedAdaptiveSampler, IndexedDataset, LossHook, PrunedSampler

N, CLASSES = 240, 4
LABELS = np.arange(N) % CLASSES
EVERYTHING = Prune(1.0, "el2n")
ALMOST_NONE = "keeps almost none of some classes"


class Fitted(nn.Module):
    """Logits by which the classes 0 and 1 are learned, and 2 and 3 are not: so these alone have high scores."""

    def forward(self, inputs):
        confident = 5.0 * (inputs < 2) + 0.01
        return nn.functional.one_hot(inputs, CLASSES) * confident[:, None] * torch.ones((), requires_grad=True)


class Kind(nn.Module):
    """A criterion of this package's users: the loss of each sample, whatever the targets."""

    reduction = "none"

    def forward(self, input, target):
        return input.flatten(1).sum(1).abs()


def fill(store, hook, batches=None, dtype=torch.int64):
    """One pass over all samples, whose inputs are their labels."""
    labels = torch.from_numpy(LABELS)
    data = TensorDataset(labels, labels.to(dtype))
    loader = DataLoader(IndexedDataset(data, store), 16) if batches is None else batches(data)
    for inputs, targets in hook.watch(loader):
        hook(Fitted()(inputs), targets)


def parts(policy=None, criterion=None, n=N, **arguments):
    """A store, a sampler, and a hook that has seen nothing."""
    store = ScoreStore.create(None, n, [EL2N(), Loss()])
    sampler = AdaptiveSampler(store, policy or Prune(0.5, "el2n"), **arguments)
    return store, sampler, LossHook(criterion or nn.CrossEntropyLoss(), store)


def quiet(sampler, epochs=1):
    """Walk so many epochs, where a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(epochs):
            list(sampler)


def test_a_plan_without_two_of_four_classes_is_warned_of_with_the_numbers_and_the_remedy():
    store, sampler, hook = parts()
    fill(store, hook)
    with pytest.warns(
        RuntimeWarning, match=rf"the plan of epoch 0 {ALMOST_NONE}: .*0 of 60 of class 0, 0 of 60 of class 1, but 50%"
    ):
        list(sampler)
    balanced = AdaptiveSampler(store, Prune(0.5, "el2n", per_class=LABELS))
    quiet(balanced)
    assert np.bincount(LABELS[balanced.plan.rows]).tolist() == [30] * CLASSES


def test_the_warning_names_the_argument_and_how_to_silence_it():
    store, sampler, hook = parts()
    fill(store, hook)
    with pytest.warns(RuntimeWarning, match=ALMOST_NONE) as told:
        list(sampler)
    message = str(told[0].message)
    assert "Give it per_class=labels, the class of each row" in message
    silence = re.search(r"warnings\.filterwarnings\('ignore', '.*?'\)", message).group()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eval(silence)
        list(AdaptiveSampler(store, Prune(0.5, "el2n")))


def test_it_comes_once_a_sampler():
    store, sampler, hook = parts()
    fill(store, hook)
    with pytest.warns(RuntimeWarning, match=ALMOST_NONE):
        list(sampler)
    quiet(sampler, 3)


def test_a_plan_that_holds_for_good_is_judged_when_it_is_made():
    store = ScoreStore.create(None, N, [EL2N()])
    sampler, hook = PrunedSampler(store, keep=0.5, warmup_epochs=1), LossHook(nn.CrossEntropyLoss(), store)
    fill(store, hook, lambda data: DataLoader(IndexedDataset(data), 16, sampler=sampler))
    with pytest.warns(RuntimeWarning, match=rf"the plan of epoch 1 {ALMOST_NONE}"):
        list(sampler)
    quiet(sampler, 2)


def test_labels_are_dropped_once_a_plan_that_holds_for_good_was_judged():
    store, sampler, hook = parts(Prune(0.5, "loss"), replan="once")
    fill(store, hook)
    store.fold("loss", np.arange(N), np.arange(N))
    quiet(sampler, 2)
    assert not store.session.classes.wanted_by


def test_many_classes_are_not_all_named():
    _, sampler, hook = parts(Prune(200, "el2n"), n=1200)
    labels = torch.arange(1200) % 6
    hook(
        (nn.functional.one_hot(labels, 6) * (labels[:, None] < 5) * 9.0).requires_grad_(),
        labels,
        rows=torch.arange(1200),
    )
    with pytest.warns(RuntimeWarning, match=r"0 of 200 of class 2, as little of 2 more, but 17% of all"):
        list(sampler)


@pytest.mark.parametrize("kind", [lambda s: Window(0.5, 0.5, "el2n"), lambda s: Prune(120, "loss")])
def test_windows_counts_and_other_scores_are_judged_alike(kind):
    store, sampler, hook = parts(kind(None))
    fill(store, hook)
    with pytest.warns(RuntimeWarning, match=ALMOST_NONE):
        list(sampler)


@pytest.mark.parametrize(
    "walk",
    [
        lambda sampler: DistributedAdaptiveSampler(sampler, num_replicas=2, rank=1),
        lambda sampler: sampler.batches(10),
    ],
    ids=["rank", "batches"],
)
def test_ranks_and_batches_are_judged_alike(walk):
    _, sampler, hook = parts()
    fill(sampler.store, hook)
    with pytest.warns(RuntimeWarning, match=ALMOST_NONE):
        list(walk(sampler))


def test_of_an_epoch_of_several_plans_the_first_is_judged():
    store, sampler, hook = parts(replan=2)
    fill(store, hook)
    walk = iter(sampler.batches(10))
    with pytest.warns(RuntimeWarning, match=ALMOST_NONE):
        next(walk)
    assert len([next(walk) for _ in range(3)]) == 3


def test_of_an_epoch_of_several_plans_a_later_one_waits_for_the_next_epoch():
    store, sampler, hook = parts(Prune(0.5, "loss"), replan=2)
    fill(store, hook)
    store.fold("loss", np.arange(N), np.arange(N))
    batches = sampler.batches(10)
    walk = iter(batches)
    next(walk)
    store.fold("loss", np.arange(N), LABELS)
    quiet(walk)
    with pytest.warns(RuntimeWarning, match=f"epoch 1 {ALMOST_NONE}"):
        list(batches)


def test_a_process_judges_by_the_samples_that_it_saw():
    """As on ranks, each of which sees some of the samples and plans by the scores of all."""
    store, sampler, hook = parts(Prune(0.5, "loss"))
    store.fold("loss", np.arange(N), LABELS.astype(float))
    half = torch.arange(N // 4 * 3)
    hook(Fitted()(torch.from_numpy(LABELS)[half]), torch.from_numpy(LABELS)[half], rows=half)
    store.fold("loss", np.arange(N), LABELS.astype(float))
    with pytest.warns(RuntimeWarning, match=r"0 of \d\d of class 0"):
        list(sampler)


# -- where nothing is said ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    [
        Prune(0.5, "el2n", per_class=LABELS),
        Prune(0.5, "el2n", per_group=LABELS),
        Threshold(0.5, "el2n"),
        RandomPrune(0.5),
        EVERYTHING,
    ],
    ids=["per_class", "per_group", "no share", "at random", "everything"],
)
def test_policies_that_mind_classes_or_cannot_say_nothing_and_keep_no_labels(policy):
    store, sampler, hook = parts(policy)
    assert store.session.classes.wanted == (policy == EVERYTHING)
    fill(store, hook)
    quiet(sampler)


def test_classes_that_are_too_small_to_judge_say_nothing():
    store, sampler, hook = parts(Prune(0.25, "el2n"))  # of 60, 15 would stay
    fill(store, hook)
    quiet(sampler)


def test_a_class_of_which_a_tenth_of_its_part_stays_says_nothing():
    store, sampler, hook = parts(Prune(0.5, "loss"))
    fill(store, hook)
    store.fold("loss", [0, 4, 8, 12, 1, 5, 9, 13], [99.0] * 8)  # of each class four, where 30 would be its part
    quiet(sampler)


def test_warm_up_says_nothing():
    store, sampler, hook = parts(warmup_epochs=2)
    fill(store, hook)
    quiet(sampler, 2)


@pytest.mark.parametrize(
    ("logits", "target", "criterion"),
    [
        (torch.rand(N), torch.from_numpy(LABELS).float(), nn.MSELoss()),
        (torch.rand(N, 1), torch.from_numpy(LABELS), Kind()),
        (torch.rand(N, 3, 5), torch.from_numpy(LABELS)[:, None].expand(N, 5) % 3, Kind()),
        (torch.rand(N, CLASSES), torch.from_numpy(LABELS).float(), Kind()),
        (torch.rand(N, CLASSES), nn.functional.one_hot(torch.from_numpy(LABELS), CLASSES), Kind()),
        (torch.rand(N, CLASSES), nn.functional.one_hot(torch.from_numpy(LABELS), CLASSES).float(), Kind()),
    ],
    ids=["regression", "one output", "tokens", "numbers", "many labels", "distributions"],
)
def test_targets_that_are_no_classes_say_nothing(logits, target, criterion):
    store = ScoreStore.create(None, N, [Loss()])
    sampler, hook = AdaptiveSampler(store, Prune(0.5, "loss")), LossHook(criterion, store)
    hook(logits.requires_grad_(), target, rows=torch.arange(N))
    store.fold("loss", np.arange(N), (LABELS > 1) + 1.0)
    quiet(sampler)


def test_samples_that_the_criterion_ignores_are_of_no_class():
    store, sampler, hook = parts(criterion=nn.CrossEntropyLoss(ignore_index=0))
    fill(store, hook)
    with pytest.warns(RuntimeWarning, match="0 of 60 of class 1, but"):
        list(sampler)


# -- what is kept of labels --------------------------------------------------------------------------------------------


def test_labels_are_noted_until_each_row_has_one():
    store, _, hook = parts()
    assert store.session.classes.wanted
    fill(store, hook)
    assert not store.session.classes.wanted


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_labels_may_be_any_integers(dtype):
    store, sampler, hook = parts(criterion=Kind())
    fill(store, hook, dtype=dtype)
    store.fold("el2n", np.arange(N), LABELS)
    with pytest.warns(RuntimeWarning, match=ALMOST_NONE):
        list(sampler)
