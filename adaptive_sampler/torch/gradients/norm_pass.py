"""One forward and one backward pass, through activations only, that leave each covered parameter's squared norm."""

from collections import defaultdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.torch.data.batches import batch_size
from adaptive_sampler.torch.gradients.functional import LossFn, Params, losses
from adaptive_sampler.torch.gradients.layer_norms import Part, rule_of, squared_norms
from adaptive_sampler.torch.gradients.norm_plan import Layers, LayerWatch


def ghost_squares(
    model: nn.Module, params: Params, layers: Layers, inputs: Any, labels: Any, loss_fn: LossFn
) -> tuple[Tensor, Tensor, list[str], bool]:
    """Squared norms over the parameters that `layers` cover in this pass, the losses, and the names of the others.

    Returns:
        (batch,) squared norms, (batch,) losses, the parameters that are not in the norms, whether the pass has sorted what
        is as long as the batch.
    """
    first = next(iter(params.values()))
    wide = torch.promote_types(first.dtype, torch.float32)
    run = _Pass(layers, torch.zeros(batch_size(inputs), dtype=wide, device=first.device))
    with LayerWatch(params, layers, batch_size(inputs)) as seen:
        for module in layers:
            seen.callback(module.register_forward_hook(run.forward, with_kwargs=True).remove)
        loss = losses(model, params, inputs, labels, loss_fn)
    run.uses = seen.covered()
    if run.roots and loss.requires_grad:
        torch.autograd.grad(loss.sum(), run.roots, allow_unused=True)
    return run.finished(), loss.detach(), [name for name in params if name not in run.uses], seen.sorts


class _Pass:
    """The hooks of one pass and what they have gathered.

    Parameters are constants here: no gradient of theirs is ever formed. The graph begins at the first covered layers'
    outputs, and each layer's input is dropped as soon as its output's gradient has arrived.
    """

    def __init__(self, layers: Layers, squares: Tensor) -> None:
        self._layers, self._squares = layers, squares
        self._rules = {module: rule_of(module) for module in layers}  # before our hooks: a hooked layer has none
        self._shared: dict[str, list[Part]] = defaultdict(list)
        self.roots: list[Tensor] = []
        self.uses: dict[str, int] = {}  # of the covered parameters; known when the forward pass is over

    def forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Tensor:
        """Remember the layer's input until its output's gradient arrives."""
        if not torch.is_grad_enabled():
            return out  # nothing flows back from here: this use adds nothing to the gradient
        if not out.requires_grad:
            root = out.detach().requires_grad_()
            self.roots.append(root)
            out = root.clone()  # an in-place activation may follow, which a leaf does not allow
        activation = args[0] if args else kwargs["input"]
        # on the tensor, so that a later in-place operation cannot come between
        out.register_hook(partial(self._arrived, module, activation.detach()))  # type: ignore[no-untyped-call]
        return out

    def _arrived(self, module: nn.Module, activation: Tensor, gradient: Tensor) -> None:
        own = {local: name for local, name in self._layers[module].items() if name in self.uses}
        if not own:
            return
        rule = self._rules[module]
        assert rule is not None
        activation, gradient = (
            t.to(self._squares.dtype) if t.is_floating_point() else t for t in (activation, gradient)
        )
        with torch.no_grad(), torch.autocast(gradient.device.type, enabled=False):
            for local, part in rule(module, activation, gradient, set(own)).items():
                if self.uses[own[local]] == 1:
                    self._squares += part.squares()
                else:
                    self._shared[own[local]].append(part)

    def finished(self) -> Tensor:
        """(batch,) squared norms, those of parameters with several uses included."""
        with torch.autocast(self._squares.device.type, enabled=False):
            for parts in self._shared.values():
                self._squares += squared_norms(parts)
        return self._squares
