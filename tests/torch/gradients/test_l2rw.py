"""Facts about L2RW: the weights of the two-step definition, from one backward pass and one forward-mode pass."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, TensorDataset

from adaptive_sampler import ScoreStore, scoring
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.gradients.functional import cross_entropy
from adaptive_sampler.torch.gradients.l2rw import L2RWLoss, l2rw_weights
from benchmarks import gradients
from benchmarks import l2rw as benchmark
from tests.references import l2rw_two_steps
from tests.torch.gradients.models import MODELS, made

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'", "ignore:.*no forward-mode derivative")

TWICE_DIFFERENTIABLE = [name for name in MODELS if name not in ("by frequency",)]


def clean_for(name: str) -> tuple[Tensor, Tensor]:
    _, inputs, labels = made(name, seed=5)
    return inputs[:5], labels[:5]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", TWICE_DIFFERENTIABLE)
def test_equals_the_two_step_definition(name: str, mode: str) -> None:
    """Batch norm by batch statistics, dropout with the same masks, tied and frozen parameters included."""
    model, inputs, labels = made(name)
    model.train(mode == "train")
    clean = clean_for(name)
    found = l2rw_weights(model, inputs, labels, *clean)
    with sdpa_kernel(SDPBackend.MATH):
        wanted = l2rw_two_steps(model, inputs, labels, *clean, cross_entropy)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    assert float(found.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("step", [1.0, 1e-3])
def test_the_worked_regression_gives_the_worked_weights(step: float) -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.ones_(model.weight)
    inputs = torch.tensor([[1.0], [2.0], [-1.0], [0.0]], dtype=torch.float64)
    labels = torch.tensor([0.0, 3.0, -3.0, 5.0], dtype=torch.float64)
    clean = torch.ones(2, 1, dtype=torch.float64), torch.tensor([2.0, 0.5], dtype=torch.float64)

    def half_square(out: Tensor, y: Tensor) -> Tensor:
        return (out[:, 0] - y) ** 2 / 2

    found = l2rw_weights(model, inputs, labels, *clean, loss_fn=half_square)
    assert found.tolist() == [0.0, 0.5, 0.5, 0.0]
    assert l2rw_two_steps(model, inputs, labels, *clean, half_square, step).tolist() == pytest.approx([0, 0.5, 0.5, 0])


def test_weights_are_all_zero_where_no_sample_agrees() -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    inputs, labels = torch.ones(3, 1, dtype=torch.float64), torch.full((3,), 100.0, dtype=torch.float64)
    found = l2rw_weights(model, inputs, labels, inputs, -labels, loss_fn=lambda out, y: (out[:, 0] - y) ** 2)
    assert found.tolist() == [0.0, 0.0, 0.0]


def test_weights_carry_no_gradient_and_do_not_depend_on_the_clean_losss_scale() -> None:
    model, inputs, labels = made("frozen")
    clean = clean_for("frozen")
    found = l2rw_weights(model, inputs, labels, *clean)
    assert not found.requires_grad
    scaled = l2rw_weights(model, inputs, labels, *clean, loss_fn=lambda z, y: cross_entropy(z, y) * 1e-6)
    torch.testing.assert_close(found, scaled)


def test_running_statistics_grads_mode_and_random_state_are_left_as_found() -> None:
    model, inputs, labels = made("convolutional")
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    clean = clean_for("convolutional")
    state = torch.get_rng_state()
    l2rw_weights(model, inputs, labels, *clean)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[3].weight.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_weights_are_the_same_up_to_rounding(dtype: torch.dtype) -> None:
    model, inputs, labels = made("frozen")
    model, inputs = model.float(), inputs.float()
    clean_inputs, clean_labels = clean_for("frozen")
    wanted = l2rw_weights(model, inputs, labels, clean_inputs.float(), clean_labels)
    with torch.autocast("cpu", dtype):
        found = l2rw_weights(model, inputs, labels, clean_inputs.float(), clean_labels)
    assert (found - wanted).abs().max() < 0.03


def test_float16_gradients_do_not_underflow() -> None:
    """A loss of 1e-6 has float16 gradients below the smallest number there is."""
    model, inputs, labels = made("frozen")
    model, inputs = model.float(), inputs.float()
    clean_inputs, clean_labels = clean_for("frozen")
    with torch.autocast("cpu", torch.float16):
        found = l2rw_weights(model, inputs, labels, clean_inputs.float(), clean_labels)
        small = l2rw_weights(
            model, inputs, labels, clean_inputs.float(), clean_labels, loss_fn=lambda z, y: cross_entropy(z, y) * 1e-3
        )
    assert (found - small).abs().max() < 0.03


def test_a_compiled_model_gives_what_the_plain_one_gives() -> None:
    model, inputs, labels = made("tied")
    clean = clean_for("tied")
    wanted = l2rw_weights(model, inputs, labels, *clean)
    compiled = torch.compile(model, backend="eager")
    compiled(inputs)
    assert torch.equal(l2rw_weights(compiled, inputs, labels, *clean), wanted)


def on_a_rank(rank: int, folder: str) -> None:
    """One of two processes: each has half of the clean batch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model, inputs, labels = made("frozen")
    _, clean_inputs, clean_labels = made("frozen", seed=5)
    half = slice(3 * rank, 3 * rank + 3)
    clean = clean_inputs[half], clean_labels[half]
    wrapped = l2rw_weights(nn.parallel.DistributedDataParallel(model), inputs, labels, *clean)
    by_group = l2rw_weights(model, inputs, labels, *clean, group=dist.group.WORLD)
    alone = l2rw_weights(model, inputs, labels, *clean)
    torch.save((wrapped, by_group, alone), f"{folder}/{rank}")
    dist.destroy_process_group()


