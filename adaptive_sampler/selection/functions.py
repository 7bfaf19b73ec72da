"""How a plan names a function: by its place in a module, and one that has none, as a lambda, also by what it does."""

import inspect
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from adaptive_sampler.disk import checksum


def is_function(value: Any) -> bool:
    """Whether `value` is a function that its name stands for: Python's own, NumPy's, one written in C; no bound method."""
    if isinstance(value, FunctionType):
        return True
    bound = getattr(value, "__self__", None)  # of a function written in C its module, if anything
    if not callable(value) or isinstance(value, type) or not (bound is None or isinstance(bound, ModuleType)):
        return False
    return all(isinstance(part, str) for part in _place(value))


def _place(function: Any) -> tuple[Any, Any]:
    """The module and the name of a function. Before NumPy 2.2 a ufunc has neither; those of NumPy itself are found there."""
    if isinstance(function, np.ufunc):
        name: str = function.__name__
        if getattr(np, name, None) is function:
            return "numpy", name
    return getattr(function, "__module__", None), getattr(function, "__qualname__", None)


def named(function: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """How a function is named, as JSON data, and the values by name that it takes from where it was written.

    {"function": "module.name"}. A lambda, a function within another one, and one of code in no module share that name with
    others. So beside it stands a checksum of their bytecode, which another version of Python may compile in another way; the
    values are those that the function has closed over, and its defaults.
    """
    module, name = _place(function)
    told = {"function": f"{module}.{name}" if module else name}
    if not isinstance(function, FunctionType) or (module and "<" not in name):
        return told, {}
    defaults = {f"default {i}": value for i, value in enumerate(function.__defaults__ or ())}
    closed_over = {**inspect.getclosurevars(function).nonlocals}
    return told | {"code": _digest(function.__code__)}, defaults | (function.__kwdefaults__ or {}) | closed_over


def _digest(code: CodeType) -> str:
    """The checksum of what a function does, wherever it stands: line numbers and the names of its variables do not count."""
    return str(checksum([repr(_content(code)).encode()]))


def _content(constant: Any) -> Any:
    """A constant of a function's code, or that code, as what prints alike in every process."""
    if isinstance(constant, CodeType):
        return [constant.co_argcount, constant.co_code.hex(), constant.co_names, *map(_content, constant.co_consts)]
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else repr(constant)
