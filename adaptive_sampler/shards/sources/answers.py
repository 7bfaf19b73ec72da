"""The bytes of an answer to a range, if they are the ones asked for."""

import re
from collections.abc import Callable

from adaptive_sampler.shards.errors import WrongRange


def body_of(read: Callable[[int], bytes], told: str, url: str, start: int, length: int, *, at_most: bool) -> bytes:
    """The body of an answer to the request for bytes start … start + length − 1 of the file at `url`.

    read: gives up to so many of the body's next bytes. told: the answer's Content-Range. at_most: fewer bytes are right, too.
    Raises WrongRange unless the server says that it sends these bytes, and sends as many. No more than one byte beyond
    them is taken, because a server that sends others may never come to an end.
    """
    answered = re.fullmatch(r"bytes (\d+)-(\d+)/.*", told)
    first, number = (int(answered[1]), int(answered[2]) + 1 - int(answered[1])) if answered else (-1, 0)
    if first != start or not (number == length or (at_most and 0 < number < length)):
        raise wrong(url, start, length, repr(told or "no Content-Range"))
    chunks, left = [], number
    while left >= 0 and (chunk := read(left + 1)):
        chunks.append(chunk)
        left -= len(chunk)
    if left:
        raise wrong(url, start, length, f"{told!r} and {'more' if left < 0 else number - left} bytes")
    return b"".join(chunks)


def wrong(url: str, start: int, length: int, answer: str) -> WrongRange:
    """The error for an answer that has not the bytes asked for."""
    return WrongRange(
        f"{url}: asked for bytes {start}-{start + length - 1}, answered by {answer}. "
        "Where a proxy caches shards, make the range part of its key (nginx: slice and $slice_range), or take shards "
        "out of its cache."
    )
