"""How a model changes between two states: the tangent kernel's velocity and the error barrier, by their definitions."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch import IndexedDataset, error_barrier, ntk_velocity

IMAGES, LABELS = torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(0)).double(), torch.arange(12) % 3


def plain() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.Tanh(), nn.Linear(5, 3))


def with_buffers() -> nn.Module:
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3)
    return nn.Sequential(*layers)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(36, 36, bias=False), nn.Linear(36, 36, bias=False)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(36, 3).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.frozen(self.second(self.first(images.flatten(1)).tanh()))


each_model = pytest.mark.parametrize("make", [plain, with_buffers, Tied])
Make = Callable[[], nn.Module]


def states(make: Make, steps: int = 3) -> tuple[nn.Module, nn.Module]:
    """A model before and after some steps."""
    torch.manual_seed(1)
    before = make().double()
    after = copy.deepcopy(before).train()
    optimizer = torch.optim.SGD([p for p in after.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(after(IMAGES), LABELS).backward()
        optimizer.step()
    return before, after


def kernel(model: nn.Module) -> Tensor:
    """J Jᵀ, row by row by plain autograd."""
    model = copy.deepcopy(model).eval()
    weights = [p for p in model.parameters() if p.requires_grad]
    outputs = model(IMAGES).flatten()
    rows = [torch.cat([g.flatten() for g in torch.autograd.grad(o, weights, retain_graph=True)]) for o in outputs]
    jacobian = torch.stack(rows)
    return jacobian @ jacobian.T


@each_model
@pytest.mark.parametrize("chunk_size", [None, 5, 100])
def test_the_velocity_is_the_cosine_distance_of_the_kernels(make: Make, chunk_size: int | None) -> None:
    before, after = states(make)
    one, other = kernel(before), kernel(after)
    expected = 1 - (one * other).sum() / (one.norm() * other.norm())
    found = ntk_velocity(make().double(), before.state_dict(), after.state_dict(), IMAGES, chunk_size=chunk_size)
    assert found == pytest.approx(float(expected), rel=1e-9)
    assert found > 1e-6


def test_the_kernel_of_a_linear_model_stands_still() -> None:
    model, other = nn.Linear(4, 2), nn.Linear(4, 2)
    assert ntk_velocity(model, model.state_dict(), other.state_dict(), torch.randn(5, 4)) == pytest.approx(0, abs=1e-12)


def test_states_can_be_modules() -> None:
    before, after = states(plain)
    by_state = ntk_velocity(plain().double(), before.state_dict(), after.state_dict(), IMAGES)
    assert ntk_velocity(before, before, after, IMAGES) == by_state


def errors(model: nn.Module) -> float:
    return float((copy.deepcopy(model).eval()(IMAGES).argmax(1) != LABELS).double().mean())


@each_model
def test_the_barrier_is_the_largest_rise_above_the_line_between_both_errors(make: Make) -> None:
    torch.manual_seed(2)
    a, b = states(make, 40)[1], make().double()
    between, found = make().double(), []
    for alpha in np.linspace(0, 1, 11).tolist():
        mixed = {
            name: alpha * a.state_dict()[name] + (1 - alpha) * tensor if tensor.is_floating_point() else tensor
            for name, tensor in b.state_dict().items()
        }
        between.load_state_dict(mixed)
        found.append(errors(between) - alpha * errors(a) - (1 - alpha) * errors(b))
    loader = [(IMAGES[i : i + 7], LABELS[i : i + 7]) for i in range(0, 12, 7)]
    assert error_barrier(make().double(), a, b, loader, points=11) == pytest.approx(max(found), abs=1e-12)


def test_the_barrier_of_one_model_with_itself_is_0() -> None:
    model = plain().double()
    assert error_barrier(model, model, model, [(IMAGES, LABELS)]) == 0


def test_two_points_are_the_ends_between_which_nothing_rises() -> None:
    a, b = states(plain)
    assert error_barrier(a, a, b, [(IMAGES, LABELS)], points=2) == 0


def test_a_known_barrier() -> None:
    """Two weights of opposite signs are right, and 0 between them is wrong: at α = ½ all of three samples."""
    model, x, y = nn.Linear(1, 1, bias=False), torch.ones(3, 1), torch.ones(3)

    def off(output: Tensor, labels: Tensor) -> Tensor:
        return output[:, 0].abs() != labels

    a, b = {"weight": torch.ones(1, 1)}, {"weight": -torch.ones(1, 1)}
    assert error_barrier(model, a, b, [(x, y)], points=3, error_fn=off) == 1


def test_a_loader_may_carry_rows() -> None:
    a, b = states(plain)
    loader = torch.utils.data.DataLoader(IndexedDataset(torch.utils.data.TensorDataset(IMAGES, LABELS)), batch_size=5)
    assert error_barrier(a, a, b, loader) == error_barrier(a, a, b, [(IMAGES, LABELS)])


@each_model
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_given_back_as_it_was(make: Make, fails: bool) -> None:
    before, after = states(make)
    model = make().double().train()
    model[2].eval() if isinstance(model, nn.Sequential) else None
    kept, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    state = torch.get_rng_state()
    images, labels = (IMAGES, LABELS) if not fails else (IMAGES[:, :, :5, :5], LABELS)
    for call in (
        lambda: ntk_velocity(model, before, after, images),
        lambda: error_barrier(model, before, after, [(images, labels)]),
    ):
        if fails:
            with pytest.raises(RuntimeError, match="shape"):
                call()
        else:
            call()
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_state_of_another_model_is_refused_by_name() -> None:
    model = plain().double()
    wrapped = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    with pytest.raises(
        InvalidValue, match=r"after is no state of this model: '1\.bias' is in the model, but not in it"
    ):
        ntk_velocity(model, model, wrapped, IMAGES)
    wider = nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.Tanh(), nn.Linear(6, 3))
    with pytest.raises(InvalidValue, match=r"a\['1\.weight'\] has shape \(6, 36\), the model's \(5, 36\)"):
        error_barrier(model, wider, model, [(IMAGES, LABELS)])
    model[1].weight.data[0, 0] = torch.nan
    with pytest.raises(InvalidValue, match=r"before\['1\.weight'\] holds NaN"):
        ntk_velocity(model, model, model, IMAGES)


def test_a_state_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"before is of str: pass what state_dict\(\) gives, loaded"):
        ntk_velocity(plain(), "epoch-3.pt", plain(), IMAGES)  # type: ignore[arg-type]


def test_wrapped_modules_are_states_too() -> None:
    a, b = states(plain)
    wrapped = [nn.DataParallel(module) for module in (a, a, b)]
    assert error_barrier(*wrapped, [(IMAGES, LABELS)]) == error_barrier(a, a, b, [(IMAGES, LABELS)])
    assert ntk_velocity(*wrapped, IMAGES) == ntk_velocity(a, a, b, IMAGES)


class Masked(nn.Module):
    """A mask of −inf, and integers and complex numbers, among the buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(36, 3)
        self.register_buffer("mask", torch.tensor([0.0, 0.0, -torch.inf]))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("phase", torch.tensor(1j))

    def forward(self, images: Tensor) -> Tensor:
        return (self.layer(images.flatten(1)) + self.mask).softmax(1)


