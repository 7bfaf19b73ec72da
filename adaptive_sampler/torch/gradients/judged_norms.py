"""Per-sample gradient norms of a chunk, two of which are checked by plain autograd on that sample alone."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from adaptive_sampler.torch.data.batches import map_tensors, part
from adaptive_sampler.torch.gradients.formed_norms import formed_squares
from adaptive_sampler.torch.gradients.functional import LossFn, Params, dense, leaves, losses, rounding
from adaptive_sampler.torch.gradients.norm_pass import ghost_squares
from adaptive_sampler.torch.gradients.norm_plan import Layers
from adaptive_sampler.torch.gradients.remembered import Remembered, circumstances, is_time


@dataclass(slots=True)
class _Verdict:
    """What is known of a model and a loss: whether they keep the samples of a batch apart."""

    size: int = 0  # length of the largest chunk that was checked, 2 for any longer one
    mixed: bool = False  # whether a check has shown that samples are mixed or rearranged
    chunks: int = 0  # how many chunks were checked


_verdicts: Remembered[_Verdict] = Remembered()


class Chunks:
    """Computes the norms of one call chunk by chunk, and remembers for a model and a loss whether they keep samples apart."""

    def __init__(self, model: nn.Module, params: Params, loss_fn: LossFn) -> None:
        self._model, self._params, self._loss_fn = model, params, loss_fn
        seen = circumstances(model, params, None, None)
        self._verdict = _verdicts.get(model, loss_fn, seen) or _verdicts.put(model, loss_fn, seen, _Verdict())
        self._run_again = False  # whether layers run again in the backward pass, as checkpointing makes them
        self._sorts = False  # whether a pass has sorted something as long as the batch

    @property
    def mixed(self) -> bool:
        """Whether an earlier chunk has shown that samples are mixed or rearranged; each sample is then scored alone."""
        return self._verdict.mixed

    def squares(self, layers: Layers, inputs: Any, labels: Any) -> Tensor:
        """(batch,) squared gradient norms over all parameters, checked."""
        if not self.mixed:
            layers = {} if self._run_again else layers
            try:
                squares, loss = self._by_layers(layers, inputs, labels)
            except CheckpointError:  # layers that run again do not find the parameters of the forward pass
                self._run_again, layers = True, {}
                squares, loss = self._by_layers(layers, inputs, labels)
            self._judge(layers, squares, loss, inputs, labels)
            if not self.mixed:
                return squares
        return formed_squares(self._model, self._params, list(self._params), inputs, labels, self._loss_fn)

    def _by_layers(self, layers: Layers, inputs: Any, labels: Any) -> tuple[Tensor, Tensor]:
        """(batch,) squared norms, by the layers' rules as far as they go; and (batch,) losses."""
        squares, loss, loose, sorts = ghost_squares(self._model, self._params, layers, inputs, labels, self._loss_fn)
        self._sorts = self._sorts or sorts
        if loose:
            squares = squares + formed_squares(self._model, self._params, loose, inputs, labels, self._loss_fn)
        return squares, loss

    def _judge(self, layers: Layers, squares: Tensor, loss: Tensor, inputs: Any, labels: Any) -> None:
        """Check the norms of a chunk, and remember whether samples are kept apart; do nothing if this chunk cannot show it."""
        size, verdict = min(len(squares), 2), self._verdict
        if size == 1 <= verdict.size or not bool(torch.isfinite(squares.sum() + loss.sum())):
            return
        verdict.chunks += 1
        own = all(self._alone_alike(place, squares, loss, inputs, labels) for place in self._places(loss))
        if own and (size > verdict.size or self._sorts or is_time(verdict.chunks)):
            own = self._follows_the_order(layers, squares, loss, inputs, labels)
        verdict.size, verdict.mixed = max(size, verdict.size), not own

    def _places(self, loss: Tensor) -> set[int]:
        """The samples to check: that of the highest loss, whose gradient is furthest above rounding, and one that varies."""
        golden = self._verdict.chunks * (5**0.5 - 1) / 2
        return {int(loss.argmax()), int(golden % 1 * len(loss))}

    def _alone_alike(self, place: int, squares: Tensor, loss: Tensor, inputs: Any, labels: Any) -> bool:
        """Whether the sample at `place` has the same loss and norm when it is run alone.

        They differ if the model mixes samples, or puts another sample in its place.
        """
        square, alone = self._by_autograd(part(inputs, place, place + 1), part(labels, place, place + 1))
        same = (loss[place] - alone).abs() <= rounding(self._params, loss) * (1 + alone.abs())
        return bool(same) and self._alike(squares[place], square, alone)

    def _follows_the_order(self, layers: Layers, squares: Tensor, loss: Tensor, inputs: Any, labels: Any) -> bool:
        """Whether the norms move with the samples if all samples are moved on by one place.

        If the samples were already in the order into which the model sorts them, `_alone_alike` finds nothing, but this
        does. A rearrangement that does move with the samples is itself a move by some places. It leaves no sample in
        its place, so `_alone_alike` finds it.
        """
        moved = (map_tensors(lambda t: t.roll(1, 0) if t.ndim else t, each) for each in (inputs, labels))
        again, _ = self._by_layers(layers, *moved)
        return self._alike(again.roll(-1), squares, loss)

    def _alike(self, squares: Tensor, others: Tensor, loss: Tensor) -> bool:
        """Whether squared norms are the same up to rounding, which is larger if the loss is nearly zero."""
        slack = rounding(self._params, loss)
        relative = slack * (1 + 10 * slack / loss.abs().clamp(min=slack**2))
        larger = torch.maximum(squares, others).sqrt()
        return bool(((squares.sqrt() - others.sqrt()).abs() <= relative * larger).all())

    def _by_autograd(self, inputs: Any, labels: Any) -> tuple[Tensor, Tensor]:
        """The squared norm, (), and the loss, (), of a batch of 1. Each gradient is freed as soon as it has been counted."""
        theta, found = leaves(self._params), []

        def count(parameter: Tensor) -> None:
            gradient = dense(parameter.grad, parameter)
            found.append(gradient.to(torch.promote_types(gradient.dtype, torch.float32)).square().sum())
            parameter.grad = None

        for parameter in theta.values():
            parameter.register_post_accumulate_grad_hook(count)  # type: ignore[no-untyped-call]  # untyped in torch
        loss = losses(self._model, theta, inputs, labels, self._loss_fn)[0]
        if loss.requires_grad:
            torch.autograd.backward(loss, inputs=list(theta.values()))
        return torch.stack(found).sum() if found else loss.detach() * 0, loss.detach()
