"""How fast the neural tangent kernel turns: the distance of the kernels of a few samples at two moments of a training."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data.batches import batch_size, map_tensors, part
from adaptive_sampler.torch.gradients.as_found import as_found
from adaptive_sampler.torch.gradients.functional import Params, followed, gradients, trainable, unwrapped
from adaptive_sampler.torch.gradients.grand import check_batch
from adaptive_sampler.torch.gradients.states import State, tensors_at

_MEMORY = 1 << 30  # bytes that Jacobians take at once, if chunk_size is not given


def ntk_velocity(model: nn.Module, before: State, after: State, subset: Any, *, chunk_size: int | None = None) -> float:
    """How far the tangent kernel of a subset turns between two states: 0 not at all, 1 at most.

    The kernel is K = J Jᵀ, where J has a row for each sample and output, its gradient over all trainable parameters; the
    distance is 1 − ⟨K, K′⟩ / (‖K‖ ‖K′‖), in the Frobenius product. For states that lie more than an epoch apart, divide it by
    their epochs. Samples run one at a time, in eval mode, so that batch norm uses the running statistics of each state and
    dropout does nothing. The kernels are never held as a whole: the distance is summed over pairs of chunks, whose Jacobians
    are formed anew for each pair, so that time grows with the square of the number of chunks.

    Args:
        model: any module; it is given back as it was. Its own values do not matter.
        before: `state_dict()` of the model at one moment, or a module of the same kind.
        after: likewise, at the other moment.
        subset: (m, …) tensor of inputs; a tuple is passed as positional arguments, a mapping as keyword arguments. Take rows by
            their score with `adaptive_sampler.ranking.by_rank`.
        chunk_size: how many samples' Jacobians are held at once, for each of two chunks and states; None: as many as fit 1 GiB.

    Returns:
        The distance, without a unit, in [0, 1].

    Raises:
        InvalidValue: a state that is not this model's; outputs that are no floating tensor with a batch axis; a kernel that is 0,
            or a single number, which cannot turn; and as `grand` does for models without gradients of single samples.

    Source:
        Fort et al. 2020, Deep learning versus kernel learning, section 4 (kernel velocity); Paul et al. 2021, section 5.
    """
    model = unwrapped(model)
    check_batch(model, subset, 1 if chunk_size is None else chunk_size)
    states = [tensors_at(model, before, "before"), tensors_at(model, after, "after")]
    subset = map_tensors(Tensor.detach, subset)
    with as_found(model, evaluate=True):
        sums = _products(_Jacobians(model, states, subset), batch_size(subset), chunk_size)
    same, first, second = map(float, sums)
    if not first or not second or not sums.isfinite().all():
        raise InvalidValue(
            f"the kernels have the squared norms {first:g} and {second:g}: an angle needs two that are finite and not 0. Take "
            "states whose outputs depend on a trainable parameter."
        )
    return min(max(1 - same / math.sqrt(first * second), 0.0), 1.0)


class _Jacobians:
    """The Jacobians of parts of a subset, at each of two states."""

    def __init__(self, model: nn.Module, states: list[Params], subset: Any) -> None:
        self._model, self._states, self._subset = model, states, subset
        self._names = set(trainable(model))

    def of(self, start: int, stop: int) -> list[Tensor]:
        """For each state, (samples · outputs, parameters)."""
        return [torch.cat([self._of_one(state, i) for i in range(start, stop)]) for state in self._states]

    def _of_one(self, state: Params, place: int) -> Tensor:
        """(outputs, parameters) of one sample."""
        theta = {name: p.detach().requires_grad_() for name, p in state.items() if name in self._names}
        outputs = followed(self._model, {**state, **theta}, part(self._subset, place, place + 1), _logits)
        rows = [gradients(output, theta, retain_graph=True) for output in outputs.flatten()]
        return torch.stack([torch.cat([g.flatten() for g in row.values()]) for row in rows])


def _products(jacobians: _Jacobians, number: int, chunk_size: int | None) -> Tensor:
    """⟨K, K′⟩, ⟨K, K⟩ and ⟨K′, K′⟩, (3,) float64."""
    if chunk_size is None:
        one = jacobians.of(0, 1)[0]
        chunk_size = max(1, _MEMORY // max(1, 4 * one.numel() * one.element_size()))
    starts = range(0, number, chunk_size)
    sums = torch.zeros(3, dtype=torch.float64)
    for i, start in enumerate(starts):
        ours = jacobians.of(start, min(start + chunk_size, number))
        if number == len(ours[0]) == 1:
            raise InvalidValue(
                "the kernel of one sample with one output is a number, and cannot turn. Take more samples."
            )
        for other in starts[i:]:
            theirs = ours if other == start else jacobians.of(other, min(other + chunk_size, number))
            a, b = ((one @ two.T).cpu().double() for one, two in zip(ours, theirs, strict=True))
            found = torch.stack([(a * b).sum(), (a * a).sum(), (b * b).sum()])
            sums += found if other == start else 2 * found  # the kernel is symmetric
    return sums


def _logits(output: Any) -> Tensor:
    """The outputs of one sample. Raises `InvalidValue` if they have no gradient, or no batch axis."""
    output = getattr(output, "logits", output)  # Hugging Face's models return an object that holds the logits
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.ndim < 1 or len(output) != 1:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InvalidValue(f"the model gives {shape} for one sample: a floating tensor, (1, …), is needed.")
    return output
