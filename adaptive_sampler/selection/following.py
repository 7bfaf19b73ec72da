"""How numbers of a policy follow the epoch: at an epoch, a policy that has schedules becomes one that has numbers."""

import copy
import dataclasses
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, get_args

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.selection.base import arguments, as_they_are, describe, fields
from adaptive_sampler.selection.functions import is_function
from adaptive_sampler.selection.schedules import Schedule

_FOLLOWS = "may follow the epoch"
Varying = Annotated[float | Any, _FOLLOWS]
"""A number, or what gives it for an epoch: a `Schedule`, or a function of the epoch. Of a policy's field."""

_CHECKED = 1000  # epochs whose numbers are checked when a policy is made; those after them when they are planned


class Following:
    """What lets the numbers of a frozen dataclass follow the epoch.

    A field may then be a `Schedule`; one that is annotated as `Varying`, or `Varying | None`, also a function of the epoch.
    `__post_init__`, which checks the fields, and `plan` are called with numbers alone: when the object is made, with those of
    every epoch that the schedule tells beforehand, up to the thousandth, or of a function with that of epoch 0; and then with those
    of the epoch that is planned. So `__post_init__` must take what it has left itself, as with `dataclasses.replace`, and what
    follows the epoch refuses arguments of it that no field keeps.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name, wrapper in (("__post_init__", _checked), ("plan", _planned)):
            owner = next((base for base in cls.__mro__ if name in vars(base)), None)
            if owner is not None and (owner is cls or not issubclass(owner, Following)):  # else it is wrapped already
                setattr(cls, name, wrapper(vars(owner)[name]))


def _checked(check: Callable[..., None]) -> Callable[..., None]:
    @wraps(check)
    def __post_init__(self: Any, *given: Any) -> None:
        following = _following(self)
        if not following:
            return check(self, *given)
        if given:
            raise InvalidValue(
                f"{check.__qualname__} takes {', '.join(map(repr, given))}, which no field keeps, and it is called again in each "
                f"epoch, because {', '.join(following)} follows it. Make a field of what is no field but an InitVar."
            )
        for epoch in _epochs(following.values()):
            fixed = _fixed(self, {name: _number(name, follow, epoch) for name, follow in following.items()})
            with _telling(following, epoch):
                check(fixed)
            for name in (vars(fixed).keys() | {field.name for field in dataclasses.fields(fixed)}) - following.keys():
                object.__setattr__(self, name, getattr(fixed, name))  # as the check has left it
        describe(self)  # raises for a function that a plan cannot name
        return None

    return __post_init__


def _planned(plan: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plan)
    def planned(self: Any, store: Any, *, epoch: int, seed: int) -> Any:
        own = at_epoch(self, epoch)
        if own is self:
            return plan(self, store, epoch=epoch, seed=seed)
        with _telling(_following(self), epoch):
            return plan(own, store, epoch=epoch, seed=seed)

    return planned


def at_epoch(policy: Any, epoch: int) -> Any:
    """A policy with the numbers that it has at `epoch`, also those of the policies and dataclasses in it; itself if none follows.

    Raises `InvalidValue`, naming epoch, number and rule, for a number that the policy does not take.
    """
    if isinstance(policy, (list, tuple)):
        own = [at_epoch(part, epoch) for part in policy]
        return policy if all(a is b for a, b in zip(own, policy, strict=True)) else type(policy)(own)
    if isinstance(policy, (type, Schedule)) or fields(policy.__class__) is None or as_they_are(arguments(policy)):
        return policy
    following = _following(policy)
    numbers = {name: _number(name, follow, epoch) for name, follow in following.items()}
    for field in dataclasses.fields(policy):
        if field.name not in numbers and (own := at_epoch(value := getattr(policy, field.name), epoch)) is not value:
            numbers[field.name] = own
    if not numbers:
        return policy
    fixed = _fixed(policy, numbers)
    with _telling(following, epoch):
        getattr(fixed, "__post_init__", lambda: None)()
    return fixed


def follows(policy: Any) -> bool:
    """Whether a number of a policy, or of a policy or a dataclass in it, follows the epoch."""
    if isinstance(policy, (list, tuple)):
        return any(map(follows, policy))
    if not dataclasses.is_dataclass(policy) or isinstance(policy, type):
        return False
    fields = [getattr(policy, field.name) for field in dataclasses.fields(policy)]
    return isinstance(policy, Schedule) or bool(_following(policy)) or any(map(follows, fields))


def _following(policy: Any) -> dict[str, Callable[[int], Any]]:
    """The fields of a dataclass that follow the epoch: name -> what gives the number."""
    found = {}
    for field in dataclasses.fields(policy) if dataclasses.is_dataclass(policy) else ():
        value = getattr(policy, field.name)
        if isinstance(value, Schedule) or (is_function(value) and _varying(field.type)):
            found[field.name] = value
    return found


def _varying(annotation: Any) -> bool:
    """Whether a field is annotated as `Varying`, alone or in a union; by its text under `from __future__ import annotations`."""
    if isinstance(annotation, str):
        return re.search(r"\bVarying\b", annotation) is not None
    return _FOLLOWS in getattr(annotation, "__metadata__", ()) or any(map(_varying, get_args(annotation)))


def _epochs(following: Collection[Any]) -> range:
    """The epochs whose numbers are known beforehand: of a function that of the first one."""
    known = [follow for follow in following if isinstance(follow, Schedule)]
    if len(known) < len(following):
        return range(1)
    return range(min(max(_CHECKED if follow.last is None else follow.last for follow in known), _CHECKED) + 1)


def _number(name: str, follow: Callable[[int], Any], epoch: int) -> Any:
    """The number that a field has at `epoch`."""
    value = follow(epoch)
    value = value.item() if isinstance(value, np.generic) else value
    if value is not None and not isinstance(value, (int, float)):
        raise InvalidValue(f"{name} in epoch {epoch} is {value!r} by {_told(follow)}: have it return a number.")
    return value


def _fixed(policy: Any, numbers: dict[str, Any]) -> Any:
    """A copy of a frozen dataclass with other values."""
    fixed = copy.copy(policy)
    for name, value in numbers.items():
        object.__setattr__(fixed, name, value)
    return fixed


@contextmanager
def _telling(following: dict[str, Callable[[int], Any]], epoch: int) -> Iterator[None]:
    """Name the epoch in an `InvalidValue`, and what follows it."""
    try:
        yield
    except InvalidValue as error:
        if not following or type(error) is not InvalidValue or str(error).startswith("in epoch "):
            raise
        told = " and ".join(f"{name} of {_told(follow)}" for name, follow in following.items())
        raise InvalidValue(f"in epoch {epoch}, by {told}: {error}") from error


def _told(follow: Any) -> str:
    return getattr(follow, "__qualname__", None) or repr(follow)
