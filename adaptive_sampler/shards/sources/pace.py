"""How fast a server is, as far as its answers have shown: how long one lets wait, and how fast its bytes come."""

from urllib.parse import urlsplit

_FIRST = 100e6  # bytes a second, until a body has shown another rate
_LARGE = 128 << 10  # bytes: a smaller body may have come with its headers, and shows no rate
_LEAST, _MOST = 16 << 10, 8 << 20  # bytes: what a gap is between, whatever was measured
_REQUEST = 100e-6  # seconds of work that a request makes here, with obstore 0.12.1
_TURN, _TOGETHER = 2e-3, 16  # seconds, and requests at most, that a thread works before it hands something over
_NARROW = 8  # requests at a time that are never too many
_RISE = 1.02  # an answer that took longer raises the latency by so much at most: most of its wait is for other answers


class Pace:
    """What was measured of one server. Threads may note answers at once: one that is lost does no harm."""

    def __init__(self) -> None:
        self.latency = 0.0  # seconds from a request to the first byte of its answer, where it waits for no other
        self.wait = 0.0  # the same as requests come, on the average of some
        self.rate = _FIRST  # bytes a second, of one answer
        self.whole = False  # whether it has sent a whole file in place of a range

    def note(self, waited: float, lasted: float, size: int) -> None:
        """Note an answer whose headers came after `waited` seconds, and its `size` bytes within `lasted` more."""
        self.latency = min(waited, self.latency * _RISE) if self.latency else waited
        self.wait = self.wait + (waited - self.wait) / 16 if self.wait else waited
        if size >= _LARGE and lasted > 0:
            self.rate += (size / lasted - self.rate) / 4

    @property
    def gap(self) -> int:
        """Bytes that come in the time of another request: that many are cheaper to read than to skip."""
        return int(min(max(self.latency * self.rate, _LEAST), _MOST))

    @property
    def together(self) -> int:
        """Requests that one thread makes before it hands their bytes over, which is half as much work as a request."""
        return min(max(int(_TURN / self.latency), 1), _TOGETHER) if self.latency else 1

    @property
    def width(self) -> int:
        """Requests that are to be under way at a time, so that this side has always an answer to work on.

        Half of those that fit into the mean wait: with all of them, what waits here for its turn would ask for more.
        """
        return max(int(self.wait / (2 * _REQUEST)), _NARROW)


_PACES: dict[str, Pace] = {}


def pace_of(url: str) -> Pace:
    """What is known in this process of the server or bucket of `url`."""
    parts = urlsplit(url)
    return _PACES.setdefault(f"{parts.scheme}://{parts.netloc}", Pace())
