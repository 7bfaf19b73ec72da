"""One forward and one backward pass, through activations only, that give the squared norms of all covered parameters."""

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
    """Squared gradient norms over the parameters that `layers` cover in this pass, the losses, and the other parameters.

    Returns:
        (batch,) squared norms in float32 or a wider dtype; (batch,) losses; the names of the parameters that are not in
        the norms; whether the pass has sorted something as long as the batch.
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
    """The hooks of one pass, and what they have gathered.

    Parameters are constants here: no gradient of theirs is ever formed. The graph begins at the outputs of the first
    covered layers, and each layer's input is dropped as soon as its output's gradient has arrived.
    """

    def __init__(self, layers: Layers, squares: Tensor) -> None:
        self._layers, self._squares = layers, squares
        # Asked before our own hooks are registered, because a layer with hooks has no rule.
        self._rules = {module: rule_of(module) for module in layers}
        self._shared: dict[str, list[Part]] = defaultdict(list)
        self.roots: list[Tensor] = []
        self.uses: dict[str, int] = {}  # covered parameter -> how often it is used; known after the forward pass

    def forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> Tensor:
        """A forward hook: keep the layer's input until its output's gradient arrives."""
        if not torch.is_grad_enabled():
            return out  # nothing flows back from here: this use adds nothing to the gradient
        if not out.requires_grad:
            root = out.detach().requires_grad_()
            self.roots.append(root)
            out = root.clone()  # a copy, because an in-place activation may follow, which a leaf does not allow
        activation = args[0] if args else kwargs["input"]
        # The hook is on the tensor, so that a later in-place operation does not come between it and this output.
        out.register_hook(partial(self._arrived, module, activation.detach()))  # type: ignore[no-untyped-call]  # untyped in torch
        return out

    def _arrived(self, module: nn.Module, activation: Tensor, gradient: Tensor) -> None:
        """A tensor hook: the gradient of a layer's output has arrived, so add the norms of the layer's own parameters."""
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
        """(batch,) squared norms, including those of parameters that were used several times."""
        with torch.autocast(self._squares.device.type, enabled=False):
            for parts in self._shared.values():
                self._squares += squared_norms(parts)
        return self._squares
