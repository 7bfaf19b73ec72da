"""What must not stop halfway: an interrupt from the keyboard waits for its end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Within this, an interrupt from the keyboard is noted; afterwards it is raised, as whoever handles it would have done.

    Python interrupts the main thread alone, so other threads need nothing.
    """
    handler, came = signal.getsignal(signal.SIGINT), list[Any]()
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *told: came.append(told))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[0])
