"""One sample of a dataset as a person can look at it: an image, a text, or a table of what it holds, and its label."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adaptive_sampler.arrays import library, to_host
from adaptive_sampler.report.pictures import Picture, is_picture, picture

TEXT, CELL, LINES = 280, 60, 8  # letters of a text, letters of a table's cell, lines of a table
LABELS = ("label", "labels", "target", "targets", "y", "class", "category")


@dataclass
class Shown:
    """What a tile shows of a sample: one of `picture`, `text` and `table` (name -> value), or `failed`, why it cannot."""

    picture: Picture | None = None
    text: str = ""
    table: dict[str, str] = field(default_factory=dict)
    label: str = ""
    failed: str = ""


def show(dataset: Any, row: int) -> Shown:
    """The sample `dataset[row]`. Whatever reading it or drawing it raises is said in the tile: the page is still made."""
    try:
        return _shown(dataset[row])
    except Exception as error:  # a dataset is anybody's code; one broken file of a million is why a person looks here
        return Shown(failed=shortened(f"{type(error).__name__}: {_said(error)}", TEXT))


def shortened(text: str, most: int) -> str:
    """The text, or its beginning and how long it is."""
    if len(text) <= most:
        return text
    return f"{text[:most]} … ({len(text):,} characters)"


def number(value: float) -> str:
    """A score in few letters."""
    return f"{value:.3g}" if not 0 < abs(value) < 0.001 else f"{value:.0e}"


def plain(value: Any) -> str:
    """A label, a prediction or a cell as text: a number as Python writes it, an array by its shape."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if library(value):
        array = to_host(value)
        if array.size == 1:
            return str(array.reshape(-1)[0])
        if array.ndim == 1 and array.size <= LINES:
            return ", ".join(f"{x:.4g}" if array.dtype.kind == "f" else str(x) for x in array)
        return f"{array.dtype} of shape {tuple(array.shape)}"
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)


def _said(error: Exception) -> str:
    try:
        return str(error)
    except Exception:
        return "an error that cannot be shown"


def _shown(sample: Any) -> Shown:
    sample, label = _apart(sample)
    if is_picture(sample):
        return Shown(picture(sample), label=label)
    if isinstance(sample, str):
        return Shown(text=shortened(sample, TEXT), label=label)
    if isinstance(sample, Mapping):
        return _of_mapping(sample, label)
    if isinstance(sample, (tuple, list)) and not all(isinstance(x, (int, float)) for x in sample):
        return _of_mapping({str(i): x for i, x in enumerate(sample)}, label)
    return Shown(text=shortened(plain(sample), TEXT), label=label)


def _apart(sample: Any) -> tuple[Any, str]:
    """(the sample alone, its label), of the shapes in which datasets have both; "" for no label."""
    if hasattr(sample, "_asdict"):  # a named tuple
        sample = sample._asdict()
    elif hasattr(sample, "to_dict"):  # a row of a table
        sample = sample.to_dict()
    if isinstance(sample, Mapping):
        named = next((name for name in sample if str(name).lower() in LABELS and _is_label(sample[name])), None)
        return sample, "" if named is None else shortened(plain(sample[named]), CELL)
    if isinstance(sample, (tuple, list)) and len(sample) == 2 and _is_label(sample[1]):
        return sample[0], shortened(plain(sample[1]), CELL)
    if isinstance(sample, (tuple, list)) and len(sample) == 1:
        return sample[0], ""
    return sample, ""


def _is_label(value: Any) -> bool:
    if isinstance(value, (str, int, float, bool, np.generic)):
        return True
    return bool(library(value)) and value.ndim <= 1 and int(np.prod(tuple(value.shape))) == 1


def _of_mapping(sample: Mapping[Any, Any], label: str) -> Shown:
    """A dict: its first image, else its only text, else its values as lines."""
    image = next((value for value in sample.values() if is_picture(value)), None)
    if image is not None:
        return Shown(picture(image), label=label)
    texts = [value for name, value in sample.items() if isinstance(value, str) and str(name).lower() not in LABELS]
    if len(texts) == 1 and len(texts[0]) > CELL:
        return Shown(text=shortened(texts[0], TEXT), label=label)
    lines = {shortened(str(name), CELL): shortened(plain(value), CELL) for name, value in sample.items()}
    kept = dict(list(lines.items())[:LINES])
    if len(lines) > LINES:
        kept["…"] = f"{len(lines) - LINES} more"
    return Shown(table=kept, label=label)
