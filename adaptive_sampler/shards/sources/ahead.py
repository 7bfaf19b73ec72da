"""Reads a remote shard's headers: in large pieces where they lie close together, else one by one."""

from adaptive_sampler.shards.sources.base import Source

PIECE = 4 << 20  # bytes of a request that reads bodies too
_LARGE = 64 << 10  # bytes: a piece of less has hardly a header
_TRIED = 4  # requests before that: what they show decides


class Ahead:
    """Gives bytes whose offsets ascend, from pieces that were read ahead if the ways between them have been short.

    A way is short if its bytes come in less time than an answer takes (`Source.lone_gap`), as far as both were measured.
    """

    def __init__(self, source: Source) -> None:
        self._source, self._start, self._piece = source, 0, b""
        self._large = False  # whether requests read bodies too
        self._first, self._asked = 0, 0  # the first byte, and the number, of the requests that decide

    def read(self, start: int, length: int) -> bytes:
        """Bytes start … start + length − 1, fewer only at the end of the shard. Raises what the source does."""
        here = start - self._start
        ends = self._start + len(self._piece) == self._source.size  # then there is no more to ask for
        if here < 0 or (here + length > len(self._piece) and not (ends and self._large)):
            self._decide(start)
            self._start, here = start, 0
            self._piece = self._source.read(start, max(length, PIECE) if self._large else length)
        return self._piece[here : here + length]

    def _decide(self, start: int) -> None:
        """Decide how much to ask for at `start`: by the way from the last piece, or by those between the last headers."""
        gap = self._source.lone_gap or 0
        if self._large:
            self._large = start - self._start - len(self._piece) <= gap
        elif self._asked == _TRIED:
            self._large = (start - self._first) / _TRIED <= gap
        if self._asked == _TRIED:
            self._first, self._asked = start, 0
        self._asked += 1

    def memory(self, start: int) -> tuple[bytes, int]:
        """(The piece that is in memory, its offset); no bytes if it is no large one, or ends before `start`."""
        large = len(self._piece) > _LARGE and start < self._start + len(self._piece)
        return (self._piece if large else b""), self._start
