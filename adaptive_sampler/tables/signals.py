"""What must not stop halfway: signals whose handlers may raise, as that of an interrupt from the keyboard does, wait."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def signals_wait() -> Iterator[None]:
    """Within this, signals that have a handler in Python are noted; afterwards each that came is handled, once, by that.

    Python runs handlers in the main thread alone, so other threads need nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {number: signal.getsignal(number) for number in signal.valid_signals()}
    handlers: dict[int, Any] = {number: handler for number, handler in found.items() if callable(handler)}
    came, waiting = dict[int, Any](), True

    def note(number: int, frame: Any) -> None:
        if waiting:
            came.setdefault(number, frame)
        else:  # a handler raised while they were put back, and this one stayed
            handlers[number](number, frame)

    try:
        for number in handlers:
            signal.signal(number, note)
        yield
    finally:
        waiting = False
        for number, handler in handlers.items():
            signal.signal(number, handler)
        with ExitStack() as all_of_them:  # though one raises
            for number, frame in reversed(came.items()):
                all_of_them.callback(handlers[number], number, frame)
