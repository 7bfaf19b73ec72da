"""Fingerprints of what a criterion holds: taken before and after a call, they show what the call changed."""

import random
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = (int, float, complex, bool, str, bytes, type(None))
_MANY = 1 << 17  # how many values inside one attribute are compared, at most
_WHOLE = 1 << 26  # bytes up to which an array is read in full; of a larger one, evenly spaced elements are read
_DEEP = 6  # how many levels of nested containers are followed
# Attributes of nn.Module itself. They are no state of the criterion, or hold tensors, which `SideEffects` compares
# itself.
_NOT_STATE = frozenset((*vars(nn.Module()), "_compiled_call_impl")) - {"_modules", "training"}

Found = tuple[str, object, object]  # attribute, value to compare, object to keep alive


def shared_by_copy(criterion: nn.Module) -> list[tuple[str, Any]]:
    """(attribute, object) for all that a `copy.copy` of the criterion shares with it and that can change, without tensors."""
    held = [*vars(criterion).items(), *criterion._modules.items()]
    left_out = _NOT_STATE | {"_modules"}
    return [(name, x) for name, x in held if not isinstance(x, (*_PLAIN, Tensor)) and name not in left_out]


def prints(name: str, x: Any, deep: int = _DEEP, seen: set[int] | None = None) -> Iterator[Found]:
    """The fingerprints of everything found in `x`, the value of the attribute `name`.

    `deep`: how many levels of containers to follow; `seen`: the ids of the containers that were visited already.
    """
    seen = set() if seen is None else seen
    if isinstance(x, _PLAIN):
        yield name, x, None
    elif isinstance(x, np.ndarray):
        yield name, _of_array(x), x
    elif isinstance(x, torch.Generator):
        yield name, bytes(x.get_state().numpy()), x
    elif isinstance(x, random.Random):
        yield name, hash(x.getstate()), x
    elif isinstance(x, np.random.Generator | np.random.RandomState):
        yield name, _of_draws(x), x
    elif isinstance(x, Tensor):
        yield name, (id(x), version(x)), x
    elif deep and id(x) not in seen:
        seen.add(id(x))
        yield from _inside(name, x, deep, seen)


def prints_of(held: list[tuple[str, Any]]) -> list[Found]:
    """The fingerprints of everything that `shared_by_copy` found."""
    return [found for name, x in held for found in islice(prints(name, x), _MANY)]


def _inside(name: str, x: Any, deep: int, seen: set[int]) -> Iterator[Found]:
    if isinstance(x, nn.Module):
        for key, value in vars(x).items():
            if key not in _NOT_STATE and key != "_modules":
                yield from prints(f"{name}.{key}", value, deep - 1, seen)
        for child, module in x._modules.items():
            yield from prints(f"{name}.{child}", module, _DEEP, seen)
    elif isinstance(x, dict | list | tuple | set | frozenset | deque):
        yield name, len(x), x
        for element in _elements(x):
            yield from prints(name, element, deep - 1, seen)
    else:
        yield name, id(x), x
        if hasattr(x, "__dict__") and not callable(x) and not type(x).__module__.startswith("torch."):
            for key, value in vars(x).items():
                yield from prints(f"{name}.{key}", value, deep - 1, seen)


def _elements(x: Any) -> Iterator[Any]:
    if not isinstance(x, dict):
        yield from x
        return
    for key, value in x.items():
        yield key
        yield value


def _of_array(x: np.ndarray) -> object:
    """A checksum of an array's values; of an array of objects only which array it is, and its shape."""
    if x.dtype.hasobject:
        return id(x), x.shape
    if x.nbytes > _WHOLE:
        x = x.reshape(-1)[:: -(-x.nbytes // _WHOLE)]
    return x.shape, zlib.crc32(np.ascontiguousarray(x).tobytes())


def _of_draws(source: Any) -> int:
    """A hash of what a NumPy generator will draw next."""
    if isinstance(source, np.random.Generator):
        return hash(repr(source.bit_generator.state))
    _, key, *rest = source.get_state()
    return hash((key.tobytes(), *rest))


def of_globals() -> tuple[int, int]:
    """Hashes of what the global generators of Python and of NumPy will draw next."""
    return hash(random.getstate()), _of_draws(np.random.mtrand._rand)


def version(x: Tensor) -> int:
    """How often a tensor was changed in place; 0 for a tensor of inference mode, which does not count."""
    return 0 if x.is_inference() else x._version
