"""What a criterion is called with, in whatever nesting, and which of it is the batch."""

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.functional import batch_size, map_tensors


@dataclass(slots=True)
class Call:
    """`criterion(*given, **named)` on `length` samples: the model's `input`, the `target`, and what else it takes."""

    given: tuple[Any, ...]
    named: dict[str, Any]
    input: Any
    target: Any
    length: int

    def on(self, criterion: nn.Module) -> Any:
        """What the criterion returns."""
        return criterion(*self.given, **self.named)

    def mapped(self, change: Any) -> "Call":
        """The same call with every tensor changed."""
        return made(None, map_tensors(change, self.given), map_tensors(change, self.named))

    def part(self, at: Tensor) -> "Call":
        """The samples `at` (m,) of everything that has the batch's leading axis."""
        return self.mapped(lambda x: x[at.to(x.device)] if x.ndim and len(x) == self.length else x)


def made(criterion: nn.Module | None, given: tuple[Any, ...], named: dict[str, Any]) -> Call:
    """The call of `criterion` with these arguments. Raises `InvalidValue` where none of them is a batch."""
    if named and len(given) < 2 and criterion is not None:
        first, second = _bound(criterion, given, named)
    else:
        first, second, *_ = *given, *named.values(), None, None
    if not isinstance(first, Tensor):
        length = batch_size(first)
    elif type(criterion) is nn.CTCLoss and first.ndim == 3:
        length = first.shape[1]  # (time, batch, classes)
    else:
        length = len(first)
    return Call(given, named, first, second, length)


def _bound(criterion: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    """Input and target by the order of the criterion's own parameters."""
    try:
        bound = inspect.signature(criterion.forward).bind(*given, **named).arguments.values()
    except TypeError as error:
        raise InvalidValue(
            f"{type(criterion).__name__} cannot be called so: {error}. A hook takes what its criterion takes, and rows= by "
            "keyword: hook(input, target, rows=rows)."
        ) from error
    first, second, *_ = *bound, None, None
    return first, second


def floats(change: Any) -> Any:
    """`change` for tensors of floating point, anything else as it is."""
    return lambda x: change(x) if x.is_floating_point() else x