def test_ranks_average_their_clean_gradients(tmp_path: Path) -> None:
    mp.spawn(on_a_rank, args=(str(tmp_path),), nprocs=2)
    model, inputs, labels = made("frozen")
    _, clean_inputs, clean_labels = made("frozen", seed=5)
    wanted = l2rw_weights(model, inputs, labels, clean_inputs[:6], clean_labels[:6])
    for rank in (0, 1):
        wrapped, by_group, alone = torch.load(tmp_path / str(rank))
        torch.testing.assert_close(wrapped, wanted, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(by_group, wanted, rtol=1e-10, atol=1e-12)
        assert not torch.allclose(alone, wanted)


# the benchmarks


def test_the_benchmarks_two_steps_and_its_parts_give_the_same_weights() -> None:
    model, data = gradients.CONV.model().double(), gradients.CONV.batch(6, "cpu")
    inputs, labels = data[0].double(), data[1]
    clean = inputs[:3] + 1, labels[:3]
    wanted = l2rw_weights(model, inputs, labels, *clean)
    torch.testing.assert_close(gradients.two_steps(model, inputs, labels, *clean), wanted, rtol=1e-9, atol=1e-12)
    kept = gradients.parts_alone(model, inputs, labels, *clean).clamp(min=0)
    torch.testing.assert_close(kept / kept.sum(), wanted, rtol=1e-9, atol=1e-12)
    rows = gradients.l2rw_rows(4, rounds=1, device="cpu")
    assert [row["clean"] for row in rows] == [1] * 4 + [4] * 4


def fashion(folder: Path) -> Path:
    """Noise in the files' format, 6,000 training and 20 test images."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 12_000), ("t10k", 20)):
        images, labels = rng.integers(0, 256, (n, 28, 28), np.uint8), (np.arange(n) % 10).astype(np.uint8)
        labels = np.where(np.arange(n) % 2 == 0, 4, labels).astype(np.uint8)  # half of them the common class
        for kind, header, array in (("images-idx3", 16, images), ("labels-idx1", 8, labels)):
            packed = gzip.compress(bytes(header) + array.tobytes(), compresslevel=0)
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(packed)
    return folder


@pytest.mark.parametrize("method", benchmark.METHODS)
def test_the_benchmark_runs_each_method(method: str, tmp_path: Path) -> None:
    data = benchmark.noisy(fashion(tmp_path), seed=0)
    assert len(data["train x"]) == 5000
    found = benchmark.run(method, data, classes=10, seed=0, steps=2)
    assert 0 <= found["error"] <= 1


def test_the_benchmarks_table_and_figure_come_from_its_runs(tmp_path: Path) -> None:
    runs = [
        {"task": task, "method": method, "seed": seed, "steps": 10, "error": 0.1 + seed / 100, "seconds": 0.05}
        for task in ("0.995", "noise")
        for method in benchmark.METHODS
        for seed in (0, 2)
    ]
    plain = benchmark.table(runs)[0]
    assert plain == {
        "method": "plain",
        "0.995": "11.0 ± 1.4 (2)",
        "noise": "11.0 ± 1.4 (2)",
        "diverged": 0,
        "ms a step": 5.0,
    }
    benchmark.figure(runs, tmp_path / "error.png")
    assert (tmp_path / "error.png").stat().st_size > 1000


def test_the_benchmark_says_where_its_data_come_from(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"is missing. On Debian: apt-get install dataset-fashion-mnist"):
        benchmark.read(tmp_path, "train")


# the loss


def loop(n: int = 20, batch_size: int = 8) -> tuple[nn.Module, DataLoader[Any], list[Any]]:
    """A model, a loader that brings rows, and a clean set of one batch."""
    model, _, _ = made("tied")
    generator = torch.Generator().manual_seed(3)
    tokens, labels = torch.randint(11, (n, 7), generator=generator), torch.randint(11, (n,), generator=generator)
    data = [(row, (tokens[row], labels[row])) for row in range(n)]
    return model, DataLoader(data, batch_size=batch_size), [clean_for("tied")]  # type: ignore[arg-type]


def test_the_loss_is_the_weighted_sum_and_its_gradient_reaches_the_model() -> None:
    model, loader, clean = loop()
    criterion = L2RWLoss(model, clean)
    for inputs, labels in criterion.watch(loader):
        weights = l2rw_weights(model, inputs, labels, *clean[0])
        loss = criterion(inputs, labels)
        wanted = (weights * cross_entropy(model(inputs), labels)).sum()
        torch.testing.assert_close(loss, wanted)
        gradients = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        for found, right in zip(gradients, torch.autograd.grad(wanted, list(model.parameters())), strict=True):
            torch.testing.assert_close(found, right)


def test_the_store_gets_weight_times_batch_size_also_of_the_ragged_batch(tmp_path: Path) -> None:
    model, loader, clean = loop(n=20, batch_size=8)
    with ScoreStore.create(tmp_path / "s", 20, [scoring.L2RW()]) as store:
        criterion = L2RWLoss(model, clean, store)
        for inputs, labels in criterion.watch(loader):
            criterion(inputs, labels)
        kept = np.asarray(store["l2rw"])
    for start, stop in ((0, 8), (8, 16), (16, 20)):
        assert kept[start:stop].sum() == pytest.approx(stop - start, rel=1e-5)


def test_rows_may_be_passed_and_weights_used_in_a_loop_of_ones_own(tmp_path: Path) -> None:
    model, loader, clean = loop()
    with ScoreStore.create(tmp_path / "s", 20, [scoring.L2RW()]) as store:
        criterion = L2RWLoss(model, clean, store)
        inputs, labels = next(iter(loader))[1]
        weights = criterion.weights(inputs, labels, rows=torch.arange(12, 20))
        np.testing.assert_allclose(np.asarray(store["l2rw"])[12:], weights * 8, rtol=1e-6)
        assert np.isnan(np.asarray(store["l2rw"])[:12]).all()


def test_gradient_accumulation_goes_on_as_without_it() -> None:
    model, loader, clean = loop()
    criterion = L2RWLoss(model, clean)
    wanted = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for inputs, labels in criterion.watch(loader):
        weights = l2rw_weights(model, inputs, labels, *clean[0])
        loss = (weights * cross_entropy(model(inputs), labels)).sum() / 3
        for name, g in zip(wanted, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            wanted[name] += g
    for inputs, labels in criterion.watch(loader):
        (criterion(inputs, labels) / 3).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, wanted[name])


def test_the_clean_loader_is_begun_again_when_it_ends() -> None:
    model, loader, _ = loop()
    tokens, labels = clean_for("tied")
    clean = DataLoader(TensorDataset(tokens, labels), batch_size=3)
    criterion = L2RWLoss(model, clean)
    inputs, given = next(iter(loader))[1]
    found = [criterion.weights(inputs, given) for _ in range(3)]
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


def test_a_second_call_on_a_watched_batch_gives_its_loss_and_counts_no_second_time(tmp_path: Path) -> None:
    model, loader, clean = loop()
    with ScoreStore.create(tmp_path / "s", 20, [scoring.L2RW()]) as store:
        criterion = L2RWLoss(model, clean, store)
        for inputs, labels in criterion.watch(loader):
            criterion(inputs, labels)
            assert criterion(inputs, labels).requires_grad
        assert store.count("l2rw").max() == 1


def test_a_store_without_rows_is_refused(tmp_path: Path) -> None:
    model, loader, clean = loop()
    with ScoreStore.create(tmp_path / "s", 20, [scoring.L2RW()]) as store:
        criterion = L2RWLoss(model, clean, store)
        batches = criterion.watch(loader)
        inputs, labels = next(iter(loader))[1]
        with pytest.raises(InvalidValue, match="no rows for this loss call"):
            criterion(inputs, labels)
        next(batches)
        with pytest.raises(InvalidValue, match="the loss call has 4 samples, the watched batch 8 rows"):
            criterion(inputs[:4], labels[:4])


def test_a_store_without_the_score_is_refused(tmp_path: Path) -> None:
    model, _, clean = loop()
    with (
        ScoreStore.create(tmp_path / "s", 20, [scoring.EL2N()]) as store,
        pytest.raises(
            InvalidValue, match=r"the store's scores \['el2n'\] take no L2RW weight: create it with scoring.L2RW"
        ),
    ):
        L2RWLoss(model, clean, store)


def test_an_empty_clean_set_is_refused() -> None:
    model, loader, _ = loop()
    inputs, labels = next(iter(loader))[1]
    with pytest.raises(InvalidValue, match="the clean batch is empty"):
        l2rw_weights(model, inputs, labels, inputs[:0], labels[:0])
    with pytest.raises(InvalidValue, match=r"clean_loader yields no batch.*drop_last=True drops"):
        L2RWLoss(model, [])(inputs, labels)


def test_bad_input_is_named() -> None:
    model, inputs, labels = made("branching")
    clean = inputs, labels
    beyond = torch.full_like(labels, 11)
    with pytest.raises(InvalidValue, match="label 11 at position 0 is beyond the model's 11 classes"):
        l2rw_weights(model, inputs, beyond, *clean)
    with pytest.raises(InvalidValue, match="label 11 at position 0 is beyond the model's 11 classes"):
        l2rw_weights(model, inputs, labels, inputs, beyond)
    with pytest.raises(InvalidValue, match="loss_fn gave"):
        l2rw_weights(model, inputs, labels, *clean, loss_fn=nn.CrossEntropyLoss())
    with pytest.raises(InvalidValue, match="the length of ∇L_clean is nan"):
        l2rw_weights(model, inputs, labels, inputs * float("nan"), labels)
    with pytest.raises(InvalidValue, match=r"⟨∇ℓ_i, ∇L_clean⟩ at position 0 is nan"):
        l2rw_weights(model, inputs * float("nan"), labels, *clean)
    with pytest.raises(InvalidValue, match="no trainable parameters"):
        l2rw_weights(model.requires_grad_(False), inputs, labels, *clean)
