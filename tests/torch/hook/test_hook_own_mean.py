"""Plan weights divide by the mean's own denominator, torch's by what is known of it, another's by what it returns."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch import LossHook
from adaptive_sampler.torch.hook.call import made
from adaptive_sampler.torch.hook.denominator import Denominator
from adaptive_sampler.torch.hook.weighted import weighted
from tests.torch.hook.test_hook_weights import ROWS, hooked
from tests.torch.samples import CLASSES

GENERATOR = torch.Generator().manual_seed(3)
LOGITS = (2 * torch.randn(8, CLASSES, generator=GENERATOR)).requires_grad_()
LABELS = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1])
W = torch.tensor([0.2, 1.5, 3.0])


class Own(nn.Module):
    """A criterion of one's own: `losses`, and what the mean of them is."""

    def __init__(self, losses, mean, reduction="mean"):
        super().__init__()
        self.losses, self.mean, self.reduction = losses, mean, reduction

    def forward(self, input, target, *more):
        losses = self.losses(input, target, *more)
        if self.reduction == "none":
            return losses
        return losses.sum() if self.reduction == "sum" else self.mean(losses, input, target, *more)


def plain(input, target, *more):
    return F.cross_entropy(input, target, reduction="none")


def balanced(losses, input, target):
    return losses.sum() / W.to(losses)[target].sum()


def masked(input, target, mask):
    return F.cross_entropy(input, target, reduction="none") * mask


# what the criterion is, and what its mean divides by
OWN = {
    "class-balanced": (Own(plain, balanced), W[LABELS].sum()),
    "positives": (Own(plain, lambda losses, x, y: losses.sum() / (y > 0).sum()), (LABELS > 0).sum()),
    "batch size": (Own(plain, lambda losses, x, y: losses.sum() / len(y)), 8),
    "scaled": (Own(plain, lambda losses, x, y: 5 * losses.mean()), 8 / 5),
}


@pytest.mark.parametrize("name", OWN)
def test_the_denominator_is_the_criterions_own(name):
    criterion, denominator = OWN[name]
    hook, weights = hooked(criterion)
    value = hook(LOGITS, LABELS, rows=ROWS)
    expected = (weights * plain(LOGITS, LABELS)).sum() / denominator
    torch.testing.assert_close(value, expected)
    ours, theirs = (torch.autograd.grad(x, LOGITS)[0] for x in (value, expected))
    torch.testing.assert_close(ours, theirs)


def test_it_is_found_anew_for_each_batch_with_the_criterions_further_arguments():
    hook, weights = hooked(Own(masked, lambda losses, x, y, mask: losses.sum() / mask.sum().clamp(min=1)))
    for seed in range(6):
        mask = (torch.rand(8, generator=torch.Generator().manual_seed(seed)) < 0.5).float()
        value = hook(LOGITS, LABELS, mask, rows=ROWS)
        torch.testing.assert_close(value, (weights * masked(LOGITS, LABELS, mask)).sum() / mask.sum().clamp(min=1))


def test_further_arguments_by_name_are_split_with_the_batch_too():
    mask = torch.tensor([1.0, 0, 1, 1, 0, 0, 1, 1])

    class Named(nn.Module):
        reduction = "mean"

        def forward(self, input, target, *, extra):
            losses = masked(input, target, extra["mask"])
            return losses if self.reduction == "none" else losses.sum() / extra["mask"].sum()

    hook, weights = hooked(Named())
    value = hook(LOGITS, LABELS, extra={"mask": mask}, rows=ROWS)
    torch.testing.assert_close(value, (weights * masked(LOGITS, LABELS, mask)).sum() / mask.sum())


class Single(nn.Module):
    """Class weights that are no buffer: it cannot be called in float64."""

    def __init__(self):
        super().__init__()
        self.reduction, self.weight = "mean", W.clone()

    def forward(self, input, target):
        return F.cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


