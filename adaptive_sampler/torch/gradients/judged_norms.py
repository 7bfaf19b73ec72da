"""Per-sample gradient norms of a chunk, two of them judged by plain autograd on that sample alone."""

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
    size: int = 0  # the largest chunk, 2 for any above, in which the norms were the samples' own
    mixed: bool = False  # whether they once were not
    chunks: int = 0


_verdicts: Remembered[_Verdict] = Remembered()


class Chunks:
    """The chunks of one call, for a model and a loss of which it is remembered whether they keep samples apart."""

    def __init__(self, model: nn.Module, params: Params, loss_fn: LossFn) -> None:
        self._model, self._params, self._loss_fn = model, params, loss_fn
        seen = circumstances(model, params, None, None)
        self._verdict = _verdicts.get(model, loss_fn, seen) or _verdicts.put(model, loss_fn, seen, _Verdict())
        self._run_again = False  # whether layers are, in the backward pass, as checkpointing has it
        self._sorts = False  # whether a pass has sorted something that is as long as the batch

    @property
    def mixed(self) -> bool:
        """Whether an earlier chunk has shown that samples are mixed or rearranged: each is then scored alone."""
        return self._verdict.mixed

    def squares(self, layers: Layers, inputs: Any, labels: Any) -> Tensor:
        """(batch,) squared norms over all parameters."""
        if not self.mixed:
            layers = {} if self._run_again else layers
            try:
                squares, loss = self._by_layers(layers, inputs, labels)
            except CheckpointError:  # what is run again does not find the same parameters
                self._run_again, layers = True, {}
                squares, loss = self._by_layers(layers, inputs, labels)
            self._judge(layers, squares, loss, inputs, labels)
            if not self.mixed:
                return squares
        return formed_squares(self._model, self._params, list(self._params), inputs, labels, self._loss_fn)

    def _by_layers(self, layers: Layers, inputs: Any, labels: Any) -> tuple[Tensor, Tensor]:
        """(batch,) squared norms and losses."""
        squares, loss, loose, sorts = ghost_squares(self._model, self._params, layers, inputs, labels, self._loss_fn)
        self._sorts = self._sorts or sorts
        if loose:
            squares = squares + formed_squares(self._model, self._params, loose, inputs, labels, self._loss_fn)
        return squares, loss

    def _judge(self, layers: Layers, squares: Tensor, loss: Tensor, inputs: Any, labels: Any) -> None:
        """Remember whether the norms are the samples' own, if these values can tell."""
        size, verdict = min(len(squares), 2), self._verdict
        if size == 1 <= verdict.size or not bool(torch.isfinite(squares.sum() + loss.sum())):
            return
        verdict.chunks += 1
        own = all(self._alone_alike(place, squares, loss, inputs, labels) for place in self._places(loss))
        if own and (size > verdict.size or self._sorts or is_time(verdict.chunks)):
            own = self._follows_the_order(layers, squares, loss, inputs, labels)
        verdict.size, verdict.mixed = max(size, verdict.size), not own

    def _places(self, loss: Tensor) -> set[int]:
        """The sample of the highest loss, whose gradient is the furthest above rounding, and one that varies."""
        golden = self._verdict.chunks * (5**0.5 - 1) / 2
        return {int(loss.argmax()), int(golden % 1 * len(loss))}

    def _alone_alike(self, place: int, squares: Tensor, loss: Tensor, inputs: Any, labels: Any) -> bool:
        """Whether one sample has the same loss and norm alone: a model that mixes or rearranges samples shows here."""
        square, alone = self._by_autograd(part(inputs, place, place + 1), part(labels, place, place + 1))
        same = (loss[place] - alone).abs() <= rounding(self._params, loss) * (1 + alone.abs())
        return bool(same) and self._alike(squares[place], square, alone)

    def _follows_the_order(self, layers: Layers, squares: Tensor, loss: Tensor, inputs: Any, labels: Any) -> bool:
        """Whether all samples, moved on by one place, take their norms with them.

        They may have come sorted as the model sorts. An order that follows such a move is a move itself, and leaves no
        sample in its place: `_alone_alike` sees that one.
        """
        moved = (map_tensors(lambda t: t.roll(1, 0) if t.ndim else t, each) for each in (inputs, labels))
        again, _ = self._by_layers(layers, *moved)
        return self._alike(again.roll(-1), squares, loss)

    def _alike(self, squares: Tensor, others: Tensor, loss: Tensor) -> bool:
        """Whether norms are the same up to rounding, of which there is more where the loss is nearly zero."""
        slack = rounding(self._params, loss)
        relative = slack * (1 + 10 * slack / loss.abs().clamp(min=slack**2))
        larger = torch.maximum(squares, others).sqrt()
        return bool(((squares.sqrt() - others.sqrt()).abs() <= relative * larger).all())

    def _by_autograd(self, inputs: Any, labels: Any) -> tuple[Tensor, Tensor]:
        """Squared norm and loss of a batch of 1; each gradient is let go as soon as it has been counted."""
        theta, found = leaves(self._params), []

        def count(parameter: Tensor) -> None:
            gradient = dense(parameter.grad, parameter)
            found.append(gradient.to(torch.promote_types(gradient.dtype, torch.float32)).square().sum())
            parameter.grad = None

        for parameter in theta.values():
            parameter.register_post_accumulate_grad_hook(count)  # type: ignore[no-untyped-call]
        loss = losses(self._model, theta, inputs, labels, self._loss_fn)[0]
        if loss.requires_grad:
            torch.autograd.backward(loss, inputs=list(theta.values()))
        return torch.stack(found).sum() if found else loss.detach() * 0, loss.detach()
