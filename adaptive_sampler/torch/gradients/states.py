"""A model's tensors as they were at another moment of its training: from a state dict, or from another module."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.gradients.functional import unwrapped

State = Mapping[str, Any] | nn.Module
"""What `state_dict()` gives, or a module of the same kind."""


def tensors_at(model: nn.Module, state: State, name: str) -> dict[str, Tensor]:
    """The parameters and buffers of `model` with the values of `state`, detached, on the model's devices and in its dtypes.

    Tied parameters occur once; buffers that are kept in no state dict are the model's own. `name`: what `state` is, for messages.
    Raises `InvalidValue` for a state of other names or shapes, for NaN, and for a parameter that is inf.
    """
    given = unwrapped(state).state_dict() if isinstance(state, nn.Module) else state
    if not isinstance(given, Mapping):
        raise InvalidValue(
            f"{name} is of {type(given).__name__}: pass what state_dict() gives, loaded if it is in a file."
        )
    wanted = model.state_dict()
    differing = sorted(wanted.keys() ^ given.keys())
    if differing:
        where = "in the model, but not in it" if differing[0] in wanted else "in it, but not in the model"
        raise InvalidValue(
            f"{name} is no state of this model: {differing[0]!r} is {where}. Pass what "
            "state_dict() of the same, unwrapped model gives."
        )
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    found = {key: _like(f"{name}[{key!r}]", given[key], tensor) for key, tensor in own.items() if key in wanted}
    return {key: found.get(key, tensor.detach()) for key, tensor in own.items()}


def _like(name: str, given: Tensor, own: Tensor) -> Tensor:
    if given.shape != own.shape:
        raise InvalidValue(
            f"{name} has shape {tuple(given.shape)}, the model's {tuple(own.shape)}: pass a state of this model."
        )
    infinite = isinstance(own, nn.Parameter) and bool(given.isinf().any())  # of buffers, masks hold −inf
    if infinite or given.isnan().any():
        raise InvalidValue(f"{name} holds NaN or inf: nothing can be said of such a model. Pass an earlier state.")
    return given.detach().to(own.device, own.dtype)
