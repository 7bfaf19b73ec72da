"""What the command line names: an array in a file, a dataset in a file or in a module of the user's, an index of others."""

import importlib
import operator
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.shards import Energon, Wids


def array(option: str, path: Path) -> np.ndarray:
    """The array in a .npy file. Raises `InvalidValue` if there is none."""
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file)
    except Exception as error:  # NumPy raises whatever a damaged header makes Python's own parser raise
        raise InvalidValue(f"{option} {path}: a .npy file of NumPy's is needed ({_first_line(error)}).") from error


def dataset(named: str) -> Any:
    """The dataset "module:name", or what the function of that name returns; or the array in "name.npy", a sample a row.

    Raises `InvalidValue` if there is none.
    """
    if named.endswith(".npy"):
        return array("--data", Path(named))
    module, _, name = named.partition(":")
    if not module or not name:
        raise InvalidValue(f"--data {named}: write module:name, as in mydata:train_set, or name a .npy file.")
    sys.path.insert(0, "")  # a console script does not look where one stands, as python -m does
    try:
        found = operator.attrgetter(name)(importlib.import_module(module))
        return found if hasattr(found, "__getitem__") or not callable(found) else found()
    except Exception as error:  # of the user's module, whose import may raise anything
        raise InvalidValue(
            f"--data {named}: {type(error).__name__}: {_first_line(error)}. Name a module that can be imported from here, and "
            "in it a dataset or a function without arguments."
        ) from error
    finally:
        sys.path.remove("")


def listing(wrote: Literal["energon", "wids"], places: list[str]) -> Energon | Wids:
    """The index of shards that another package wrote. Raises `InvalidValue` unless one place is named."""
    if len(places) != 1:
        raise InvalidValue(
            f"--from {wrote} with {len(places)} places: name one folder of Energon's, or one file of wids'."
        )
    return Energon(places[0]) if wrote == "energon" else Wids(places[0])


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
