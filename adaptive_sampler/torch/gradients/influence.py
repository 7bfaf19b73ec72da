"""Influence: how the mean clean loss of a trained model changes with each training sample's weight."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler

from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.progress import Show, Tell, shown
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.data.batches import batch_size
from adaptive_sampler.torch.gradients.alignment import along
from adaptive_sampler.torch.gradients.as_found import as_found
from adaptive_sampler.torch.gradients.functional import (
    LossFn,
    Params,
    check_finite,
    check_reached,
    cross_entropy,
    flat,
    gradients,
    leaves,
    losses,
    shaped,
    trainable,
    unwrapped,
)
from adaptive_sampler.torch.gradients.hessian import Hessian
from adaptive_sampler.torch.gradients.influence_file import InfluenceFile
from adaptive_sampler.torch.gradients.samples import device_of, samples
from adaptive_sampler.torch.gradients.solvers import conjugate_gradients, lissa


def influence(
    model: nn.Module,
    train_loader: Iterable[Any],
    clean_loader: Iterable[Any],
    *,
    solver: Literal["cg", "lissa"] = "cg",
    damping: float = 0.01,
    loss_fn: LossFn = cross_entropy,
    store: ScoreStore | None = None,
    score: str = "influence",
    tolerance: float | None = None,
    max_iterations: int = 1000,
    scale: float | None = None,
    repeats: int = 1,
    checkpoint: str | Path | None = None,
    progress: Show = None,
) -> Tensor:
    """Influence of every training sample: d(mean clean loss) / d(weight of the sample), in eval mode.

    The training loss is (1/n) Σ w_i ℓ_i with all weights 1, and the model is assumed to be at its minimum. Then
    dL_clean/dw_i = −(1/n) ⟨s, ∇ℓ_i⟩ with s = (H + damping·I)⁻¹ ∇L_clean. A positive value means that more weight on the
    sample raises the clean loss, so the sample is unfavourable; leaving it out changes the clean loss by minus the
    value, to first order. s is solved for once; after that, each batch costs one forward-mode pass.

    Args:
        model: trained. It is run in eval mode and given back in the mode it was in.
        train_loader: batches (rows, (inputs, labels)) of an IndexedDataset, each row once; without rows the loader must
            keep the data set's order. Iterated once per CG iteration, and once for the values.
        clean_loader: batches of (inputs, labels), with or without rows, of trusted data; iterated once.
        solver: "cg" is exact and takes a pass over the training data per iteration; "lissa" is stochastic and takes a
            batch per iteration.
        damping: added to the Hessian's diagonal. Put the weight decay λ of a loss with λ/2·‖θ‖² here; a model that is
            not at a minimum needs more.
        loss_fn: (model output, labels) -> (batch,) losses.
        store: the values are folded into its score `score` once all of them are known.
        score: the name of the store's score.
        tolerance: CG's relative residual; if not given, 1e-10 for float64 models and 1e-5 for others.
        max_iterations: the most iterations of CG; the number of steps of LiSSA.
        scale: LiSSA's scale; estimated if not given.
        repeats: how many estimates of LiSSA are averaged.
        checkpoint: a file in which progress is kept, written every 30 seconds and when the call ends or fails. The same
            call with the same file goes on from the last iteration of CG, or the last batch. It is never deleted for
            you.
        progress: True for a bar on stderr, None for a bar only if stderr is a terminal, False for none, or a function
            of (done, total or None).

    Returns:
        (n,) by row on the CPU, float32 (float64 for float64 models), NaN for rows that the loader does not yield: loss
        per unit of weight.

    Raises:
        InvalidValue: a loader yields no batch; rows are unknown; the model has no trainable parameters, is or holds a
            module of TorchScript or a dynamically quantised one, or is sharded; the loss is not per-sample, uses a
            parameter by a reference of its own, or has no second derivative; a label is beyond the classes; the model
            writes to a parameter; gradients are not finite; the damped Hessian is not positive definite; or LiSSA
            diverges.
        ResumeError: `checkpoint` is of another model or of other settings.

    Source:
        Koh, Liang 2017, Understanding Black-box Predictions via Influence Functions, equation 2 and section 3.
    """
    _check(solver, damping, max_iterations, repeats)
    model = unwrapped(model)
    params = trainable(model)
    if tolerance is None:
        tolerance = 1e-10 if flat(params).dtype == torch.float64 else 1e-5
    settings = [solver, damping, tolerance, max_iterations, scale, repeats]
    done = InfluenceFile.begin(None if checkpoint is None else Path(checkpoint), params, settings)
    with as_found(model, evaluate=True), done.saving(), shown(progress, "influence") as tell:
        if done.solution is None:
            target = _clean_gradient(model, params, clean_loader, loss_fn)
            hessian = Hessian(model, train_loader, params, loss_fn, damping)
            if solver == "cg":
                done.solution = _by_cg(hessian, target, tolerance, max_iterations, done, tell)
            else:
                done.solution = lissa(
                    hessian.batchwise(),
                    target,
                    scale=scale,
                    iterations=max_iterations,
                    repeats=repeats,
                    on_step=lambda step: tell(step, max_iterations * repeats, "LiSSA, steps"),
                )
        values = _by_row(model, params, done, train_loader, loss_fn, tell)
    if store is not None:
        rows = np.flatnonzero(~np.isnan(values.numpy()))
        store.fold(score, rows, values.numpy()[rows].astype(np.float32))
    return values


def _by_cg(hessian: Hessian, target: Tensor, tolerance: float, limit: int, done: InfluenceFile, tell: Tell) -> Tensor:
    """s by conjugate gradients, (parameters,), from the step that `done` holds; each step is kept there and told to `tell`."""

    def on_step(state: Any, error: float) -> None:
        done.keep_step(state)
        tell(state.iteration, None, f"conjugate gradients, relative residual {error:.1e}, iterations")

    return conjugate_gradients(
        hessian.full,
        target,
        tolerance=tolerance,
        max_iterations=limit,
        state=done.cg_state(target),
        on_step=on_step,
    )


def _clean_gradient(model: nn.Module, params: Params, loader: Iterable[Any], loss_fn: LossFn) -> Tensor:
    """The gradient of the mean loss over the whole clean set, (parameters,)."""
    total, count = torch.zeros_like(flat(params)), 0
    for _, inputs, labels in samples(loader, device_of(model)):
        theta = leaves(params)
        loss = losses(model, theta, inputs, labels, loss_fn)
        check_reached(model, loss)
        total, count = total + flat(gradients(loss.sum(), theta)), count + batch_size(inputs)
    if not count:
        raise InvalidValue("clean_loader yields no batch: influence needs at least one trusted sample; give some")
    return check_finite(total / count, "the clean loss's gradient")


def _by_row(
    model: nn.Module, params: Params, done: InfluenceFile, loader: Iterable[Any], loss_fn: LossFn, tell: Tell
) -> Tensor:
    """−(1/n) ⟨s, ∇ℓ_i⟩, (n,): the value of every sample of the loader, at its row."""
    assert done.solution is not None
    direction = shaped(done.solution, params)
    count, known = 0, _length(loader)
    for number, (rows, inputs, labels) in enumerate(samples(loader, device_of(model)), start=1):
        size = batch_size(inputs)
        places = _rows(rows, loader, count, size)
        if not done.has(places):
            products = along(model, params, direction, inputs, labels, loss_fn)
            done.keep(places, check_finite(products, f"⟨s, ∇ℓ_i⟩ of batch {number}"))
        count += size
        tell(count, known or None, "influence, samples")
    if not count:
        raise InvalidValue("train_loader yields no batch: influence needs at least one sample; give some")
    return done.products(known) / -count


def _rows(rows: Tensor | None, loader: Iterable[Any], start: int, size: int) -> np.ndarray[Any, Any]:
    """(size,) int64: the rows that the batch carries, or its places in the loader's order, if that is the data set's.

    Raises `InvalidValue` if a DataLoader without rows draws in another order.
    """
    if rows is not None:
        return rows.cpu().numpy().astype(np.int64)
    if isinstance(loader, DataLoader) and not isinstance(loader.sampler, SequentialSampler):
        raise InvalidValue(
            f"train_loader brings no rows and draws by {type(loader.sampler).__name__}: whose values these are is "
            "unknown; wrap the data set in IndexedDataset, or use shuffle=False"
        )
    return np.arange(start, start + size)


def _length(loader: Iterable[Any]) -> int:
    """The number of samples in the loader's data set; 0 if it is not known."""
    try:
        return len(loader.dataset)  # type: ignore[attr-defined]  # some iterables have none
    except (AttributeError, TypeError):
        return 0


def _check(solver: str, damping: float, max_iterations: int, repeats: int) -> None:
    if solver not in ("cg", "lissa"):
        raise InvalidValue(f"solver is {solver!r}: it must be 'cg' or 'lissa'")
    if not 0 <= damping < float("inf"):
        raise InvalidValue(f"damping is {damping}: it must be a finite number of at least 0; 0.01 is usual")
    for name, value in (("max_iterations", max_iterations), ("repeats", repeats)):
        whole_number(name, value, 1)
