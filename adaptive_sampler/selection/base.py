"""What a policy is, how plans name it, and the arguments that policies share: how many rows to keep, and from which scores."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.arrays import library, to_host
from adaptive_sampler.checks import LAST_EPOCH, is_number, whole_number
from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels.identity import Identity
from adaptive_sampler.plan import MadeFrom, Plan
from adaptive_sampler.selection.functions import is_function, named

if TYPE_CHECKING:
    from fractions import Fraction

Order = Literal["highest", "lowest"]
Ties = Literal["random", "row"]


class Scores(Protocol):
    """What a policy may read of a store; a `ScoreStore` has all of it."""

    def __len__(self) -> int:
        """The number of rows."""

    def __getitem__(self, name: str) -> np.ndarray:
        """A score, (n,) float32, NaN for rows that were never observed."""

    def last_seen(self, name: str) -> np.ndarray:
        """The epoch of each row's last observation for a score, (n,) int32, −1 if it was never observed."""

    def count(self, name: str) -> np.ndarray:
        """How often each row was observed for a score, (n,) uint32."""

    def observed(self, name: str) -> int:
        """How many rows have been observed for a score."""

    @property
    def columns(self) -> Mapping[str, Any]:
        """Columns of the user's own, by name, (n,) each: groups, sources, lengths."""

    @property
    def identity(self) -> Identity:
        """What names each row past this process, and so decides its part in what is random."""

    @property
    def made_from(self) -> MadeFrom:
        """The state of the scores now, for a plan to name."""


@runtime_checkable
class Policy(Protocol):
    """Makes plans from scores. It is pure: the same scores, epoch and seed give the same plan, on any number of ranks."""

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """The plan of one epoch."""


_AS_IT_IS = {bool, int, float, str, type(None)}


def is_policy(value: Any) -> bool:
    """Whether `value` is a policy: it has a method `plan`. A sampler's plan is no method, and a class is no policy yet."""
    return callable(getattr(value, "plan", None)) and not isinstance(value, type)


def describe(policy: Any) -> dict[str, Any]:
    """A policy as JSON data: the name of its class and its arguments; an array is given by its length and checksum.

    The arguments are the fields of a dataclass, and all attributes of another object. The policies and dataclasses among them are
    described likewise; a function is given by its module and name. Raises `InvalidValue` for an argument that cannot be described,
    because plans of different policies could not be told apart then.
    """
    kind, given = type(policy).__name__, arguments(policy)
    if as_they_are(given):
        return {"kind": kind, **given}
    return {"kind": kind} | {name: _plain(value, f"{kind}.{name}") for name, value in given.items()}


def numbers_by(what: str, purpose: seeds.Purpose, *, epoch: int, seed: int) -> int:
    """The key of the random numbers of a policy that goes by `what`, such as a score.

    Policies that go by different things draw independently, so that composed ones visit a row as often as the product
    of their odds says, and unbiased weights stay so. Each by itself still plans the same in any company.
    """
    return seeds.key(seed, epoch, purpose, checksum([what.encode()]))


def arguments(policy: Any) -> dict[str, Any]:
    """What a policy was made with, by name."""
    return {name: getattr(policy, name) for name in _names(policy)}


def as_they_are(given: Mapping[str, Any]) -> bool:
    """Whether these arguments are numbers, texts and None alone, in which nothing else can be, as those of most policies."""
    return _AS_IT_IS.issuperset(map(type, given.values()))


