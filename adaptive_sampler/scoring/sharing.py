"""Compute only once what several measures of one observation need, such as the softmax or the check of the labels."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_found: ContextVar[dict[tuple[Any, ...], Any] | None] = ContextVar("found", default=None)


class shared:
    """A context in which a function marked `once` runs once for the same arguments. A nested context joins the outer."""

    def __enter__(self) -> None:
        outer = _found.get()
        self._token = _found.set({} if outer is None else outer)

    def __exit__(self, *exception: object) -> None:
        _found.reset(self._token)


def mark(x: Any) -> None:
    """Remember, within `shared`, that this very object was converted from an array of half precision."""
    found = _found.get()
    if found is not None:
        found[mark, id(x)] = None, (x,)


def marked(x: Any) -> bool:
    """Whether `mark` was called for this very object within `shared`."""
    return (mark, id(x)) in (_found.get() or ())


def remember(function: Callable[..., Any], result: Any, *arguments: Any) -> None:
    """Within `shared`, have `function`, marked `once`, give this `result` for these very arguments, as it was found anyway."""
    found = _found.get()
    if found is not None:
        found[function.__wrapped__, *map(id, arguments)] = result, arguments  # type: ignore[attr-defined]  # by `wraps`


def once(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a pure function so that, within `shared`, its result for the same argument objects is remembered."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        found = _found.get()
        if found is None or kwargs:
            return function(*args, **kwargs)
        key = (function, *map(id, args))
        if key not in found:
            found[key] = function(*args, **kwargs), args  # `args` is kept, or another object could get the same id
        result: R = found[key][0]
        return result

    return call
