"""A module that behaves like another module, except for a few names of its own: the base of a hook around a criterion."""

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, Self

from torch import nn

from adaptive_sampler.errors import InvalidValue

# The one attribute that holds all private state, so that every other private name is the criterion's.
PRIVATE = "_adaptive_sampler"

# What nn.Module uses when a module is called. The wrapper has its own: forward and backward hooks registered on it see
# its calls, and those registered on the criterion see the criterion's.
CALLING = frozenset(
    {
        "forward",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_compiled_call_impl",
        "_forward_hooks",
        "_forward_hooks_always_called",
        "_forward_hooks_with_kwargs",
        "_forward_pre_hooks",
        "_forward_pre_hooks_with_kwargs",
        "_is_full_backward_hook",
    }
)
# The methods of nn.Module that are not passed on to the criterion: those that call it or register hooks, and those that
# walk over modules. A walk over a model must find the wrapper, and then the modules inside the criterion.
_STAYING = {
    "forward",
    "apply",
    "compile",
    "modules",
    "named_modules",
    "_call_impl",
    "_wrapped_call_impl",
    "_slow_forward",
}
_STAYING |= {"_get_name", "_get_backward_hooks", "_get_backward_pre_hooks", "_maybe_warn_non_full_backward_hook"}
_STAYING |= {name for name in vars(nn.Module) if name.startswith("register_") and "ward_" in name}

# The first lines of a module that holds a criterion, for messages that show such a module.
_HELD = (
    "class Held(nn.Module):\n"
    "    def __init__(self, inner):\n"
    "        super().__init__()\n"
    "        self.inner = inner\n"
    "    @property\n"
    "    def reduction(self):\n"
    "        return self.inner.reduction\n"
    "    @reduction.setter\n"
    "    def reduction(self, reduction):\n"
    "        self.inner.reduction = reduction\n"
)


class Worn(nn.Module):
    """Wraps a criterion: every attribute except `NAMES`, `PRIVATE` and `CALLING` is read, set and deleted on the criterion.

    The wrapper holds nothing twice: parameters, state_dict and training mode are the criterion's, and so are the
    methods of nn.Module that the criterion overrides. Raises `InvalidValue` for a criterion that has an attribute named
    in `NAMES`.
    """

    NAMES: ClassVar[frozenset[str]] = frozenset({"criterion"})

    def __init__(self, criterion: nn.Module, private: Any) -> None:
        super().__init__()
        taken = sorted(name for name in self.NAMES if hasattr(criterion, name))
        if taken:
            raise InvalidValue(_hidden(type(criterion).__name__, taken[0]))
        for name in set(vars(self)) - CALLING:
            object.__delattr__(self, name)
        # not nn.Module's __setattr__, which takes microseconds
        object.__setattr__(self, PRIVATE, private)

    @property
    def criterion(self) -> nn.Module:
        """The criterion that is wrapped."""
        criterion: nn.Module = vars(self)[PRIVATE].criterion
        return criterion

    @criterion.setter
    def criterion(self, criterion: nn.Module) -> None:
        raise InvalidValue(
            f"a {type(self).__name__} is its criterion, and is not given another one: make a hook of {type(criterion).__name__} "
            "with the same store and sampler, LossHook(criterion, hook.store, sampler=hook.sampler)."
        )

    def __getattr__(self, name: str) -> Any:
        private = vars(self).get(PRIVATE)
        if private is None or name in CALLING:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(private.criterion, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "__class__":
            raise InvalidValue(self._keeping_class())
        if name in self.NAMES or name in CALLING:
            object.__setattr__(self, name, value)
        else:
            setattr(self.criterion, name, value)

    def __delattr__(self, name: str) -> None:
        if name in self.NAMES or name in CALLING:
            object.__delattr__(self, name)
        else:
            criterion = self.criterion
            kept = next(
                (some for some in (criterion._parameters, criterion._buffers) if some.get(name) is not None), None
            )
            if kept is not None:
                vars(self)[PRIVATE].deleted = kept, name, weakref.ref(kept[name])
            delattr(criterion, name)

    def _keeping_class(self) -> str:
        """The message for setting the class; first puts back the parameter that torch's register_parametrization deleted.

        register_parametrization deletes a parameter through the wrapper before it sets the class.
        """
        deleted: tuple[dict[str, Any], str, Callable[[], Any]] | None = vars(self)[PRIVATE].deleted
        if deleted is not None:
            kept, name, held = deleted
            if name not in kept and held() is not None:
                kept[name] = held()
        return (
            f"a {type(self).__name__} is of its own class, and parametrizations (weight_norm, spectral_norm, ...) change that of "
            "the module that they are given. Give them the criterion: weight_norm(hook.criterion, ...)."
        )

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self.criterion)})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.criterion!r})"

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        """As nn.Module.apply, but `fn` gets the criterion instead of the wrapper, because initialisers check types."""
        self.criterion.apply(fn)
        return self


def _passed_on(name: str) -> Callable[..., Any]:
    """A method that calls the criterion's method of this name; it returns the wrapper if that returns the criterion."""

    @functools.wraps(getattr(nn.Module, name))
    def method(self: Worn, *args: Any, **named: Any) -> Any:
        criterion = self.criterion
        found = getattr(criterion, name)(*args, **named)
        return self if found is criterion else found

    return method


# Each is set on the class, because Python asks __getattr__ only for what the class does not have.
for _name, _method in tuple(vars(nn.Module).items()):
    if callable(_method) and _name not in _STAYING and _name not in vars(Worn) and not _name.startswith("__"):
        setattr(Worn, _name, _passed_on(_name))


def _hidden(kind: str, name: str) -> str:
    """The message for a criterion with an attribute that the hook's own attribute would hide."""
    return (
        f"{kind} has an attribute {name!r} of its own, which a hook's would hide: hook.{name} is the hook's, "
        f"hook.criterion.{name} would be the criterion's. Hold it inside a module of yours, whose `inner` it is then "
        f"(hook.criterion.inner.{name}):\n"
        f"{_HELD}"
        "    def forward(self, *given, **named):\n"
        "        return self.inner(*given, **named)\n"
        "LossHook(Held(criterion), store)"
    )


def refuse_rows(criterion: nn.Module) -> None:
    """Raise `InvalidValue` for a criterion whose `forward` has a parameter `rows`: the hook keeps `rows=` for itself."""
    try:
        asked = inspect.signature(criterion.forward).parameters
    except (TypeError, ValueError):  # compiled code has no signature
        return
    if "rows" in asked:
        raise InvalidValue(
            f"{type(criterion).__name__}.forward has a parameter `rows` of its own, and rows= of a hook's call are the hook's: "
            "which rows of the store these samples are. Hold it inside a module of yours that names it otherwise:\n"
            f"{_HELD}"
            "    def forward(self, input, target, lines):\n"
            "        return self.inner(input, target, rows=lines)\n"
            "LossHook(Held(criterion), store)"
        )
