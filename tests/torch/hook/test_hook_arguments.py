"""Whatever a criterion takes and returns goes through the hook as it came; rows go by keyword alone."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Entropy, Last, Loss, Score
from adaptive_sampler.torch import IndexedDataset, LossHook
from tests.torch.samples import CLASSES, N, dataset, make_store

ROWS = torch.arange(6)
LOGITS = (3 * torch.eye(6, CLASSES)).requires_grad_()
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


class Grouped(nn.Module):
    """A criterion with a third argument, a fourth with a default, and one by name."""

    def __init__(self):
        super().__init__()
        self.reduction, self.given = "mean", None

    def forward(self, scores, classes, group, power=1.0, *, scale=1.0):
        self.given = (group, power, scale)
        losses = scale * nn.functional.cross_entropy(scores, classes, reduction="none") ** power * (1 + group)
        return losses.mean() if self.reduction == "mean" else losses


GROUP = torch.tensor([0.0, 1, 0, 1, 0, 5])


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((GROUP,), {}),
        ((GROUP, 2.0), {"scale": 3.0}),
        ((), {"group": GROUP, "power": 2.0}),
    ],
)
def test_further_arguments_go_to_the_criterion_and_its_unreduced_twin(given, named):
    store, criterion = make_store(Loss(), EL2N()), Grouped()
    value = LossHook(criterion, store)(LOGITS, LABELS, *given, rows=ROWS, **named)
    assert torch.equal(value, criterion(LOGITS, LABELS, *given, **named))
    criterion.reduction = "none"
    assert torch.equal(torch.tensor(store["loss"][:6]), criterion(LOGITS, LABELS, *given, **named).detach())
    assert store.observed("el2n") == 6


def test_input_and_target_may_go_by_the_criterions_own_names():
    store = make_store(Loss(), EL2N())
    LossHook(Grouped(), store)(group=GROUP, classes=LABELS, scores=LOGITS, rows=ROWS)
    other = make_store(EL2N())
    LossHook(nn.CrossEntropyLoss(), other)(target=LABELS, input=LOGITS, rows=ROWS)
    assert store["el2n"][:6].tolist() == other["el2n"][:6].tolist()


def test_under_watch_a_third_argument_is_the_criterions_and_the_rows_are_the_batchs():
    hook = LossHook(Grouped(), make_store(EL2N()))
    for inputs, labels in hook.watch(DataLoader(IndexedDataset(dataset()), batch_size=6, shuffle=True)):
        group = torch.arange(6)
        hook(torch.zeros(6, CLASSES, requires_grad=True) + inputs[:, :1], labels, group)
        assert hook.given[0] is group
    assert hook.store.count("el2n").tolist() == [1] * N


def test_rows_by_position_are_no_rows():
    hook = LossHook(nn.CrossEntropyLoss(), make_store())
    with pytest.raises(InvalidValue, match=r"no rows for this loss call.*Pass rows="):
        hook(LOGITS, LABELS, ROWS)
    for inputs, labels in hook.watch([(ROWS, (LOGITS, LABELS))]):
        with pytest.raises(TypeError, match="takes 3 positional arguments but 4 were given"):
            hook(inputs, labels, ROWS)


def test_what_the_criterion_cannot_take_says_how_rows_are_passed():
    with pytest.raises(InvalidValue, match=r"Grouped cannot be called so: .*rows= by keyword"):
        LossHook(Grouped(), make_store())(scores=LOGITS, labels=LABELS, rows=ROWS)


def test_a_criterion_of_several_inputs_records_its_losses():
    store = make_store(Loss())
    anchor, positive, negative = (torch.rand(6, 3, requires_grad=True) for _ in range(3))
    value = LossHook(nn.TripletMarginLoss(), store)(anchor, positive, negative, rows=ROWS)
    assert torch.equal(value, nn.TripletMarginLoss()(anchor, positive, negative))
    losses = nn.TripletMarginLoss(reduction="none")(anchor, positive, negative)
    assert store["loss"][:6] == pytest.approx(losses.tolist())


def test_ctc_has_its_batch_on_the_second_axis():
    store = make_store(Loss())
    given = (torch.rand(9, 6, 4).log_softmax(2), torch.ones(6, 3).long(), torch.full((6,), 9), torch.full((6,), 3))
    given[0].requires_grad_()
    LossHook(nn.CTCLoss(), store)(*given, rows=ROWS)
    assert store["loss"][:6] == pytest.approx(nn.CTCLoss(reduction="none")(*given).tolist())


class Nested(nn.Module):
    """Takes a nest, and returns one."""

    def __init__(self, returns=lambda losses: losses.mean()):
        super().__init__()
        self.returns = returns

    def forward(self, input, target):
        outputs = input["deep"][0] if isinstance(input, dict) else input[0]
        return self.returns(nn.functional.cross_entropy(outputs, target, reduction="none"))


NESTS = {"dict": {"deep": [LOGITS, "word"]}, "tuple": (LOGITS, None), "list": [LOGITS]}


@pytest.mark.parametrize("nest", NESTS)
def test_a_nested_input_counts_by_its_first_tensor(nest):
    store = make_store(Loss())
    LossHook(Nested(lambda losses: losses), store)(NESTS[nest], LABELS, rows=ROWS)
    assert store.observed("loss") == 6
    with pytest.raises(InvalidValue, match="5 rows for 6 samples"):
        LossHook(Nested(), store)(NESTS[nest], LABELS, rows=ROWS[:5])


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("score", [EL2N(), Entropy(), Score("first", lambda logits: logits[:, 0], Last())])
def test_a_score_that_takes_logits_finds_none_in_a_nest_and_the_remedy_works(nest, score):
    hook = LossHook(Nested(), make_store(score))
    with pytest.raises(
        InvalidValue, match=rf"score '{score.name}' takes logits, and Nested was called with {nest}.*hook.r"
    ):
        hook(NESTS[nest], LABELS, rows=ROWS)
    hook.record(ROWS, logits=LOGITS.detach(), labels=LABELS)
    hook.criterion(NESTS[nest], LABELS).backward()
    assert hook.store.observed(score.name) == 6


def test_a_target_that_is_missing_or_nested_is_told_to_a_score_that_takes_labels():
    hook = LossHook(nn.Identity(), make_store(EL2N()))
    with pytest.raises(InvalidValue, match="score 'el2n' takes labels, and Identity was called with NoneType"):
        hook(LOGITS, rows=ROWS)


RETURNS = {
    "tuple": lambda losses: (losses.mean(), losses),
    "dict": lambda losses: {"loss": losses.mean(), "each": losses},
}


@pytest.mark.parametrize("kind", RETURNS)
def test_a_tuple_or_dict_comes_back_untouched_and_scores_of_logits_are_recorded(kind):
    returned = {}

    class Returning(nn.Module):
        def forward(self, input, target):
            returned[kind] = RETURNS[kind](nn.functional.cross_entropy(input, target, reduction="none"))
            return returned[kind]

    store = make_store(EL2N())
    assert LossHook(Returning(), store)(LOGITS, LABELS, rows=ROWS) is returned[kind]
    assert store.observed("el2n") == 6


@pytest.mark.parametrize("kind", RETURNS)
@pytest.mark.parametrize("reduction", [None, "mean"])
def test_the_loss_score_says_that_it_finds_no_loss_in_them_and_the_remedy_works(kind, reduction):
    class Returning(nn.Module):
        def forward(self, input, target):
            return RETURNS[kind](nn.functional.cross_entropy(input, target, reduction="none"))

    criterion = Returning()
    if reduction:
        criterion.reduction = reduction
    hook = LossHook(criterion, make_store(Loss(), EL2N()))
    with pytest.raises(
        InvalidValue, match=rf"Returning returns a {kind}, .*hook.record\(rows, loss=..., logits=..., labels"
    ):
        hook(LOGITS, LABELS, rows=ROWS)
    for inputs, labels in hook.watch([(ROWS, (LOGITS, LABELS))]):
        returned = hook.criterion(inputs, labels)
        losses = returned[1] if kind == "tuple" else returned["each"]
        hook.record(hook.claim(len(inputs)), loss=losses, logits=inputs.detach(), labels=labels)
    assert (hook.store.observed("loss"), hook.store.observed("el2n")) == (6, 6)


# -- functional transforms ---------------------------------------------------------------------------------------------

IN_A_TRANSFORM = r"called inside a torch.func transform.*Call hook.criterion\(...\) inside .* hook.record\("


@pytest.mark.parametrize("transform", ["grad", "vmap", "grad of vmap"])
def test_inside_a_transform_one_sentence_says_what_to_do(transform):
    hook = LossHook(nn.CrossEntropyLoss(), make_store())

    def loss(logits):
        return hook(logits, LABELS, rows=ROWS)

    def all_of(batch):
        return torch.vmap(loss)(batch).sum()

    stacked = LOGITS.detach()[None]
    calls = {
        "grad": lambda: torch.func.grad(loss)(LOGITS.detach()),
        "vmap": lambda: torch.vmap(loss)(stacked),
        "grad of vmap": lambda: torch.func.grad(all_of)(stacked),
    }
    with pytest.raises(InvalidValue, match=IN_A_TRANSFORM):
        calls[transform]()
    assert hook.store.observed("loss") == 0


def test_the_remedy_inside_a_transform_works():
    hook, logits = LossHook(nn.CrossEntropyLoss(), make_store()), LOGITS.detach()
    gradient = torch.func.grad(lambda z: hook.criterion(z, LABELS))(logits)
    hook.record(ROWS, logits=logits, labels=LABELS)
    assert torch.equal(gradient, torch.autograd.grad(nn.CrossEntropyLoss()(LOGITS, LABELS), LOGITS)[0])
    assert (hook.store.observed("loss"), hook.store.observed("el2n")) == (6, 6)
