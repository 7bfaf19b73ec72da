"""Solvers of (H + damping·I) x = b that need only products: conjugate gradients, and LiSSA with one batch per step."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.gradients.hessian import Product


class CGState(NamedTuple):
    """All that conjugate gradients know between two steps, so that they can stop after any step and go on later."""

    solution: Tensor  # (parameters,)
    residual: Tensor  # (parameters,) b − A·solution
    direction: Tensor  # (parameters,)
    iteration: int

    @classmethod
    def start(cls, target: Tensor) -> "CGState":
        """From x = 0."""
        return cls(torch.zeros_like(target), target.clone(), target.clone(), 0)


def conjugate_gradients(
    product: Product,
    target: Tensor,
    *,
    tolerance: float,
    max_iterations: int,
    state: CGState | None = None,
    on_step: Callable[[CGState, float], None] = lambda state, error: None,
) -> Tensor:
    """Solve A x = target, until ‖A x − target‖ ≤ tolerance · ‖target‖.

    If that is not reached within `max_iterations`, a warning gives the residual.

    Args:
        product: v -> A·v for a symmetric positive definite A.
        target: (parameters,).
        tolerance: relative residual.
        max_iterations: how many products are computed, at most.
        state: go on from here; None to begin at x = 0.
        on_step: called with each new state, and the relative residual before that step.

    Returns:
        x, (parameters,).

    Raises:
        InvalidValue: the curvature in some direction is negative or zero: A is not positive definite.

    Source:
        Hestenes, Stiefel 1952; Martens 2010 for its use with Hessians.
    """
    state = CGState.start(target) if state is None else state
    length = float(torch.linalg.vector_norm(target)) or 1.0
    while (error := float(torch.linalg.vector_norm(state.residual)) / length) > tolerance:
        if state.iteration >= max_iterations:
            warnings.warn(
                f"conjugate gradients stopped after {state.iteration} iterations at a relative residual of {error:.2g} "
                f"(tolerance {tolerance:.2g}): raise max_iterations, damping or tolerance",
                stacklevel=2,
            )
            break
        state = _cg_step(product, state)
        on_step(state, error)
    return state.solution


def _cg_step(product: Product, state: CGState) -> CGState:
    """One step of conjugate gradients. Raises `InvalidValue` if A is not positive definite."""
    image = product(state.direction)
    bent = float(state.direction @ image)
    if not bent > 0:
        curvature = bent / float(state.direction @ state.direction)
        raise InvalidValue(_not_positive(curvature, "damping"))
    square = state.residual @ state.residual
    step = square / bent
    residual = state.residual - step * image
    return CGState(
        state.solution + step * state.direction,
        residual,
        residual + (residual @ residual) / square * state.direction,
        state.iteration + 1,
    )


def _not_positive(curvature: float, remedy: str) -> str:
    return (
        f"the damped Hessian is not positive definite: its curvature along one direction is {curvature:.3g}, and must "
        f"be above 0; raise {remedy} by more than {max(-curvature, 0.0):.3g}, or train closer to a minimum"
    )


def lissa(
    product: Product,
    target: Tensor,
    *,
    scale: float | None = None,
    iterations: int,
    repeats: int = 1,
    on_step: Callable[[int], None] = lambda step: None,
) -> Tensor:
    """A⁻¹·target by the series h ← target + h − A h / scale, whose limit scale · A⁻¹ target is divided by scale.

    Args:
        product: v -> A·v; each call may use another batch.
        target: (parameters,).
        scale: above half of A's largest eigenvalue, or the series diverges; a larger scale is slower. If not given, 1.5
            times the largest eigenvalue that ten power iterations find.
        iterations: the number of steps of one estimate.
        repeats: how many estimates are averaged.
        on_step: called with the number of steps made so far.

    Returns:
        (parameters,).

    Raises:
        InvalidValue: the series diverges, and the message gives the curvature; or `scale` is not above 0.

    Source:
        Agarwal, Bullins, Hazan 2017, Second-Order Stochastic Optimization for Machine Learning in Linear Time; Koh,
        Liang 2017, section 3.
    """
    scale = 1.5 * largest_curvature(product, target) if scale is None else scale
    if not scale > 0:
        raise InvalidValue(f"LiSSA's scale is {scale}: it must be above 0; leave it out to have it estimated")
    total = torch.zeros_like(target)
    for repeat in range(repeats):
        estimate = target.clone()
        for step in range(1, iterations + 1):
            image = product(estimate)
            _check_convergence(estimate, image, target, scale, step)
            estimate = target + estimate - image / scale
            on_step(repeat * iterations + step)
        total += estimate / scale
    return total / repeats


def _check_convergence(estimate: Tensor, image: Tensor, target: Tensor, scale: float, step: int) -> None:
    """Raise `InvalidValue` if the series grows faster than a convergent one can.

    If no step expands it, ‖h_j‖ ≤ j·‖target‖. Ten times as much is allowed, because single batches may expand it.
    """
    length, bound = float(torch.linalg.vector_norm(estimate)), float(torch.linalg.vector_norm(target)) * step
    if length <= 10 * bound:
        return
    curvature = float(estimate @ image) / length**2
    if curvature < 0:
        raise InvalidValue(f"LiSSA diverges at step {step}: " + _not_positive(curvature, "damping"))
    raise InvalidValue(
        f"LiSSA diverges at step {step}: its estimate is {length / max(bound, 1e-30):.3g} times what it can be, and "
        f"the curvature there is {curvature:.3g}; scale must exceed half of the largest curvature but is {scale:.3g}: "
        f"use scale={curvature:.3g} or more, or leave it out to have it estimated"
    )


def largest_curvature(product: Product, like: Tensor, iterations: int = 10) -> float:
    """A's largest eigenvalue, as `iterations` power iterations find it.

    Raises `InvalidValue` if what the last iteration finds is not above 0.
    """
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    found = []
    for _ in range(iterations):
        vector = vector / torch.linalg.vector_norm(vector)
        image = product(vector)
        found.append(float(vector @ image))
        vector = image
    if not found[-1] > 0:
        raise InvalidValue(_not_positive(found[-1], "damping"))
    return max(found)
