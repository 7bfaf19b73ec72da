"""Facts about `influence`: how the clean loss moves with each sample's weight."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler import ScoreStore, scoring
from adaptive_sampler.errors import InvalidValue, ResumeError
from adaptive_sampler.torch.data.dataset import IndexedDataset
from adaptive_sampler.torch.gradients.functional import cross_entropy
from adaptive_sampler.torch.gradients.influence import influence
from adaptive_sampler.torch.gradients.solvers import CGState, conjugate_gradients, largest_curvature, lissa
from tests.references import fit_logistic, influence_explicit

torch.set_num_threads(1)

DECAY = 0.1


def digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 images, scaled to 0 … 1, and their ten classes."""
    images, labels = load_digits(return_X_y=True)
    return images / 16, labels


def logistic(theta: np.ndarray) -> nn.Module:
    model = nn.Linear(64, len(theta), dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(theta[:, :-1]))
        model.bias.copy_(torch.from_numpy(theta[:, -1]))
    return model


def clean_loss(theta: np.ndarray, images: np.ndarray, labels: np.ndarray) -> float:
    with torch.no_grad():
        return float(cross_entropy(logistic(theta)(torch.from_numpy(images)), torch.from_numpy(labels)).mean())


def test_predicts_leave_one_out_retraining_of_logistic_regression_on_digits() -> None:
    images, labels = (part[digits()[1] < 5] for part in digits())
    train, clean = (images[:700], labels[:700]), (images[700:], labels[700:])
    theta, inverse = fit_logistic(*train, 5, DECAY)
    loader = DataLoader(TensorDataset(*map(torch.from_numpy, train)), batch_size=256)
    found = influence(logistic(theta), loader, [tuple(map(torch.from_numpy, clean))], damping=DECAY).numpy()
    most = np.argsort(-np.abs(found))[:100]
    moved = []
    for row in most:
        weights = np.ones(700)
        weights[row] = 0
        without, _ = fit_logistic(*train, 5, DECAY, weights, theta, inverse)
        moved.append(clean_loss(theta, *clean) - clean_loss(without, *clean))
    assert np.corrcoef(found[most], moved)[0, 1] >= 0.98
    assert np.polyfit(found[most], moved, 1)[0] == pytest.approx(1, abs=0.05)


def small() -> tuple[nn.Module, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A multilayer perceptron and its 40 training and 10 clean samples, float64."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    inputs, labels = torch.randn(50, 4, dtype=torch.float64), torch.randint(3, (50,))
    return model, (inputs[:40], labels[:40]), (inputs[40:], labels[40:])


def batched(data: tuple[Tensor, Tensor], **keywords: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*data), batch_size=7, **keywords)


def indexed(data: tuple[Tensor, Tensor], **keywords: Any) -> DataLoader[Any]:
    return DataLoader(IndexedDataset(TensorDataset(*data)), batch_size=7, **keywords)


@pytest.mark.parametrize("solver", ["cg", "lissa"])
def test_equals_the_explicit_hessian_on_a_small_network(solver: Any) -> None:
    model, train, clean = small()
    wanted = influence_explicit(model, cross_entropy, *train, *clean, damping=0.5)
    loader = [train] if solver == "lissa" else batched(train)
    found = influence(model, loader, batched(clean), solver=solver, damping=0.5)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6 * float(wanted.abs().max()))


def test_lissa_from_batches_is_close_and_repeats_bring_it_closer() -> None:
    model, train, clean = small()
    wanted = influence_explicit(model, cross_entropy, *train, *clean, damping=0.5)
    generator = torch.Generator().manual_seed(0)
    loader = indexed(train, shuffle=True, generator=generator)

    def error(repeats: int) -> float:
        found = influence(
            model, loader, [clean], solver="lissa", damping=0.5, scale=5, max_iterations=40, repeats=repeats
        )
        return float((found - wanted).norm() / wanted.norm())

    single, averaged = np.mean([error(1) for _ in range(4)]), error(16)
    assert averaged < single < 0.2


