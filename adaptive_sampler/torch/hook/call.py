"""One call of a criterion: finds the model's output, the target and the batch length among its arguments."""

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.data.batches import batch_size, map_tensors, tensors_of
from adaptive_sampler.torch.hook.parts import refuse_reduced


@dataclass(slots=True)
class Call:
    """One call `criterion(*given, **named)` on a batch of `length` samples.

    `input`, the model's output, and `target` are two of these arguments; the names are those that torch's criteria use.
    """

    given: tuple[Any, ...]
    named: dict[str, Any]
    input: Any
    target: Any
    length: int

    def on(self, criterion: nn.Module) -> Any:
        """Make this call on `criterion`, and return what it returns."""
        return criterion(*self.given, **self.named)

    def mapped(self, change: Any) -> "Call":
        """The same call with `change` applied to every tensor, once per tensor even if the tensor occurs several times."""
        changed: dict[int, Tensor] = {}

        def once(x: Tensor) -> Tensor:
            if id(x) not in changed:
                changed[id(x)] = change(x)
            return changed[id(x)]

        given, named, first, second = (
            map_tensors(once, part) for part in (self.given, self.named, self.input, self.target)
        )
        return Call(given, named, first, second, _length(first))

    def part(self, at: Tensor, whole: frozenset[int] = frozenset()) -> "Call":
        """The same call on the samples at positions `at`, (m,) int64.

        Cuts every tensor whose leading axis has the length of the batch, except the tensors whose `id` is in `whole`.
        """

        def cut(x: Tensor) -> Tensor:
            return x[at.to(x.device)] if x.ndim and len(x) == self.length and id(x) not in whole else x

        return self.mapped(cut)

    def further(self) -> list[int]:
        """The ids of the tensors besides `input` and `target` whose leading axis has the length of the batch.

        They may have one entry per sample, or have that length by chance, as class weights may.
        """
        sure = {id(x) for x in tensors_of((self.input, self.target))}
        given = tensors_of((self.given, self.named))
        return [id(x) for x in given if x.ndim and len(x) == self.length and id(x) not in sure]


def made(criterion: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Call:
    """The `Call` that consists of these arguments.

    Raises `InvalidValue` if the first argument holds no tensor with a batch axis, or if keyword arguments do not fit
    the criterion's `forward`.
    """
    if len(given) == 2 and not named:  # the usual case
        first, second = given
    elif named and len(given) < 2:
        first, second = _bound(criterion, given, named)
    else:
        first, second, *_ = *given, *named.values(), None, None
    if type(first) is Tensor and first.ndim and type(criterion) is not nn.CTCLoss:  # nor is more asked of it
        return Call(given, named, first, second, first.shape[0])
    if type(criterion) is nn.CTCLoss and isinstance(first, Tensor) and first.ndim == 3:
        return Call(given, named, first, second, first.shape[1])  # CTCLoss takes (time, batch, classes)
    return Call(given, named, first, second, _length(first))


def _length(first: Any) -> int:
    if isinstance(first, Tensor) and first.ndim:
        return first.shape[0]  # `len` takes twice as long
    refuse_reduced(first)
    return batch_size(first)


def _bound(criterion: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    """Input and target of a call that passes them by keyword: the first two in the order of `forward`'s parameters."""
    asked = inspect.signature(innermost(criterion).forward)
    try:
        bound = asked.bind(*given, **named).arguments
    except TypeError as error:
        raise InvalidValue(
            f"{type(criterion).__name__} cannot be called so: {error}. A hook takes what its criterion takes, and rows= by "
            "keyword: hook(input, target, rows=rows)."
        ) from error
    values: list[Any] = []
    for name, value in bound.items():
        kind = asked.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD and len(values) < 2 and len(value) > 1:
            raise InvalidValue(
                f"{type(criterion).__name__} takes any keywords, so {' and '.join(value)} do not say which of them is the "
                "input and which the target. Pass these two by position: hook(input, target, ...)."
            )
        more = {inspect.Parameter.VAR_POSITIONAL: list, inspect.Parameter.VAR_KEYWORD: lambda x: list(x.values())}
        values += more[kind](value) if kind in more else [value]
    first, second, *_ = *values, None, None
    return first, second


def innermost(criterion: nn.Module) -> nn.Module:
    """The criterion that is really called: the only module inside `criterion`, if `criterion` passes all its arguments on.

    A compiled module does so, and a module whose `forward` takes nothing but *args and **kwargs is taken to do so.
    """
    within = list(criterion._modules.values())
    if len(within) != 1 or within[0] is None:
        return criterion
    anything = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(criterion.forward).parameters.values()
    compiled = "_orig_mod" in criterion._modules
    passes_on = compiled or all(parameter.kind in anything for parameter in parameters)
    return innermost(within[0]) if passes_on else criterion


def floats(change: Any) -> Any:
    """A function that applies `change` to a floating-point tensor and returns any other tensor as it is."""
    return lambda x: change(x) if x.is_floating_point() else x
