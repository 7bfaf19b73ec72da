"""When two arrays are the same for a check: to the last bit."""

from typing import Any

import numpy as np


def identical(a: Any, b: Any) -> bool:
    """Whether two arrays have the same dtype, the same shape and the same bits, so that NaN equals NaN."""
    a, b = np.asarray(a), np.asarray(b)
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
