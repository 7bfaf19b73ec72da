"""An error out of a DataLoader's worker, without its loader living on in the traceback."""

import traceback
from typing import Any

import pytest

from adaptive_sampler.errors import SelectionLost


def lost(loader: Any, match: str) -> None:
    """`loader` raises SelectionLost.

    torch's error is in a cycle with its frames, which hold the loader; collected as garbage, the loader waits 5 s for
    each worker, to which it has no queue any more.
    """
    with pytest.raises(SelectionLost, match=match) as caught:
        list(loader)
    traceback.clear_frames(caught.tb)
