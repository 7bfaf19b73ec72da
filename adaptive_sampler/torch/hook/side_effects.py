"""Finds out whether a call of a criterion changed something that a second call would change again."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.torch.hook.prints import of_globals, prints_of, shared_by_copy, version
from adaptive_sampler.torch.hook.twin import copied_of


class Looks:
    """Decides at which calls to look closely: at the 1st, 2nd, 4th, 8th and so on, and at every 64th."""

    def __init__(self) -> None:
        self._calls = 0

    def due(self) -> bool:
        """Count this call, and say whether to look closely at it."""
        self._calls += 1
        return self._calls & (self._calls - 1) == 0 or self._calls % 64 == 0


class SideEffects:
    """Notices whether a criterion draws random numbers or changes what it shares with a shallow copy of it, the twin.

    `seen` compares the present state with the state at the time when this object was made. Tensors and torch's random
    state are always compared; with `closely` also numbers, arrays and containers, and the generators of Python and
    NumPy. This costs a walk over the criterion's modules. So it is used only for criteria that are not torch's own;
    torch's have no such state. What the criterion assigns to its own attributes does not count, because the twin was
    copied before and does not get it.
    """

    def __init__(self, criterion: nn.Module, input: Any, *, closely: bool = True) -> None:
        # Copied before the call: what the criterion then assigns to its own attributes, the twin does not get.
        self.twin: Any = copied_of(criterion)
        self._criterion = criterion
        self._tensors = [*_tensors(criterion, own=True)]  # kept alive, so that no new tensor gets one of their ids
        self._versions = [*map(version, self._tensors)]
        self._shared = [*map(id, _tensors(criterion, own=False))]
        device = getattr(input, "device", None)
        self._cuda = device if device is not None and device.type == "cuda" else None
        self._random = self._generators()
        self._held = shared_by_copy(criterion) if closely else []
        self._prints = prints_of(self._held)
        self._globals = of_globals() if closely else None

    def seen(self) -> str | None:
        """What has changed since this object was made, in words for a message; None for nothing."""
        in_place = self._versions != [*map(version, self._tensors)]
        if in_place or self._shared != [*map(id, _tensors(self._criterion, own=False))]:
            return "changes tensors that it holds"
        if not all(map(torch.equal, self._random, self._generators())):
            return "draws random numbers"
        if self._globals is not None and self._globals != of_globals():
            return "draws random numbers"
        return self._changed()

    def left_behind(self) -> str | None:
        """What the twin changed on itself when it was called, in words for a message; None for nothing.

        If the twin was called in place of the criterion, the criterion lacks this change.
        """
        for name, now in vars(self.twin).items():
            before = vars(self._criterion).get(name)
            number = isinstance(now, int | float) and isinstance(before, int | float) and now != before
            if number or (isinstance(now, Tensor) and isinstance(before, Tensor) and now is not before):
                return f"changes its {name}"
        return None

    def _changed(self) -> str | None:
        """As `seen`, for what only a close look covers."""
        now = prints_of(self._held)
        pairs = zip(self._prints, now, strict=False)
        first = next((new for old, new in pairs if old[:2] != new[:2]), None)
        if first is None and len(now) != len(self._prints):
            first = max(now, self._prints, key=len)[-1]
        return None if first is None else f"changes its {first[0]}"

    def _generators(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        return states if self._cuda is None else [*states, torch.cuda.get_rng_state(self._cuda)]


def _tensors(criterion: nn.Module, *, own: bool) -> Iterator[Tensor]:
    """Every tensor in the criterion and its modules: parameters, buffers, attributes, and members of lists and dicts.

    `own`: include the plain attributes of the criterion itself, which it does not share with a shallow copy.
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
