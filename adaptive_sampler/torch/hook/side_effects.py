"""Whether a call of a criterion changed something that a second call would change again."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_sampler.torch.hook.prints import of_globals, prints_of, shared_by_copy, version
from adaptive_sampler.torch.hook.twin import copied_of


class Looks:
    """Says at which calls to look closely: the first, 2nd, 4th, 8th and so on, and every 64th."""

    def __init__(self) -> None:
        self._calls = 0

    def due(self) -> bool:
        """Whether this call, which is counted, is one of them."""
        self._calls += 1
        return self._calls & (self._calls - 1) == 0 or self._calls % 64 == 0


class SideEffects:
    """Notices what happens, from here on, to what a criterion and a twin of it share, and to random numbers.

    Tensors and torch's random numbers always; `closely`: numbers, arrays and containers too, and the generators of Python
    and NumPy. Costs a walk over the criterion's modules, so it is for criteria of one's own alone: torch's have no such
    state. What the criterion assigns to an attribute of its own is no matter, since its twin does not have it.
    """

    def __init__(self, criterion: nn.Module, input: Any, *, closely: bool = True) -> None:
        # Made before the call: what the criterion then assigns to an attribute of its own, the twin will not have.
        self.twin: Any = copied_of(criterion)
        self._criterion = criterion
        self._tensors = [*_tensors(criterion, own=True)]  # kept, so that no other tensor gets their place
        self._versions = [*map(version, self._tensors)]
        self._shared = [*map(id, _tensors(criterion, own=False))]
        device = getattr(input, "device", None)
        self._cuda = device if device is not None and device.type == "cuda" else None
        self._random = self._generators()
        self._held = shared_by_copy(criterion) if closely else []
        self._prints = prints_of(self._held)
        self._globals = of_globals() if closely else None

    def seen(self) -> str | None:
        """What changed, in words; None for nothing."""
        in_place = self._versions != [*map(version, self._tensors)]
        if in_place or self._shared != [*map(id, _tensors(self._criterion, own=False))]:
            return "changes tensors that it holds"
        if not all(map(torch.equal, self._random, self._generators())):
            return "draws random numbers"
        if self._globals is not None and self._globals != of_globals():
            return "draws random numbers"
        return self._changed()

    def left_behind(self) -> str | None:
        """What the twin, called in place of the criterion, changed of its own, so that the criterion has it not."""
        for name, now in vars(self.twin).items():
            before = vars(self._criterion).get(name)
            number = isinstance(now, int | float) and isinstance(before, int | float) and now != before
            if number or (isinstance(now, Tensor) and isinstance(before, Tensor) and now is not before):
                return f"changes its {name}"
        return None

    def _changed(self) -> str | None:
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
