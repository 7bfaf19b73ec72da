"""What a model returned: its loss, and the logits that belong to the labels."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.transformers.forward import near


def logits_in(output: Any, labels: Any) -> Tensor | None:
    """The logits of `labels` in what a model returned; None if there are none.

    That is the entry `logits`, or else the first tensor that fits: (*labels, classes) for integer labels, and for others
    the labels' own shape, or that with one target each.
    """
    named = _named_logits(output)
    return next((part for part in _parts(output) if _fits(part, labels)), None) if named is None else named


class Chosen:
    """Chooses the logits among a model's outputs: `logits`, or what fits the labels and has the loss that the model returned.

    `told`: whether logits of another loss are told later, as the losses are compared.
    """

    def __init__(self, *, told: bool) -> None:
        self._told = told
        self._place: Any = None  # where they were found, which is where they are looked for from then on

    def logits(self, output: Any, labels: Any, losses: Callable[[Tensor], Iterator[float]]) -> Tensor | None:
        """None if nothing fits. `losses`: what the model's loss of such logits may be. Raises `InvalidValue` if in doubt."""
        if (named := _named_logits(output)) is not None:
            return named
        fits: dict[int, Tensor] = {place: part for place, part in enumerate(_parts(output)) if _fits(part, labels)}
        if self._place in fits:
            return fits[self._place]
        loss, first = loss_in(output), next(iter(fits.values()), None)
        if loss is None and len(fits) < 2:
            return first
        own = math.nan if loss is None else loss.item()
        if loss is not None and not math.isfinite(own):
            return first  # chosen at the next step
        half = is_half(loss, *fits.values())
        equal = [place for place, part in fits.items() if any(near(own, x, half=half) for x in losses(part))]
        if not equal and self._told and len(fits) == 1:
            return first
        if not equal and fits:
            what = (
                "no loss" if loss is None else f"a loss of {own:.6g}, which the hook's criterion gives of none of them"
            )
            raise InvalidValue(
                f"the model returned {len(fits)} tensors that may be logits of its labels, none of them named so, and {what}. "
                "Have it return {'loss': loss, 'logits': logits}, or give the hook the model's own criterion."
            )
        self._place = equal[0] if equal else None
        return fits.get(self._place)


def no_tokens(logits: Tensor, labels: Any) -> str:
    """The message for several labels a sample that do not belong to one position of the logits each."""
    return (
        f"labels {tuple(labels.shape)} and logits {tuple(logits.shape)} are neither of samples nor of tokens (labels of pixels, a "
        "transcript without alignment): which loss a sample has is known to you alone. Pass hook=LossHook(criterion, store) and "
        "have your Trainer's observation(outputs, inputs) return {'loss': losses}, one a row."
    )


def shaped(logits: Tensor, labels: Any) -> Tensor:
    """The logits in the labels' shape.

    With one target, models give (batch, 1), which a regression's criterion would broadcast against (batch,) labels.
    """
    single = logits.ndim == 2 and logits.shape[1] == 1 and isinstance(labels, Tensor)
    return logits[:, 0] if single and labels.ndim == 1 and labels.is_floating_point() else logits


def loss_in(output: Any) -> Tensor | None:
    """The loss as the Trainer takes it: the entry `loss`, or the first of a tuple; None if there is none."""
    first = output.get("loss") if isinstance(output, Mapping) else next(_parts(output), None)
    return first if isinstance(first, Tensor) and first.numel() == 1 else None


def with_loss(output: Any, loss: Tensor) -> Any:
    """What a model returned, with another loss."""
    if isinstance(output, Mapping):
        output["loss"] = loss  # type: ignore[index]  # a dict, or a ModelOutput
        return output
    return (loss, *output[1:])


def auxiliary(model: Any, output: Any) -> Tensor | float:
    """What a mixture of experts adds to its loss to balance them; 0.0 if nothing."""
    aside = output.get("aux_loss") if isinstance(output, Mapping) else None
    if not isinstance(aside, Tensor):
        return 0.0
    config = getattr(model, "config", None)
    of_config = getattr(config.get_text_config(), "router_aux_loss_coef", 0.0) if config is not None else 0.0
    factor: float = getattr(model, "router_aux_loss_coef", of_config)
    return factor * aside


def _named_logits(output: Any) -> Tensor | None:
    named = output.get("logits") if isinstance(output, Mapping) else None
    return named if isinstance(named, Tensor) else None


def _parts(output: Any) -> Iterator[Any]:
    if isinstance(output, Mapping):
        yield from output.values()
    elif isinstance(output, (tuple, list)):
        yield from output
    else:
        yield output


def _fits(part: Any, labels: Any) -> bool:
    if not isinstance(part, Tensor) or not isinstance(labels, Tensor) or not part.is_floating_point():
        return False
    if labels.is_floating_point():
        return part.ndim > 0 and part.shape in (labels.shape, (*labels.shape, 1))
    return part.ndim == labels.ndim + 1 and part.shape[:-1] == labels.shape


def is_half(*tensors: Any) -> bool:
    """Whether one of the tensors is of half precision."""
    return any(x.dtype in (torch.float16, torch.bfloat16) for x in tensors if isinstance(x, Tensor))
