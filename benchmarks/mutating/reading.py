"""What was read of a folder: each item by itself, as one may be right where another is refused."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import adaptive_sampler
from adaptive_sampler.errors import AdaptiveSamplerError

PACKAGE = Path(adaptive_sampler.__file__).parent


@dataclass
class Reading:
    """`items`: what was read, by name. `refused`: the messages of our errors. `raw`: any other error, and where it arose."""

    items: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    raw: dict[str, str] = field(default_factory=dict)

    def item(self, name: str, get: Callable[[], Any]) -> Any:
        """Call `get`, and note what it returns, or how it fails; None if it fails."""
        found = self.tried(name, get)
        if name not in self.refused and name not in self.raw:
            self.items[name] = plain(found)
        return found

    def tried(self, name: str, call: Callable[[], Any]) -> Any:
        """Call `call`, and note only how it fails; None if it fails."""
        try:
            return call()
        except AdaptiveSamplerError as error:
            self.refused[name] = f"{type(error).__name__}: {error}"
        except Exception as error:  # whatever else comes is what is looked for
            self.raw[name] = told(error)
        return None

    def wrong(self, expected: "Reading") -> str:
        """The first item that is not as expected, in words; "" if all are. What was refused is not wrong."""
        for name, value in self.items.items():
            if name not in expected.items:
                return f"{name}: {short(value)}, where nothing was to be read"
            if value != expected.items[name]:
                return f"{name}: {short(value)} instead of {short(expected.items[name])}"
        return ""


def plain(value: Any) -> Any:
    """A value in a form that can be compared, bit for bit: an array as its dtype, shape and bytes, a float by its repr."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if isinstance(value, str | int | bool | None) else repr(value)


def told(error: Exception) -> str:
    """An error, and the deepest line of the package that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    at = f"{Path(ours[-1].filename).relative_to(PACKAGE)}:{ours[-1].lineno}: " if ours else ""
    return f"{at}{type(error).__name__}: {str(error)[:200]}"


def short(value: Any) -> str:
    """A value in at most 120 characters."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
