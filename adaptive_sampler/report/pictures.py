"""Images of whatever kind a dataset has, as small PNGs: any layout of the channels, any range of values."""

import base64
import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from adaptive_sampler.arrays import library, to_host

_LARGEST = 80  # pixels of the longer side
_CHANNELS = (1, 3, 4)
_EXTREME = 20  # one side that is so many times the other is no image but a table or a signal


class Picture(NamedTuple):
    """A PNG as a data URI, and what was changed to show it, such as "stretched from −2.1 … 2.6"; "" for nothing."""

    source: str
    note: str


def is_picture(value: Any) -> bool:
    """Whether this is an image: one of PIL's, or an array of two axes, or of three of which one is for channels."""
    if isinstance(value, Image.Image):
        return True
    if not library(value) or value.ndim not in (2, 3) or getattr(value.dtype, "kind", _kind(value)) not in "biufV":
        return False
    shape = tuple(int(length) for length in value.shape)
    if len(shape) == 3 and not any(c in (*_CHANNELS, 2) for c in (shape[0], shape[-1])):
        return False
    sides = shape if len(shape) == 2 else sorted(shape)[1:]
    return min(sides) > 1 and min(shape) > 0 and max(sides) <= _EXTREME * min(sides)


def _kind(value: Any) -> str:
    """NumPy's letter for what another library's array holds, of which only complex numbers matter."""
    return "c" if "complex" in str(value.dtype) else "f"


def picture(value: Any) -> Picture:
    """The image as a PNG of `_LARGEST` pixels or less. Raises whatever PIL or NumPy does for one that is damaged."""
    if isinstance(value, Image.Image):
        value.load()
        image, note = value.convert("RGBA" if "A" in value.getbands() else "RGB"), ""
        if value.mode in ("I", "F", "I;16"):
            image, note = _drawn(np.asarray(value), False)
    else:
        image, note = _drawn(to_host(value), library(value) == "torch")
    buffer = io.BytesIO()
    image.thumbnail((_LARGEST, _LARGEST))  # never larger: the browser enlarges small ones without blurring them
    image.save(buffer, "PNG", optimize=True)
    return Picture("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), note)


def _drawn(array: np.ndarray, channels_first: bool) -> tuple[Image.Image, str]:
    pixels, note = _bytes(array)
    if pixels.ndim == 3:
        first, last = (pixels.shape[axis] in (*_CHANNELS, 2) for axis in (0, -1))
        if first and (channels_first or not last):
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.shape[-1] == 2:
            pixels, note = pixels[..., :1], ", ".join(filter(None, ["the first of 2 channels", note]))
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(pixels)), note


def _bytes(array: np.ndarray) -> tuple[np.ndarray, str]:
    """(uint8 of the same shape, what was done). Whole numbers of 0 … 255, and floats of 0 … 1 and −1 … 1, are as usual."""
    if array.dtype == np.uint8:
        return array, ""
    values = array.astype(np.float64)
    known = np.isfinite(values)
    if not known.any():
        return np.full(array.shape, 128, np.uint8), "no value is finite"
    low, high = float(values[known].min()), float(values[known].max())
    whole = array.dtype.kind in "iu"
    note = ""
    if array.dtype.kind == "b" or (low >= 0 and high <= 1):
        begin, end = 0.0, 1.0
    elif low >= 0 and high <= 255 and (whole or high > 16):
        begin, end = 0.0, 255.0
    elif low >= -1 and high <= 1 and not whole:
        begin, end = -1.0, 1.0
    else:
        begin, end, note = low, high, f"values {low:.3g} … {high:.3g} stretched"
    if not known.all():
        note = ", ".join(filter(None, [note, f"{np.count_nonzero(~known):,} values not finite"]))
    scaled = np.where(known, (values - begin) / ((end - begin) or 1.0), 0.5)
    return np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8), note