def test_a_harmful_sample_has_positive_influence() -> None:
    """A wrong label on a clean image: training on it raises the clean loss."""
    images, labels = digits()
    images, labels = images[labels < 3], labels[labels < 3].copy()
    labels[0] = (labels[0] + 1) % 3
    theta, _ = fit_logistic(images, labels, 3, DECAY)
    train = [(torch.from_numpy(images), torch.from_numpy(labels))]
    clean = [(torch.from_numpy(images[1:]), torch.from_numpy(labels[1:]))]
    found = influence(logistic(theta), train, clean, damping=DECAY)
    assert found[0] > 0
    assert int(found.argmax()) == 0


def test_agrees_with_dattri() -> None:
    hessian = pytest.importorskip("dattri.func.hessian")
    model, train, clean = small()
    names = dict(model.named_parameters())
    theta = torch.cat([p.detach().flatten() for p in names.values()])

    def losses(vector: Tensor, data: tuple[Tensor, Tensor]) -> Tensor:
        parts = torch.split(vector, [p.numel() for p in names.values()])
        shaped = {name: part.view_as(p) for (name, p), part in zip(names.items(), parts, strict=True)}
        return cross_entropy(torch.func.functional_call(model, shaped, (data[0],)), data[1])

    gradient = torch.func.grad(lambda v: losses(v, clean).mean())(theta)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dattri's own, about torch
        # it has no stopping rule, and divides zero by zero once it has converged
        solve = hessian.ihvp_cg(lambda v: losses(v, train).mean(), argnums=0, max_iter=14, regularization=0.5)
        solved = solve((theta,), gradient[None])[0]
    wanted = -(torch.func.jacrev(lambda v: losses(v, train))(theta) @ solved) / 40
    torch.testing.assert_close(influence(model, [train], [clean], damping=0.5), wanted, rtol=1e-6, atol=1e-9)


def test_values_are_by_row_whatever_the_order_and_batches() -> None:
    model, train, clean = small()
    wanted = influence(model, [train], [clean], damping=0.5)
    shuffled = indexed(train, shuffle=True, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(influence(model, shuffled, [clean], damping=0.5), wanted, rtol=1e-8, atol=1e-12)


def test_rows_the_loader_does_not_bring_are_nan_and_the_store_gets_the_others(tmp_path: Path) -> None:
    model, train, clean = small()
    half = indexed(train, sampler=list(range(0, 40, 2)))
    with ScoreStore.create(tmp_path / "s", 40, [scoring.Influence()]) as store:
        found = influence(model, half, [clean], damping=0.5, store=store)
        assert found[1::2].isnan().all()
        np.testing.assert_array_equal(np.asarray(store["influence"]), found.numpy().astype(np.float32))
    wanted = influence(model, [(train[0][::2], train[1][::2])], [clean], damping=0.5)
    torch.testing.assert_close(found[::2], wanted, rtol=1e-8, atol=1e-12)


def test_dict_samples_are_taken_with_their_key() -> None:
    class Named(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: Tensor) -> Any:
            return type("Output", (), {"logits": self.model(pixels)})()

    model, train, clean = small()
    data = [{"pixels": x, "labels": y} for x, y in zip(*train, strict=True)]
    loader = DataLoader(IndexedDataset(data, key="row"), batch_size=7)
    found = influence(Named(model), loader, [{"pixels": clean[0], "labels": clean[1]}], damping=0.5)
    torch.testing.assert_close(found, influence(model, [train], [clean], damping=0.5), rtol=1e-8, atol=1e-12)


class Broken(Exception):
    """What stops a run in these tests."""


class Breaking:
    """A loader that breaks after so many batches, counted over all its passes."""

    def __init__(self, loader: Any, after: int) -> None:
        self.loader, self.left = loader, after

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            if self.left == 0:
                raise Broken
            self.left -= 1
            yield batch


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.97, 0.99])
def test_resumed_anywhere_equals_never_stopped(tmp_path: Path, share: float) -> None:
    """In the first pass, between and within iterations of the solver, and among the values."""
    model, train, clean = small()
    endless = Breaking(indexed(train), 10**9)
    wanted = influence(model, endless, [clean], damping=0.5)
    breaking = Breaking(indexed(train), int(share * (10**9 - endless.left)))
    file = tmp_path / "influence.npz"
    with pytest.raises(Broken):
        influence(model, breaking, [clean], damping=0.5, checkpoint=file)
    assert torch.equal(influence(model, indexed(train), [clean], damping=0.5, checkpoint=file), wanted)