def test_a_criterion_that_cannot_do_double_precision_is_found_in_single():
    hook, weights = hooked(Single())
    expected = (weights * W[LABELS] * plain(LOGITS, LABELS)).sum() / W[LABELS].sum()
    torch.testing.assert_close(hook(LOGITS, LABELS, rows=ROWS), expected)


def test_a_forward_that_is_overridden_is_of_ones_own_whatever_it_inherits():
    class Halved(nn.CrossEntropyLoss):
        def forward(self, input, target):
            value = super().forward(input, target)
            return value if self.reduction == "none" else value / 2

    hook, weights = hooked(Halved())
    expected = (weights * plain(LOGITS, LABELS)).sum() / 16
    torch.testing.assert_close(hook(LOGITS, LABELS, rows=ROWS), expected)


def top_half(losses, *_):
    return losses.topk((len(losses) + 1) // 2).values.mean()


def by_input(losses, input, target):
    return losses.sum() / input.softmax(1).amax(1).sum()


REFUSED = {
    "a mean of the top half": (Own(plain, top_half), "which should add up to it"),
    "a median": (Own(plain, lambda losses, *_: losses.median()), "which should add up to it"),
    "a square root": (Own(plain, lambda losses, *_: (losses**2).mean().sqrt()), "which should add up to it"),
    "a mean over what the input says": (Own(plain, by_input), "depends on the input"),
    "no number": (
        Own(plain, lambda losses, *_: (losses.mean(), losses)),
        "it returns tuple where one number was expected",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mean_that_is_no_sum_over_samples_is_refused_and_the_remedy_works(name):
    criterion, words = REFUSED[name]
    hook, _ = hooked(criterion)
    with pytest.raises(
        InvalidValue, match=rf"Own cannot be weighed by the hook: .*{words}.* Weigh its losses yourself"
    ):
        hook(LOGITS, LABELS, rows=ROWS)
    sampler, store, reduction = hook.sampler, hook.store, criterion.reduction
    before = store.count("loss")[3]
    try:
        scope = {"hook": LossHook(criterion, store), "sampler": sampler, "rows": ROWS, "torch": torch}
        criterion.reduction = "none"
        exec(
            "weights = torch.from_numpy(sampler.loss_weights(rows)); losses = hook(input, target, rows=rows)\n"
            "(weights * losses).mean().backward()",
            scope | {"input": LOGITS, "target": LABELS},
        )
    finally:
        criterion.reduction = reduction
    assert store.count("loss")[3] == before + 1


def test_a_sum_must_be_the_sum_of_the_losses():
    class Twice(nn.Module):
        reduction = "sum"

        def forward(self, input, target):
            losses = plain(input, target)
            return losses if self.reduction == "none" else 2 * losses.sum()

    hook, weights = hooked(Own(plain, None, "sum"))
    torch.testing.assert_close(hook(LOGITS, LABELS, rows=ROWS), (weights * plain(LOGITS, LABELS)).sum())
    with pytest.raises(InvalidValue, match=r"with reduction='sum' it gives 1/0.5 of the sum of its losses"):
        hooked(Twice())[0](LOGITS, LABELS, rows=ROWS)


def test_a_batch_of_one_is_its_weight_times_the_value_whatever_the_mean():
    hook, weights = hooked(Own(plain, top_half))
    value = hook(LOGITS[:1], LABELS[:1], rows=ROWS[:1])
    torch.testing.assert_close(value, weights[0] * plain(LOGITS[:1], LABELS[:1])[0])


def test_the_first_batch_of_two_or_more_is_asked_after_one_of_one():
    hook, _ = hooked(Own(plain, top_half))
    hook(LOGITS[:1], LABELS[:1], rows=ROWS[:1])
    with pytest.raises(InvalidValue, match="which should add up to it"):
        hook(LOGITS, LABELS, rows=ROWS)


def signed(input, target):
    return input[:, 0] * (1.0 - 2 * target)


def mean_of_signed(losses, input, target):
    return losses.sum() / (1 + target).to(losses).sum()


@pytest.mark.parametrize("last", [0.0, 1e-12])
@pytest.mark.parametrize("first", [True, False])
def test_losses_that_cancel_are_divided_right(first, last):
    hook, weights = hooked(Own(signed, mean_of_signed))
    given = torch.tensor([[1.0], [1.0], [2.0], [2.0], [0.5], [0.5], [3.0], [3.0 + last]], requires_grad=True)
    target = torch.tensor([0, 1] * 4)
    if not first:
        hook(given.detach().exp().requires_grad_(), target, rows=ROWS)
    value = hook(given, target, rows=ROWS)
    torch.testing.assert_close(value, (weights * signed(given, target)).sum() / 12)


@pytest.mark.parametrize("losses", [signed, lambda x, y: F.relu(x[:, 0] - 1)])
def test_losses_that_are_all_zero_give_zero_and_the_right_gradient(losses):
    hook, weights = hooked(Own(losses, mean_of_signed))
    given, target = torch.zeros(8, 1, requires_grad=True), torch.tensor([0, 1] * 4)
    value = hook(given, target, rows=ROWS)
    value.backward()
    assert value == 0
    expected = torch.autograd.grad((weights * losses(given, target)).sum() / 12, given)[0]
    torch.testing.assert_close(given.grad, expected)


def test_a_first_batch_of_zeros_hides_no_mean_of_the_top_half_from_the_next():
    hook, weights = hooked(Own(lambda x, y: F.relu(x[:, 0]), top_half))
    given = torch.tensor([[0.0], [0.0], [0.0], [0.0], [1.0], [2.0], [3.0], [4.0]]).requires_grad_()
    torch.testing.assert_close(
        hook(given, LABELS, rows=ROWS), (weights * given[:, 0]).sum() / 4
    )  # as a mean of any four
    with pytest.raises(InvalidValue, match="which should add up to it"):
        hook((given.detach() + 1).requires_grad_(), LABELS, rows=ROWS)


def test_torchs_own_generator_is_not_touched():
    hook, _ = hooked(OWN["class-balanced"][0])
    before = torch.get_rng_state()
    hook(LOGITS, LABELS, rows=ROWS)
    assert torch.equal(before, torch.get_rng_state())


# -- torch's own -------------------------------------------------------------------------------------------------------


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


SIGNS = torch.tensor([1.0, -1, 1, 1, -1, -1, 1, -1])
TARGETS = torch.tensor([[0, 2, -1]] * 4 + [[1, -1, -1]] * 4)
MANY = {
    nn.L1Loss: (drawn(8, 3), drawn(8, 3, seed=1)),
    nn.NLLLoss: (drawn(8, 3).log_softmax(1), LABELS),
    nn.PoissonNLLLoss: (drawn(8), drawn(8, seed=1)),
    nn.GaussianNLLLoss: (drawn(8, 2), drawn(8, 2, seed=1), 0.1 + drawn(8, 2, seed=2)),
    nn.KLDivLoss: (drawn(8, 3).log_softmax(1), drawn(8, 3, seed=1).softmax(1)),
    nn.MSELoss: (drawn(8, 3), drawn(8, 3, seed=1)),
    nn.BCELoss: (drawn(8, 3), drawn(8, 3, seed=1)),
    nn.BCEWithLogitsLoss: (drawn(8, 3), drawn(8, 3, seed=1)),
    nn.HingeEmbeddingLoss: (drawn(8, 2), SIGNS[:, None].expand(8, 2)),
    nn.MultiLabelMarginLoss: (drawn(8, 3), TARGETS),
    nn.SmoothL1Loss: (drawn(8, 3), drawn(8, 3, seed=1)),
    nn.HuberLoss: (drawn(8, 3), drawn(8, 3, seed=1)),
    nn.SoftMarginLoss: (drawn(8, 2), SIGNS[:, None].expand(8, 2)),
    nn.CrossEntropyLoss: (drawn(8, 3), LABELS),
    nn.MultiLabelSoftMarginLoss: (drawn(8, 3), drawn(8, 3, seed=1).round()),
    nn.CosineEmbeddingLoss: (drawn(8, 3), drawn(8, 3, seed=1), SIGNS),
    nn.MarginRankingLoss: (drawn(8), drawn(8, seed=1), SIGNS),
    nn.MultiMarginLoss: (drawn(8, 3), LABELS),
    nn.TripletMarginLoss: (drawn(8, 3), drawn(8, 3, seed=1), drawn(8, 3, seed=2)),
    nn.TripletMarginWithDistanceLoss: (drawn(8, 3), drawn(8, 3, seed=1), drawn(8, 3, seed=2)),
    nn.CTCLoss: (
        drawn(9, 8, 4).log_softmax(2),
        torch.tensor([[1, 2, 3]] * 8),
        torch.full((8,), 9),
        torch.tensor([1, 2, 3, 1, 2, 3, 0, 2]),
    ),
    nn.LinearCrossEntropyLoss: (drawn(8, 5), LABELS),
}


def of_kind(kind, **settings):
    torch.manual_seed(0)
    return kind(5, 3, **settings) if kind is nn.LinearCrossEntropyLoss else kind(**settings)


def test_every_criterion_of_torch_is_here():
    from torch.nn.modules import loss

    assert {name for name in loss.__all__ if name != "NLLLoss2d"} == {kind.__name__ for kind in MANY}


def weighed(kind, weights, **settings):
    criterion = of_kind(kind, **settings)
    return weighted(criterion, made(criterion, MANY[kind], {}), weights, Denominator())[0]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # torch's on KLDivLoss
@pytest.mark.parametrize("kind", MANY)
def test_the_weighted_mean_is_the_weighted_sum_of_what_each_sample_adds_to_the_mean(kind):
    weights, losses = drawn(8, seed=9), of_kind(kind, reduction="none")(*MANY[kind])
    adds = losses.flatten(1).sum(1) / losses.numel() if losses.ndim > 1 else losses / 8
    if kind is nn.CTCLoss:  # the mean takes each loss by the length of its target
        adds = adds / MANY[kind][3].clamp(min=1)
    torch.testing.assert_close(adds.sum(), of_kind(kind)(*MANY[kind]))
    torch.testing.assert_close(weighed(kind, weights), (weights * adds).sum())


@pytest.mark.parametrize("kind", MANY)
def test_the_weighted_sum_is_that_of_the_losses(kind):
    weights, losses = drawn(8, seed=9), of_kind(kind, reduction="none")(*MANY[kind])
    expected = (weights * losses.reshape(8, -1).sum(1)).sum()
    torch.testing.assert_close(weighed(kind, weights, reduction="sum"), expected)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (nn.CrossEntropyLoss, {"weight": W, "ignore_index": 1}),
        (nn.NLLLoss, {"weight": W}),
        (nn.NLLLoss, {"ignore_index": 2}),
        (nn.LinearCrossEntropyLoss, {"weight": W, "ignore_index": 1}),
        (nn.LinearCrossEntropyLoss, {"label_smoothing": 0.2}),
        (nn.KLDivLoss, {"reduction": "batchmean"}),
        (nn.MultiMarginLoss, {"weight": W}),
        (nn.BCEWithLogitsLoss, {"pos_weight": W}),
        (nn.MultiLabelSoftMarginLoss, {"weight": W}),
    ],
)
def test_weights_of_one_give_back_what_the_criterion_gives(kind, settings):
    torch.testing.assert_close(weighed(kind, torch.ones(8), **settings), of_kind(kind, **settings)(*MANY[kind]))