@lru_cache(maxsize=256)
def fields(kind: type) -> tuple[str, ...] | None:
    """The names of a dataclass's fields; None for another class."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def _names(policy: Any) -> Sequence[str]:
    """The names of what a policy was made with."""
    if (named := fields(policy.__class__)) is not None:
        return named
    if hasattr(policy, "__dict__"):
        return [*vars(policy)]
    if any(getattr(kind, "__slots__", ()) for kind in type(policy).__mro__):
        raise InvalidValue(
            f"{type(policy).__name__} has slots, so that its arguments are unknown. Make it a dataclass."
        )
    return []


def _plain(value: Any, where: str) -> Any:
    """`value` as JSON data; `where`: what it is, for the message."""
    if type(value) in _AS_IT_IS:  # first, as most arguments are such
        return value
    if library(value):
        array = to_host(value)
        if array.ndim and not array.dtype.hasobject:
            return {"length": len(array), "crc32c": checksum([array])}
        value = array.tolist()
    if is_policy(value) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return describe(value)
    if is_function(value):
        name, taken = named(value)
        return name | ({"values": _plain(taken, f"{where}, {name['function']},")} if taken else {})
    if isinstance(value, (list, tuple)):
        return [_plain(part, where) for part in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(part, where) for name, part in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InvalidValue(
        f"{where} is {value!r}, which a plan cannot name. Give a policy numbers, texts, arrays, functions, dataclasses, other "
        "policies, and lists or dicts of these, make it a dataclass, and keep anything else in an attribute that is no field."
    )


def check_share(name: str, value: Any, *, zero: bool = False) -> None:
    """Raise `InvalidValue` unless `value` is a float, a fraction in (0, 1], or an int, a count above 1.

    `zero`: also allow 0 (as a float or an int) and the count 1. Without it, an int 1 could mean one row or all of them.
    """
    rule = f"a fraction, 0 {'<=' if zero else '<'} {name} <= 1 as a float, or a count of rows as an int"
    if not is_number(value):
        raise InvalidValue(f"{name}={value!r}: must be {rule}.")
    if isinstance(value, (int, np.integer)):
        if value == 1 and not zero:
            raise InvalidValue(f"{name}=1 could mean one row or all of them: write {name}=1.0 for all. It is {rule}.")
        if value < 0 or (value == 0 and not zero):
            raise InvalidValue(f"{name}={value}: must be {rule}.")
    elif not (0 < value <= 1 or (zero and value == 0)):
        raise InvalidValue(f"{name}={value}: must be {rule}.")


@lru_cache(maxsize=64)  # a policy asks for the same ones in each group
def exactly(share: float) -> "Fraction":
    """The decimal number that a float is written as, as an exact fraction: 1/10 for 0.1."""
    from fractions import Fraction  # imported late, so that importing the package stays fast

    return Fraction(str(float(share)))


def cut(shares: Mapping[str, Any], n: int, *, least: int = 0) -> int:
    """How many of `n` rows the shares are together, `least` at least.

    Fractions (floats) are added exactly, and their sum f gives floor(f·n + ½) rows; counts (ints) are added to that.
    Raises `InvalidValue` if the shares ask for more than `n` rows.
    """
    over, under, count = 0, 1, 0  # over / under: the fractions' sum; Python's Fraction finds divisors at each step
    for share in shares.values():
        if isinstance(share, (int, np.integer)):
            count += int(share)
        else:
            above, below = exactly(share).as_integer_ratio()
            over, under = over * below + above * under, under * below
    total = max((2 * over * n + under) // (2 * under) + count, least)
    if total > n:
        asked = " + ".join(f"{name}={value}" for name, value in shares.items())
        raise InvalidValue(f"{asked} asks for {total} of {n} rows. Ask for at most {n}, or for a fraction.")
    return total


def stale_age(store: Scores, by: str, epoch: int, max_age: float | None) -> np.ndarray | None:
    """The age in epochs of each score that is older than `max_age`, (n,) float32, NaN for other rows; None for no limit.

    A row whose last observation names a later epoch than `epoch` was observed in an earlier run, which had come further.
    Its age counts from the beginning of the current run, as if it had been observed in the epoch before the first.
    """
    if max_age is None:
        return None
    seen = store.last_seen(by)
    age = np.where(seen > epoch, epoch + 1, epoch - seen).astype(np.float32)
    age[(seen < 0) | (age <= max_age)] = np.nan
    return age


def check_max_age(max_age: Any) -> None:
    """Raise `InvalidValue` unless `max_age` is None or a number of epochs, 1 to `LAST_EPOCH`."""
    if max_age is not None:
        whole_number(
            "max_age", max_age, 1, most=LAST_EPOCH, what="a number of epochs", otherwise=", or None for no limit"
        )


def check_by(by: Any) -> None:
    """Raise `InvalidValue` unless `by` is a str, the name of a score."""
    if not isinstance(by, str):
        remedy = (
            "Policies do not nest: take the score that it goes by" if hasattr(by, "plan") else "Pass the score's name"
        )
        raise InvalidValue(f"by={by!r}: the name of a score of the store, as a str such as 'el2n'. {remedy}.")


def check_choice(name: str, value: Any, allowed: tuple[str | bool, ...]) -> None:
    """Raise `InvalidValue` unless `value` is one of the `allowed` words."""
    if value not in allowed:
        raise InvalidValue(f"{name}={value!r}: one of {', '.join(map(repr, allowed))}.")
