"""What somebody may give to load_state_dict that is no state, and states of which something was changed."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from hypothesis import strategies as st

from adaptive_sampler.errors import ResumeError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
GARBAGE = [None, {}, [], [1, 2], 3, 2.5, "a text", {"weight": np.zeros(3)}, {1: 2}, np.zeros(2), object()]


def kind(value: Any) -> str:
    """The name of a test with `value`: always the same, as no address of an object is."""
    return type(value).__name__


@st.composite
def damaged(draw: st.DrawFn, good: dict[str, Any]) -> dict[str, Any]:
    """`good`, but one of its entries has another value."""
    odd = st.sampled_from([-1, 10**6, 2**70, float("nan"), "0", None, True, [], {}, [[1]], ["nope"], np.zeros(2)])
    return good | {draw(st.sampled_from(sorted(good))): draw(odd | JSON)}


def refused(make: Callable[[], Any], state: Any, words: str) -> None:
    """Loading `state` raises an error of ours with these words, and leaves what was asked to load it as it was."""
    assert re.search(words, told(make, state) or "no error")


def told(make: Callable[[], Any], state: Any) -> str | None:
    """What loading `state` says, leaving what was asked to load it as it was; None if it loads, and is walked then."""
    target = make()
    before = json.dumps(target.state_dict())
    try:
        target.load_state_dict(state)
    except ResumeError as error:
        assert json.dumps(target.state_dict()) == before
        assert take(target) == take(make())
        return str(error)
    with suppress(ResumeError):  # what only the first draw can tell: another batch size where plans are for blocks
        take(target)
    return None


def take(target: Any) -> list[Any]:
    """The next items, up to three."""
    return [item for _, item in zip(range(3), target, strict=False)]
