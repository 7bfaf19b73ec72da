"""How fast a server is, as far as its answers have shown: how long one lets wait, and how fast its bytes come."""

import time

_FIRST = 500e6  # bytes a second, until a body has shown another rate
_LARGE = 128 << 10  # bytes: a smaller body may have come with its headers, and shows no rate
_LEAST, _MOST = 16 << 10, 8 << 20  # bytes: what a gap is between, whatever was measured
_LEAST_TIME = 1e-6  # seconds that a body takes at least, as clocks go
_REQUEST = 100e-6  # seconds of work that a request makes here, with obstore 0.12.1
_TURN, _TOGETHER = 2e-3, 16  # seconds, and requests at most, that a thread works before it hands something over
_NARROW = 8  # requests at a time that are never too many
WIDE = 192  # requests at a time that are never more, unless the user says so: as many are as many connections to the server
_FORGOTTEN = 10.0  # seconds in which the latency at most doubles, and the rate halves: slow answers wait for others


class Pace:
    """What was measured of one server. Threads may note answers at once: one that is lost does no harm.

    latency: seconds from a request to the first byte of its answer, in the quickest one of late.
    rate: bytes a second of one answer, in the quickest one of late that was large.
    whole: whether it has sent a whole file in place of a range.
    """

    def __init__(self) -> None:
        self.latency, self.rate, self.whole = 0.0, 0.0, False
        self._noted = 0.0  # when the last answer came

    def note(self, waited: float, lasted: float, size: int) -> None:
        """Note an answer whose headers came after `waited` seconds, and its `size` bytes within `lasted` more."""
        now = time.monotonic()
        forgotten = 2 ** min((now - self._noted) / _FORGOTTEN, 60.0)
        self.latency = min(waited, self.latency * forgotten) if self.latency else waited
        if size >= _LARGE:
            came = size / max(waited - self.latency + lasted, _LEAST_TIME)
            self.rate = max(came, self.rate / forgotten)
        self._noted = now

    @property
    def gap(self) -> int:
        """Bytes that come in the time that another request costs: its work, or its part of the latency that many share."""
        return self._within(max(_REQUEST, self.latency / WIDE))

    @property
    def lone_gap(self) -> int:
        """The same for one request after the other, which costs all the latency."""
        return self._within(self.latency)

    def _within(self, seconds: float) -> int:
        return int(min(max(seconds * (self.rate or _FIRST), _LEAST), _MOST))

    @property
    def together(self) -> int:
        """Requests that one thread makes before it hands their bytes over, which is half as much work as a request."""
        return min(max(int(_TURN / self.latency), 1), _TOGETHER) if self.latency else 1

    @property
    def width(self) -> int:
        """Requests that are to be under way at a time, so that this side has always an answer to work on.

        Twice as many as fit into the latency, because most answers take longer than the quickest.
        """
        return max(int(2 * self.latency / _REQUEST), _NARROW)


_PACES: dict[str, Pace] = {}


def pace_of(url: str) -> Pace:
    """What is known in this process of the server or bucket of `url`."""
    return _PACES.setdefault("/".join(url.split("/", 3)[:3]), Pace())