def test_a_resumed_run_does_not_solve_again(tmp_path: Path) -> None:
    model, train, clean = small()
    file = tmp_path / "influence.npz"
    found = influence(model, indexed(train), [clean], damping=0.5, checkpoint=file)
    once = Breaking(indexed(train), after=6)
    assert torch.equal(influence(model, once, [clean], damping=0.5, checkpoint=file), found)


def test_a_file_of_another_model_or_other_settings_is_refused(tmp_path: Path) -> None:
    model, train, clean = small()
    file = tmp_path / "influence.npz"
    influence(model, [train], [clean], damping=0.5, checkpoint=file)
    with pytest.raises(ResumeError, match=r"influence.npz is of another model or of other settings"):
        influence(model, [train], [clean], damping=0.6, checkpoint=file)
    with torch.no_grad():
        model[0].bias += 1
    with pytest.raises(ResumeError, match="another checkpoint=, or delete it"):
        influence(model, [train], [clean], damping=0.5, checkpoint=file)


def test_progress_is_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    model, train, clean = small()
    influence(model, batched(train), [clean], damping=0.5, progress=True)
    assert "40/40" in capsys.readouterr().err


def test_the_model_is_left_as_found_and_scored_in_eval_mode() -> None:
    model, train, clean = small()
    model = nn.Sequential(model, nn.Dropout(0.5), nn.BatchNorm1d(3, affine=False)).double()
    model(train[0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    found = influence(model, [train], [clean], damping=0.5)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(found, influence(model.eval(), [train], [clean], damping=0.5))


def test_float32_models_are_taken() -> None:
    model, train, clean = small()
    wanted = influence(model, [train], [clean], damping=0.5)
    found = influence(model.float(), [(train[0].float(), train[1])], [(clean[0].float(), clean[1])], damping=0.5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_data_dropout_as_documented_drops_mostly_wrong_labels(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "data_dropout.md").read_text()
    blocks = [block.split("```", 1)[0] for block in page.split("```python\n")[1:]]
    names: dict[str, Any] = {}
    exec("\n".join(blocks), names)
    assert "dropped 150, of which" in capsys.readouterr().out
    assert names["share_wrong"] > 0.6


# solvers


def test_lissas_scale_is_divided_out_as_worked() -> None:
    """H = 2, v = 1, scale 10: the series tends to 5, and 5/10 is 1/H."""
    target = torch.ones(1, dtype=torch.float64)
    found = lissa(lambda v: 2 * v, target, scale=10, iterations=400)
    assert float(found) == pytest.approx(0.5)


def test_lissa_estimates_its_scale() -> None:
    curvatures = torch.tensor([0.5, 3.0, 40.0], dtype=torch.float64)
    assert largest_curvature(lambda v: curvatures * v, curvatures) == pytest.approx(40, rel=1e-6)
    found = lissa(lambda v: curvatures * v, torch.ones(3, dtype=torch.float64), iterations=3000)
    torch.testing.assert_close(found, 1 / curvatures)


def test_a_scale_at_half_the_largest_curvature_diverges_by_name_and_above_it_does_not() -> None:
    target = torch.ones(1, dtype=torch.float64)
    with pytest.raises(
        InvalidValue, match=r"LiSSA diverges at step \d+.*the curvature there is 2; scale must exceed half"
    ):
        lissa(lambda v: 2 * v, target, scale=0.99, iterations=2000)
    assert float(lissa(lambda v: 2 * v, target, scale=1.01, iterations=2000)) == pytest.approx(0.5)


def test_lissa_names_negative_curvature() -> None:
    with pytest.raises(InvalidValue, match=r"LiSSA diverges.*not positive definite: its curvature.*is -0.5"):
        lissa(lambda v: -0.5 * v, torch.ones(1, dtype=torch.float64), scale=1, iterations=100)
    with pytest.raises(InvalidValue, match=r"not positive definite.*raise damping by more than 0.5"):
        lissa(lambda v: -0.5 * v, torch.ones(1, dtype=torch.float64), iterations=100)


def test_conjugate_gradients_say_where_they_stopped() -> None:
    curvatures = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    target = torch.ones(3, dtype=torch.float64)
    with pytest.warns(
        UserWarning, match=r"stopped after 1 iterations at a relative residual of .*raise max_iterations"
    ):
        conjugate_gradients(lambda v: curvatures * v, target, tolerance=1e-8, max_iterations=1)
    found = conjugate_gradients(lambda v: curvatures * v, target, tolerance=1e-12, max_iterations=9)
    torch.testing.assert_close(found, 1 / curvatures)


def test_conjugate_gradients_go_on_from_any_state() -> None:
    torch.manual_seed(0)
    root = torch.randn(6, 6, dtype=torch.float64)
    matrix, target = root @ root.T + torch.eye(6), torch.randn(6, dtype=torch.float64)
    states: list[CGState] = []
    wanted = conjugate_gradients(
        lambda v: matrix @ v, target, tolerance=1e-12, max_iterations=99, on_step=lambda s, e: states.append(s)
    )
    for state in states:
        again = conjugate_gradients(lambda v: matrix @ v, target, tolerance=1e-12, max_iterations=99, state=state)
        assert torch.equal(again, wanted)


def test_a_zero_clean_gradient_gives_zero() -> None:
    assert conjugate_gradients(lambda v: v, torch.zeros(3), tolerance=1e-5, max_iterations=9).tolist() == [0, 0, 0]


# bad input


@pytest.mark.parametrize("solver", ["cg", "lissa"])
def test_a_hessian_that_is_not_positive_definite_is_named(solver: Any) -> None:
    model, train, clean = small()
    with pytest.raises(
        InvalidValue, match=r"not positive definite: its curvature along one direction is -0\.\d+.*raise damping"
    ):
        influence(model, [train], [clean], solver=solver, damping=0.0, scale=3.0, max_iterations=5000)


def test_bad_input_is_named() -> None:
    model, train, clean = small()
    beyond = [(train[0], torch.full_like(train[1], 3))]
    cases: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("clean_loader yields no batch: influence needs at least one trusted", (model, [train], []), {}),
        ("train_loader yields no batch: the Hessian needs at least one", (model, [], [clean]), {}),
        ("train_loader yields no batch", (model, [], [clean]), {"solver": "lissa"}),
        ("label 3 at position 0 is beyond the model's 3 classes", (model, beyond, [clean]), {}),
        ("label 3 at position 0 is beyond the model's 3 classes", (model, [train], beyond), {}),
        (r"loss_fn gave \(\) for a batch of 10", (model, [train], [clean]), {"loss_fn": nn.CrossEntropyLoss()}),
        ("the clean loss's gradient at position 0 is nan", (model, [train], [(clean[0] * np.nan, clean[1])]), {}),
        ("solver is 'newton': it must be 'cg' or 'lissa'", (model, [train], [clean]), {"solver": "newton"}),
        ("damping is -1: it must be a finite number", (model, [train], [clean]), {"damping": -1}),
        ("max_iterations=0: a whole number, 1 or more", (model, [train], [clean]), {"max_iterations": 0}),
        ("brings no rows and draws by RandomSampler", (model, batched(train, shuffle=True), [clean]), {"damping": 0.5}),
        ("a sample of 3 items: it must be", (model, [(1, 2, 3)], [clean]), {}),
        ("no trainable parameters", (nn.Flatten(), [train], [clean]), {}),
        ("LiSSA's scale is 0", (model, [train], [clean]), {"solver": "lissa", "scale": 0}),
    ]
    for words, given, keywords in cases:
        with pytest.raises(InvalidValue, match=words):
            influence(*given, **keywords)


def test_a_loss_without_a_second_derivative_is_named() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * 2

    model, train, clean = small()
    with pytest.raises(InvalidValue, match=r"the loss has no second derivative.*influence needs one"):
        influence(model, [train], [clean], loss_fn=lambda z, y: cross_entropy(Once.apply(z), y))


def test_a_backward_that_drops_the_gradient_from_its_derivative_is_named() -> None:
    """It raises nothing by itself, and the Hessian would lack what lies behind it."""

    class Dropping(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return ctx.saved_tensors[0].cos() * gradient.detach()

    model, train, clean = small()
    with pytest.raises(
        InvalidValue, match=r"a backward does not follow the gradient that it is given.*score by `alignment`"
    ):
        influence(model, [train], [clean], damping=0.5, loss_fn=lambda z, y: cross_entropy(Dropping.apply(z), y))
