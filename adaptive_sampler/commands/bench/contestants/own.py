"""A user's own sampler, "module:factory": tried once, then a contestant in the case that fits what it yields."""

import contextlib
import importlib
import inspect
import operator
import traceback
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from adaptive_sampler.commands.bench.base import BATCH, Turn
from adaptive_sampler.commands.bench.data import drain
from adaptive_sampler.errors import AdaptiveSamplerError, InvalidValue

LOOK = 1000  # rows for the trial of a factory
EPOCH, HALF, DRAWS = "every row once", "n // 2 rows once", "n rows, some of them repeatedly"
_WANTED = f"A sampler of n rows yields {EPOCH}, or {HALF}, or {DRAWS}; one by one or in lists"


def batches(n: int, spec: str) -> Turn:
    """An epoch of the user's sampler. Single rows are put into lists of 256, as a loader would do."""
    sampler = make(spec, n)
    if _is_list(next(iter(sampler), 0)):
        return lambda: drain(sampler)
    return lambda: drain(_lists(iter(sampler)))


def kind(spec: str) -> str:
    """What a sampler yields: EPOCH, HALF or DRAWS, found out by two epochs of LOOK rows.

    Raises InvalidValue, with what the sampler yielded, if it is none of the three.
    """
    sampler = make(spec, LOOK)
    with _of(spec):
        rows = list(_rows(spec, sampler))
        goes_on = any(True for _ in sampler)
    if rows and not goes_on:
        raise InvalidValue(
            f"{spec} yielded nothing in its second epoch. Return an object whose __iter__ begins anew, not a generator."
        )
    once = len(set(rows)) == len(rows)
    found = {(LOOK, True): EPOCH, (LOOK // 2, True): HALF, (LOOK, False): DRAWS}.get((len(rows), once))
    if found is None:
        raise InvalidValue(
            f"{spec} yielded {len(rows)} rows, {len(set(rows))} different ones, for n={LOOK}. {_WANTED}."
        )
    return found


def make(spec: str, n: int) -> Iterable[Any]:
    """Call the factory with n, and with batch_size=256 if it has such a parameter -> the sampler.

    Raises InvalidValue if `spec` names nothing that can be imported, or if the factory's result cannot be iterated.
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        raise InvalidValue(f"--sampler {spec}: write module:factory, as in mysamplers:curriculum.")
    with _of(spec):
        try:
            factory: Any = operator.attrgetter(name)(importlib.import_module(module))
        except (ImportError, AttributeError) as error:
            raise InvalidValue(f"--sampler {spec}: {error}. Name a module that can be imported from here.") from error
        sampler = factory(n, batch_size=BATCH) if "batch_size" in inspect.signature(factory).parameters else factory(n)
    if not isinstance(sampler, Iterable):
        raise InvalidValue(f"{spec} returned {sampler!r}, which cannot be iterated. {_WANTED}.")
    return sampler


@contextlib.contextmanager
def _of(spec: str) -> Iterator[None]:
    """Whatever the user's code raises in the block is said in one line, with the place that it was raised at."""
    try:
        yield
    except AdaptiveSamplerError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise InvalidValue(
            f"--sampler {spec}: {type(error).__name__}: {error} ({at.filename}, line {at.lineno}). A factory is called with n, the "
            "number of rows, and with batch_size= if it has that parameter."
        ) from error


def _rows(spec: str, sampler: Iterable[Any]) -> Iterator[int]:
    """Yield the rows of one epoch of LOOK rows, and check each of them. Raises InvalidValue."""
    for m, value in enumerate(_flat(sampler)):
        if m > 2 * LOOK:
            raise InvalidValue(f"{spec} goes on after {m:,} rows of n={LOOK}: an epoch must end. {_WANTED}.")
        try:
            row = operator.index(value)
        except TypeError as error:
            raise InvalidValue(f"{spec} yielded {value!r}, a {type(value).__name__} and no row. {_WANTED}.") from error
        if not 0 <= row < LOOK:
            raise InvalidValue(f"{spec} yielded row {row} for n={LOOK}: rows are 0 … {LOOK - 1}. {_WANTED}.")
        yield row


def _flat(sampler: Iterable[Any]) -> Iterator[Any]:
    for item in sampler:
        if _is_list(item):
            yield from item
        else:
            yield item


def _is_list(item: Any) -> bool:
    """Whether `item` is several rows. An array or tensor without axes is a single row."""
    return isinstance(item, Iterable) and not isinstance(item, str) and getattr(item, "shape", None) != ()


def _lists(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(islice(rows, BATCH)):
        yield batch
