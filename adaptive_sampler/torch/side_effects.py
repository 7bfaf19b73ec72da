"""Whether a call of a criterion changed something that a second call would change again."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class Watch:
    """Notices what happens, from here on, to what a criterion and a twin of it share, and to torch's random numbers.

    Costs a walk over the criterion's modules, so it is for criteria of one's own alone: torch's have no such state.
    """

    def __init__(self, criterion: nn.Module, input: Any) -> None:
        # Made before the call: what the criterion then assigns to an attribute of its own, the twin will not have.
        self.twin: Any = copy.copy(criterion)
        self._criterion = criterion
        self._tensors = [*_tensors(criterion, own=True)]  # kept, so that no other tensor gets their place
        self._versions = [*map(_version, self._tensors)]
        self._shared = [*map(id, _tensors(criterion, own=False))]
        device = getattr(input, "device", None)
        self._cuda = device if device is not None and device.type == "cuda" else None
        self._random = self._generators()

    def seen(self) -> str | None:
        """What changed, in words; None for nothing."""
        in_place = self._versions != [*map(_version, self._tensors)]
        if in_place or self._shared != [*map(id, _tensors(self._criterion, own=False))]:
            return "changes tensors that it holds"
        return None if all(map(torch.equal, self._random, self._generators())) else "draws random numbers"

    def _generators(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        return states if self._cuda is None else [*states, torch.cuda.get_rng_state(self._cuda)]


def _tensors(criterion: nn.Module, *, own: bool) -> Iterator[Tensor]:
    """Parameters, buffers and plain attributes, those too that lie in a list or dict.

    `own`: with the plain attributes of the criterion itself, which it does not share with a copy.
    """
    for module in criterion.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor):
                if own or module is not criterion:
                    yield value
            elif isinstance(value, dict):
                yield from (x for x in value.values() if isinstance(x, Tensor))
            elif isinstance(value, list | tuple) and (own or isinstance(value, list)):
                yield from (x for x in value if isinstance(x, Tensor))


def _version(x: Tensor) -> int:
    return 0 if x.is_inference() else x._version