def test_a_mask_of_inf_among_the_buffers_stays() -> None:
    torch.manual_seed(0)
    a, b = Masked(), Masked()
    images = IMAGES.float()
    assert 0 < ntk_velocity(a, a, b, images) < 1
    assert error_barrier(a, a, a, [(images, LABELS)]) == 0
    assert 0 <= error_barrier(a, a, b, [(images, LABELS)]) <= 1
    a.layer.bias.data[0] = torch.inf
    with pytest.raises(InvalidValue, match=r"before\['layer\.bias'\] holds NaN or inf"):
        ntk_velocity(a, a, b, images)


def test_what_has_no_velocity_is_refused() -> None:
    model = plain().double()
    with pytest.raises(InvalidValue, match="the batch is empty"):
        ntk_velocity(model, model, model, IMAGES[:0])
    with pytest.raises(InvalidValue, match="chunk_size=0"):
        ntk_velocity(model, model, model, IMAGES, chunk_size=0)
    with pytest.raises(InvalidValue, match="squared norms 0 and 0"):
        ntk_velocity(
            nn.Linear(2, 2, bias=False), {"weight": torch.ones(2, 2)}, {"weight": torch.ones(2, 2)}, torch.zeros(1, 2)
        )
    single = nn.Linear(2, 1)
    with pytest.raises(InvalidValue, match="one sample with one output is a number"):
        ntk_velocity(single, single, single, torch.ones(1, 2))
    with pytest.raises(InvalidValue, match="no trainable parameters"):
        ntk_velocity(model.requires_grad_(False), model, model, IMAGES)
    with pytest.raises(InvalidValue, match="without running statistics"):
        ntk_velocity(nn.BatchNorm1d(2, track_running_stats=False), {}, {}, torch.zeros(1, 2))


def test_what_has_no_barrier_is_refused() -> None:
    model = plain().double()
    with pytest.raises(InvalidValue, match="the loader yields no sample"):
        error_barrier(model, model, model, [])
    with pytest.raises(InvalidValue, match="points=1"):
        error_barrier(model, model, model, [(IMAGES, LABELS)], points=1)
    with pytest.raises(InvalidValue, match=r"error_fn gives \(\) for 12 labels"):
        error_barrier(model, model, model, [(IMAGES, LABELS)], error_fn=nn.functional.cross_entropy)
    with pytest.raises(InvalidValue, match=r"the labels have shape \(12, 3\)"):
        error_barrier(model, model, model, [(IMAGES, torch.eye(3)[LABELS])])
    with pytest.raises(InvalidValue, match="the model gives NaN"):
        error_barrier(model, model, model, [(IMAGES * torch.nan, LABELS)])
    for labels, words in ((LABELS + 1, "1 to 3"), (LABELS - 100, "-100 to -98")):
        with pytest.raises(InvalidValue, match=f"the labels are {words}, beyond the 3 classes"):
            error_barrier(model, model, model, [(IMAGES, labels)])
