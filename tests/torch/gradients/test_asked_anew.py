"""What has been found of a model on its first batches is asked anew where it may have changed, and now and then."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from adaptive_sampler.torch import alignment, grand
from adaptive_sampler.torch.gradients.functional import cross_entropy
from adaptive_sampler.torch.gradients.remembered import circumstances, is_time
from tests.references import gradients_one_by_one
from tests.torch.gradients.lossy import softened

torch.set_num_threads(1)
SAYS = "does not give the gradient that backward gives"


class LongKernel(nn.Module):
    """Has the operator that loses its tangent for sequences of more than 8."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 5), nn.Linear(5, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.layer(inputs)
        return self.head((softened(hidden) if inputs.shape[1] > 8 else torch.tanh(hidden)).mean(1))


class Switch(nn.Module):
    """Has it while a switch, a word or something that cannot be seen says so."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 5), nn.Linear(5, 11)
        self.on, self.kernel, self.unseen = False, "plain", {"on": False}

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.layer(inputs)
        own = self.on or self.kernel == "own" or self.unseen["on"]
        return self.head((softened(hidden) if own else torch.tanh(hidden)).mean(1))


class Freezes(nn.Module):
    """Its layer runs without gradient once it is frozen: backward gives it none, forward mode lets it through."""

    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.layer, self.head, self.frozen = nn.Linear(6, 5), nn.Linear(5, 11), frozen

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            hidden = torch.tanh(self.layer(inputs))
        return self.head(hidden.mean(1))


def by_python(lengths: Tensor) -> Tensor:
    return torch.tensor(sorted(range(len(lengths)), key=lambda i: -int(lengths[i])))


BY_TORCH: dict[str, Callable[[Tensor], Tensor]] = {
    "argsort": lambda lengths: lengths.argsort(descending=True, stable=True),
    "sort": lambda lengths: torch.sort(lengths, descending=True, stable=True)[1],
    "topk": lambda lengths: lengths.topk(len(lengths)).indices,
}


class Sorts(nn.Module):
    """Runs its layers in the order of the lengths, longest first, and puts its output back."""

    def __init__(self, order: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.head, self.order = nn.Linear(6, 5), nn.Linear(5, 11), order

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        order = self.order(lengths)
        mask = (torch.arange(inputs.shape[1]) < lengths[order][:, None])[..., None]
        summed = (torch.tanh(self.layer(inputs[order])) * mask).sum(1)
        return self.head(summed)[torch.empty_like(order).scatter(0, order, torch.arange(len(order)))]


def made(model: nn.Module) -> Any:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.double().eval()


def data(length: int = 4, size: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    inputs = torch.randn(size, length, 6, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(11, (size,), generator=generator)


def is_right(model: nn.Module, batch: tuple[Tensor, Tensor]) -> bool:
    direction = torch.ones(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    found = alignment(model, *batch, direction)
    return torch.allclose(found, gradients_one_by_one(model, cross_entropy, *batch) @ direction)


def test_a_kernel_for_longer_sequences_is_asked_about_when_they_come() -> None:
    model = made(LongKernel())
    assert is_right(model, data())
    with pytest.warns(UserWarning, match=SAYS):
        assert is_right(model, data(12))


@pytest.mark.parametrize(("name", "value"), [("on", True), ("kernel", "own")])
def test_a_switch_of_a_module_is_asked_about_when_it_changes(name: str, value: Any) -> None:
    model = made(Switch())
    assert is_right(model, data())
    setattr(model, name, value)
    with pytest.warns(UserWarning, match=SAYS):
        assert is_right(model, data())


def test_a_change_that_cannot_be_seen_is_found_by_the_next_power_of_two() -> None:
    model = made(Switch())
    for _ in range(5):
        assert is_right(model, data())
    model.unseen["on"] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [is_right(model, data()) for _ in range(5)] == [False, False, True, True, True]


@pytest.mark.parametrize("before", [True, False])
def test_a_layer_that_is_frozen_by_a_switch_has_no_part(before: bool) -> None:
    model = made(Freezes(frozen=before))
    if not before:
        assert is_right(model, data())
        model.frozen = True
    with pytest.warns(UserWarning, match=SAYS):
        assert is_right(model, data())


def test_a_parameter_that_the_loss_does_not_use_is_no_reason_to_warn() -> None:
    model = made(Switch())
    model.spare = nn.Linear(3, 3).double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert is_right(model, data())


def test_ragged_lengths_are_few_circumstances_and_a_counter_is_none() -> None:
    model = made(Switch())
    params = dict(model.named_parameters())
    seen = set()
    for length in range(65, 129):
        model.steps = length
        seen.add(circumstances(model, params, torch.zeros(7, length, 6), None))
    assert len(seen) == 1


def test_looks_are_at_powers_of_two() -> None:
    assert [use for use in range(1, 40) if is_time(use)] == [1, 2, 4, 8, 16, 32]


def norms_are_right(model: nn.Module, lengths: list[int]) -> bool:
    inputs, labels = data(5, len(lengths))
    given = torch.tensor(lengths)
    theta = list(model.parameters())
    wanted = []
    for i in range(len(lengths)):
        loss = cross_entropy(model(inputs[i : i + 1], given[i : i + 1]), labels[i : i + 1])[0]
        wanted.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, theta)]).norm())
    return torch.allclose(grand(model, (inputs, given), labels), torch.stack(wanted))


@pytest.mark.parametrize("earlier", [1, 2, 4, 5])
@pytest.mark.parametrize("order", BY_TORCH)
def test_grand_finds_a_sort_after_batches_of_equal_lengths(order: str, earlier: int) -> None:
    for place in range(6):
        model = made(Sorts(BY_TORCH[order]))
        for _ in range(earlier):
            assert norms_are_right(model, [5] * 6)
        assert norms_are_right(model, [*[5, 4, 4, 3, 2, 1][:place], 1, 2, 3, 5, 4, 2])


def test_grand_finds_a_sort_that_is_not_torchs_by_the_next_power_of_two() -> None:
    model = made(Sorts(by_python))
    for _ in range(3):
        assert norms_are_right(model, [5] * 6)
    assert norms_are_right(model, [5, 4, 4, 3, 1, 2])


class Packs(nn.Module):
    """Packs its sequences, which sorts them inside."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 11)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        first = torch.tanh(self.layer(packed.data[: len(inputs)]))  # of the longest first
        return self.head(first)[packed.unsorted_indices]


@pytest.mark.parametrize("earlier", [2, 4])
def test_grand_finds_packed_sequences_after_batches_of_equal_lengths(earlier: int) -> None:
    model = made(Packs())
    for _ in range(earlier):
        assert norms_are_right(model, [5] * 6)
    assert norms_are_right(model, [5, 4, 4, 3, 1, 2])
