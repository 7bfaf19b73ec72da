"""Solve (H + damping·I) x = b knowing only products: conjugate gradients, and LiSSA from one batch a step."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.gradients.hessian import Product


class CGState(NamedTuple):
    """All that conjugate gradients know between two steps, so that they can stop at any and go on."""

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
    """x with ‖A x − target‖ ≤ tolerance · ‖target‖; a warning names the residual where that is not reached.

    Args:
        product: v -> A·v for a symmetric positive definite A.
        target: (parameters,).
        tolerance: relative residual.
        max_iterations: products at most.
        state: go on from here.
        on_step: told of each state and its relative residual.

    Returns:
        (parameters,).

    Raises:
        InvalidValue: a direction of no or negative curvature: A is not positive definite.

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
    """A⁻¹·target by the series h ← target + h − A h / scale, whose limit is scale · A⁻¹ target: divided out here.

    Args:
        product: v -> A·v, each call from another batch if it likes.
        target: (parameters,).
        scale: above half of A's largest eigenvalue, or it diverges; larger is slower. If not given, 1.5 times the
            largest eigenvalue that ten power iterations see.
        iterations: steps of one estimate.
        repeats: estimates that are averaged.
        on_step: told of the number of steps made.

    Returns:
        (parameters,).

    Raises:
        InvalidValue: it diverges; the message says by which curvature.

    Source:
        Agarwal, Bullins, Hazan 2017, Second-Order Stochastic Optimization for Machine Learning in Linear Time;
        Koh, Liang 2017, section 3.
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
    """Raise once the series grows faster than it can where it converges.

    If no step expands, ‖h_j‖ ≤ j·‖target‖; ten times that leaves room for single batches that do.
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
    """A's largest eigenvalue as power iteration sees it; raises where the largest one is negative."""
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
