"""Exact products of a vector with the damped Hessian of the mean training loss, without ever forming the Hessian."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data.batches import batch_size, map_tensors
from adaptive_sampler.torch.gradients.functional import (
    LossFn,
    Params,
    dense,
    flat,
    gradients,
    leaves,
    losses,
    rounding,
    shaped,
)
from adaptive_sampler.torch.gradients.samples import device_of, samples

Product = Callable[[Tensor], Tensor]
"""v -> (H + damping·I)·v, both (parameters,)."""


class Hessian:
    """Products of a vector with H + damping·I, where H = (1/n) Σ ∇²ℓ_i over a loader's samples."""

    def __init__(
        self, model: nn.Module, loader: Iterable[Any], params: Params, loss_fn: LossFn, damping: float
    ) -> None:
        """Keep the arguments; nothing is computed yet.

        Args:
            model: in the mode in which the loss is to be computed.
            loader: iterated once per `full` product, batch by batch for `batchwise` ones.
            params: the trainable parameters at which the Hessian is taken.
            loss_fn: (model output, labels) -> (batch,) losses.
            damping: added to the diagonal, in the loss's unit per squared parameter; weight decay's λ belongs here.
        """
        self.model, self.loader, self.params = model, loader, params
        self.loss_fn, self.damping = loss_fn, damping

    def full(self, vector: Tensor) -> Tensor:
        """(H + damping·I)·vector, (parameters,), over every sample of the loader, in one pass.

        Raises `InvalidValue` if the loader yields no batch, or if the loss has no second derivative.
        """
        total, count = torch.zeros_like(vector), 0
        for batch in samples(self.loader, device_of(self.model)):
            summed, size = self._of_batch(vector, batch)
            total, count = total + summed, count + size
        if not count:
            raise InvalidValue(
                "train_loader yields no batch: the Hessian needs at least one sample, and a loader that can be "
                "iterated again (a generator ends for good)"
            )
        return total / count + self.damping * vector

    def batchwise(self) -> Product:
        """A product over one batch only: the next batch at each call, and after the last one the first again."""
        batches = self._endless()

        def product(vector: Tensor) -> Tensor:
            summed, size = self._of_batch(vector, next(batches))
            return summed / size + self.damping * vector

        return product

    def _endless(self) -> Iterator[Any]:
        """The loader's batches, again and again. Raises `InvalidValue` if it yields none."""
        while True:
            empty = True
            for batch in samples(self.loader, device_of(self.model)):
                empty = False
                yield batch
            if empty:
                raise InvalidValue(
                    "train_loader yields no batch: the Hessian needs at least one sample, and a loader that can be "
                    "iterated again (a generator ends for good)"
                )

    def _of_batch(self, vector: Tensor, batch: tuple[Any, Any, Any]) -> tuple[Tensor, int]:
        """Σ ∇²ℓ_i·v, (parameters,), by two backward passes, and the number of samples."""
        inputs, labels = map_tensors(Tensor.detach, batch[1:])
        theta = leaves(self.params)
        tangents = shaped(vector, self.params)
        each = losses(self.model, theta, inputs, labels, self.loss_fn)
        weights = torch.ones_like(each).requires_grad_()
        try:
            first = gradients((weights * each).sum(), theta, create_graph=True)
            along = torch.stack([(first[name] * tangents[name]).sum() for name in theta]).sum()
            if along.requires_grad:
                # not autograd.grad, which silently leaves out a backward that refuses to be differentiated. This writes
                # .grad, but only of our own leaves.
                torch.autograd.backward(along)
                self._check(along.detach(), dense(weights.grad, weights))
        except RuntimeError as error:
            if "differentia" not in str(error) and "derivative" not in str(error):
                raise
            raise _no_second_derivative(str(error).splitlines()[0]) from error
        second = {name: dense(p.grad, p) for name, p in theta.items()}
        return flat(second), batch_size(inputs)

    def _check(self, along: Tensor, by_sample: Tensor) -> None:
        """Raise `InvalidValue` if a backward lost its dependence on the gradient that it is given.

        `along` is linear in the samples' weights, which are 1, so the derivatives by these, `by_sample` (batch,), must
        add up to it.
        """
        slack = rounding(self.params, along) * (along.abs() + by_sample.abs().sum())
        if bool((by_sample.sum() - along).abs() > slack):
            raise _no_second_derivative("a backward does not follow the gradient that it is given")


def _no_second_derivative(why: str) -> InvalidValue:
    return InvalidValue(
        f"the loss has no second derivative ({why}): influence needs one; replace that operator, or score by `alignment` "
        "with the clean gradient, which needs none"
    )
