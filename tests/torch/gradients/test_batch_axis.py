"""`grand` where a layer's leading axis is not the batch, or is the batch in another order: as one sample at a time gives."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from adaptive_sampler.torch import grand, grand_last_layer
from adaptive_sampler.torch.gradients.functional import cross_entropy
from tests.references import grand_one_by_one

torch.set_num_threads(1)


class LearnedRow(nn.Module):
    """A gate from a learned (1, 6) row by a Linear and a norm."""

    def __init__(self, norm: type[nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.randn(1, 6))
        self.gate, self.norm, self.head = nn.Linear(6, 6), norm(6), nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(inputs * self.norm(self.gate(self.row))))


class Queries(nn.Module):
    """Four learned queries through a Linear: an axis of four, whatever the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.project = nn.Parameter(torch.randn(4, 6)), nn.Linear(6, 6)
        self.head = nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head((torch.tanh(inputs[:, None] * self.project(self.queries))).mean(1))


class TiedRow(nn.Module):
    """One Linear for the batch and for a learned row."""

    def __init__(self) -> None:
        super().__init__()
        self.row, self.both, self.head = nn.Parameter(torch.randn(1, 6)), nn.Linear(6, 6), nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(self.both(inputs)) * self.both(self.row))


class Filters(nn.Module):
    """A convolution over a learned image of one, added to each sample's."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.conv = nn.Parameter(torch.randn(1, 2, 6)), nn.Conv1d(2, 1, 3, padding=1)
        self.head = nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(inputs + self.conv(self.image)[:, 0]))


class Sorting(nn.Module):
    """Sorts the batch by its first column, as packers of sequences do by length, and puts it back."""

    def __init__(self, descending: bool = False) -> None:
        super().__init__()
        self.descending, self.layer, self.head = descending, nn.Linear(6, 6), nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        order = inputs[:, 0].argsort(descending=self.descending)
        return self.head(torch.tanh(self.layer(inputs[order]))[order.argsort()])


class Turned(nn.Module):
    """Runs a layer over the batch from its end."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(inputs.flip(0))).flip(0))


class Experts(nn.Module):
    """Each sample goes to one of four layers: a batch holds any number of each one's."""

    def __init__(self) -> None:
        super().__init__()
        self.experts, self.head = nn.ModuleList(nn.Linear(6, 6) for _ in range(4)), nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden, chosen = torch.zeros_like(inputs), (inputs[:, 0] * 3).floor().long() % 4
        for number, expert in enumerate(self.experts):
            if len(places := (chosen == number).nonzero()[:, 0]):
                hidden = hidden.index_copy(0, places, torch.tanh(expert(inputs[places])))
        return self.head(hidden)


@torch.library.custom_op("adaptive_sampler_tests::scaled", mutates_args=())
def scaled(inputs: Tensor, scale: Tensor) -> Tensor:
    return inputs * scale


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


scaled.register_autograd(
    lambda ctx, g: (g * ctx.saved_tensors[1], (g * ctx.saved_tensors[0]).sum(0)), setup_context=_keep
)


class OwnOperator(nn.Module):
    """A Linear's bias is also the scale of an operator of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 11)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(scaled(self.layer(inputs), self.layer.bias)))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "learned row, layer norm": LearnedRow,
    "learned row, rms norm": lambda: LearnedRow(nn.RMSNorm),
    "learned queries": Queries,
    "one layer for batch and row": TiedRow,
    "learned image": Filters,
    "sorting": Sorting,
    "sorting down": lambda: Sorting(descending=True),
    "turned": Turned,
    "experts": Experts,
    "operator of one's own": OwnOperator,
}


def made(name: str, size: int) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = MODELS[name]().double()
    return model, torch.randn(size, 6, dtype=torch.float64), torch.randint(11, (size,))


def agrees(model: nn.Module, inputs: Tensor, labels: Tensor, chunk_size: int = 128) -> None:
    wanted = grand_one_by_one(model, cross_entropy, inputs, labels)
    torch.testing.assert_close(grand(model, inputs, labels, chunk_size=chunk_size), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16])
@pytest.mark.parametrize("name", MODELS)
def test_norms_are_those_of_each_sample_alone_whatever_the_batch(name: str, size: int) -> None:
    agrees(*made(name, size))


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", MODELS)
def test_norms_are_those_of_each_sample_alone_however_the_batch_is_cut(name: str, chunk_size: int) -> None:
    """Eleven samples, so that the last chunk is of another size, which a learned axis may have too."""
    agrees(*made(name, 11), chunk_size=chunk_size)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_sequence_as_long_as_the_batch_is_not_taken_for_it(size: int) -> None:
    class SequenceFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 11)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(torch.tanh(self.layer(inputs.transpose(0, 1))).mean(0))

    torch.manual_seed(0)
    inputs = torch.randn(size, size, 6, dtype=torch.float64)
    agrees(SequenceFirst().double(), inputs, torch.randint(11, (size,)))


def test_a_first_batch_that_comes_sorted_does_not_hide_that_the_model_sorts() -> None:
    model, inputs, labels = made("sorting", 8)
    order = inputs[:, 0].argsort()
    agrees(model, inputs[order], labels[order])
    agrees(model, inputs, labels)
    agrees(model, inputs[:2], labels[:2])


def test_a_first_batch_of_one_does_not_hide_that_the_model_sorts() -> None:
    model, inputs, labels = made("sorting", 8)
    agrees(model, inputs[:1], labels[:1])
    agrees(model, inputs, labels)


def test_a_first_batch_of_equals_does_not_hide_that_the_model_sorts() -> None:
    model, inputs, labels = made("sorting", 8)
    equal = inputs.clone()
    equal[:, 0] = 1
    agrees(model, equal, labels)
    agrees(model, inputs, labels)


def test_the_last_layers_norm_is_that_of_each_sample_alone_where_it_meets_a_learned_row() -> None:
    model, inputs, labels = made("learned row, layer norm", 5)
    alone = [grand_last_layer(model, inputs[i : i + 1], labels[i : i + 1], layer=model.gate) for i in range(5)]
    torch.testing.assert_close(
        grand_last_layer(model, inputs, labels, layer=model.gate), torch.cat(alone), rtol=1e-10, atol=0
    )


def test_an_ignored_sample_has_no_norm_and_no_share_in_what_is_judged() -> None:
    model, inputs, labels = made("learned queries", 6)
    labels[2] = -100
    agrees(model, inputs, labels)


def test_inputs_made_in_inference_mode_are_taken() -> None:
    model, inputs, labels = made("learned queries", 6)
    with torch.inference_mode():
        made_there = inputs + 0
    assert torch.equal(grand(model, made_there, labels), grand(model, inputs, labels))
