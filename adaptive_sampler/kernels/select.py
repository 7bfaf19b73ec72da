"""Which rows have a rank in [lo, hi): exact, one bit a row, ties broken by a keyed hash or by row order."""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels import split
from adaptive_sampler.kernels.bits import row_dtype
from adaptive_sampler.kernels.identity import Identity, RowIdentity
from adaptive_sampler.kernels.splitmix import python_number

Ties = Literal["random", "row"]
Keys = NDArray[np.float32]
Words = NDArray[np.uint64]

_SAMPLE = 1 << 18  # keys looked at, at most, to guess where a rank lies; the result never depends on it
_NAN = np.float32(np.nan)  # as an upper bound: none, as nothing is above it
_NONE = np.empty(0, np.float32)
_FEW = 1 << 14  # keys of which no sample is taken: they are partitioned in less time than a sample is sorted
_HALF = 1 << 32  # how many values the upper half of a hash has


def premix(salt: int) -> np.uint64:
    """Where the sequence of hashes starts by which ties are broken; near salts must not mean near starts."""
    return python_number(salt + 0x5E1EC7, 0)


def _kth(keys: Keys, rank: int) -> np.float32:
    """The rank-th smallest key by two histograms: slower than a guess, whatever the keys are. NaN if it has
    none."""
    raw = keys.view(np.uint32)
    key, before = -1, 0
    for _ in range(2):
        counts = np.zeros(1 << 16, np.int64)
        split.histogram(raw, key, counts)
        ends = np.cumsum(counts)
        digit = int(np.searchsorted(ends, rank - before, side="right"))
        before += int(ends[digit] - counts[digit])
        key = digit if key < 0 else key << 16 | digit
    bits = key ^ (0x80000000 if key >> 31 else 0xFFFFFFFF)
    return np.uint32(bits).view(np.float32)


class _Cut:
    """The rows on one side of a rank in (0, n): [rank, …) if `above`, else [0, rank). `words` is the answer.

    `keys` None stands for n equal ones, whose ties are random. `start`: the hashes' sequence, `identity`: whose they are.
    """

    def __init__(self, keys: Keys | None, rank: int, above: bool, start: np.uint64, identity: Identity) -> None:
        n = len(identity)
        self._rank, self._above, self._n = rank, above, n
        self._start, self._identity = start, identity
        self._row_type = row_dtype(n)
        self.words: Words = np.zeros(-(-n // 64), np.uint64)
        self._keys, self._parts = _NONE, [(_NONE, 0, self.words)]
        if keys is not None:  # whole words, and the rest padded with NaN, which is on neither side
            whole = n // 64
            rest = np.full(64 if n % 64 else 0, _NAN, np.float32)
            rest[: n % 64] = keys[whole * 64 :]
            self._keys = keys
            self._parts = [
                (keys[: whole * 64], 0, self.words[:whole]),
                (rest, whole * 64, self.words[whole:]),
            ]

    def _bring_together(self) -> None:
        """Copy keys that lie apart: one pass reads them in less time than a copy takes, several passes do not."""
        self._keys = np.ascontiguousarray(self._keys)
        first, *rest = self._parts
        self._parts = [(self._keys[: len(first[0])], *first[1:]), *rest]

    def by_key(self, ties: Ties) -> Words:
        """Cut by (key, tie): one pass if a sample tells about where the rank lies and few keys lie there."""
        near, room = self._guess()
        if room:
            low, high = near[0], near[-1]
            rows = np.empty(room, self._row_type)
            values = np.empty(room, np.float32)
            before, m = self._split(low, high, rows, values)
            inside = before <= self._rank and (self._rank < before + m or bool(np.isnan(high)))
            if inside and m <= room and low == low:
                self._settle(rows[:m], values[:m], self._rank - before, ties)
                return self.words
        self._bring_together()
        value, before, count = self._tied_at(near)
        if np.isnan(value):  # fewer rows than `rank` have one
            return self.words if self._above else _ranked(self._keys, self._n)
        left = self._rank - before
        if ties == "random" and left > 0:
            return self.by_hash(value, count, left)
        for keys, _, words in self._parts:
            left = split.split_rows(keys, value, left, self._above, words)
        return self.words

    def _tied_at(self, near: Keys) -> tuple[np.float32, int, int]:
        """(the rank's key, keys below it, keys equal to it): sampled keys are tried first."""
        for _ in range(4):
            if len(near) == 0:
                break
            value = near[len(near) // 2]
            if np.isnan(value):
                if self._rank >= self._split(np.float32(-np.inf), _NAN)[1]:  # every key that is not NaN
                    return value, 0, 0
                near = near[~np.isnan(near)]
                continue
            before, count = self._split(value, value)
            if before <= self._rank < before + count:
                return value, before, count
            near = near[near < value] if self._rank < before else near[~(near <= value)]
        value = _kth(self._keys, self._rank)
        return value, *self._split(value, value)

    def by_hash(self, value: np.float32, ties: int, rank: int) -> Words:
        """Cut by key at `value`, and the rows of that key by hash before the rank-th of these `ties` rows."""
        width = 8 * math.sqrt(ties) + 64  # in ranks; hashes are uniform, so the rank tells where to look
        while True:
            low = max(0, int((rank - width) / ties * _HALF))
            high = min(_HALF - 1, int((rank + width) / ties * _HALF))
            rows = np.empty(int(4 * width) + 64, self._row_type)
            ends, before, m = (np.uint32(low), np.uint32(high)), 0, 0
            for keys, first, words in self._parts:
                asked = keys, value, self._start, *self._identity.names, *ends, self._above
                some, m = split.split_ties(*asked, self._n, first, words, rows, m)
                before += some
            if before <= rank < before + m <= before + len(rows):
                order = self._by_tie(rows[:m], "random")
                split.set_rows(self.words, order[rank - before :] if self._above else order[: rank - before])
                return self.words
            width *= 4

    def _guess(self) -> tuple[Keys, int]:
        """(near, room): sampled keys, ascending, around the rank's, and how many rows may lie between the
        outer two.

        room is 0 where the sample says that many more do, as few keys are shared by many rows.
        """
        n = self._n
        size = min(_SAMPLE, n // 256)
        sample = np.empty(size + 2, np.float32)
        split.sample(self._keys, sample[1:-1])
        sample[0], sample[-1] = -np.inf, _NAN
        sample.sort()
        share = self._rank / n
        slack = 3.5 * math.sqrt(share * (1 - share) / size) + 8 / size
        first, last = max(0, int((share - slack) * size)), min(size + 1, int((share + slack) * size) + 2)
        between = np.searchsorted(sample, sample[last], "right") - np.searchsorted(sample, sample[first], "left")
        near = sample[first : last + 1]
        return near, int(4 * slack * n) if between <= 3 * slack * size + 2 else 0

    def _split(
        self, low: np.float32, high: np.float32, rows: NDArray[Any] | None = None, values: Keys = _NONE
    ) -> tuple[int, int]:
        rows = np.empty(0, self._row_type) if rows is None else rows
        below, m = 0, 0
        for keys, first, words in self._parts:
            way = split.split if keys.flags.c_contiguous else split.split_apart
            some, m = way(keys, low, high, self._above, first, words, rows, values, m)
            below += some
        return below, m

    def _settle(self, rows: NDArray[Any], values: Keys, rank: int, ties: Ties) -> None:
        """Set those of `rows`, which is all on which the sample left a doubt, that lie on the side of
        `rank`."""
        if rank >= len(rows):  # beyond the last row that is ranked
            split.set_rows(self.words, rows[:0] if self._above else rows)
            return
        ranked = np.partition(values, rank)
        value = ranked[rank]
        tied = self._by_tie(rows[: split.settle(self.words, value, self._above, rows, values)], ties)
        left = rank - int(np.count_nonzero(ranked[:rank] < value))
        split.set_rows(self.words, tied[left:] if self._above else tied[:left])

    def _by_tie(self, rows: NDArray[Any], ties: Ties) -> NDArray[Any]:
        return rows if ties == "row" or len(rows) < 2 else self._identity.ordered(self._start, rows)


def _cut_few(keys: Keys, rank: int, above: bool, salt: int, identity: Identity, ties: Ties) -> Words:
    """As `_Cut(...).by_key(ties)`, of keys that are few enough to be partitioned as a whole."""
    words, tied = np.zeros(-(-len(keys) // 64), np.uint64), np.empty(len(keys), np.int64)
    left, m = split.split_few(keys, rank, above, ties == "row", words, tied)
    if left:  # of the rows at the rank some are on the one side, some on the other, by their hashes
        order = identity.ordered(premix(salt), tied[:m])
        split.set_rows(words, order[left:] if above else order[:left])
    return words


def _words(rows: NDArray[np.bool_]) -> Words:
    """The rows of a mask, as words."""
    words = np.zeros(-(-len(rows) // 64), "<u8")
    words.view(np.uint8)[: -(-len(rows) // 8)] = np.packbits(rows, bitorder="little")
    return words.astype(np.uint64, copy=False)


def _ranked(keys: Keys | None, n: int) -> Words:
    """Every row that has a rank."""
    return _words(np.ones(n, np.bool_) if keys is None else keys == keys)


def rank_window(
    keys: Keys, lo: int, hi: int, *, salt: int, ties: Ties, identity: Identity | None = None
) -> NDArray[np.uint8]:
    """The rows whose ascending rank by (key, tie) is in [lo, hi): (ceil(n/8),) uint8, little bit order.

    `keys` is (n,) float32. A NaN has no rank and is never selected; -inf and +inf are ordinary, -0.0 equals
    0.0. ties="random" orders equal keys by a hash of (salt, name of the row), whatever n and the other rows are;
    ties="row" by row, as a stable argsort does. `identity`: the names of the n rows; None: their numbers.
    Windows that share a bound partition the ranked rows exactly.
    Raises InvalidValue for other ties and unless 0 <= lo <= hi.
    """
    if ties not in ("random", "row"):
        raise InvalidValue(f"ties={ties!r} is neither 'random' nor 'row'. Pass one of them.")
    once = len(keys) >= _FEW and not 0 < lo < hi < len(keys)  # whether they are read once, and may lie apart
    keys = np.asarray(keys, np.float32) if once else np.ascontiguousarray(keys, np.float32)
    names = identity or RowIdentity(len(keys))
    if len(keys) < _FEW:
        return _window(len(keys), lo, hi, keys, lambda rank, above: _cut_few(keys, rank, above, salt, names, ties))
    start = premix(salt)
    return _window(len(keys), lo, hi, keys, lambda rank, above: _Cut(keys, rank, above, start, names).by_key(ties))


def hash_window(n: int, lo: int, hi: int, *, salt: int, identity: Identity | None = None) -> NDArray[np.uint8]:
    """As `rank_window` with n equal keys and random ties: hi - lo rows at random, (ceil(n/8),) uint8."""
    names = identity or RowIdentity(n)
    start = premix(salt)
    value = np.float32(0)
    return _window(n, lo, hi, None, lambda rank, above: _Cut(None, rank, above, start, names).by_hash(value, n, rank))


def without(keys: Keys, packed: NDArray[np.uint8]) -> Keys:
    """A copy of the keys, (n,) float32, in which the rows of a window, as `rank_window` returns it, have none: NaN."""
    found = np.empty(len(keys), np.float32)
    split.hide(np.ascontiguousarray(keys, np.float32), np.unpackbits(packed, count=len(keys), bitorder="little"), found)
    return found


def _window(n: int, lo: int, hi: int, keys: Keys | None, cut: Callable[[int, bool], Words]) -> NDArray[np.uint8]:
    if not 0 <= lo <= hi:
        raise InvalidValue(f"lo={lo}, hi={hi}: a window needs 0 <= lo <= hi. Pass ranks in ascending order.")
    if lo >= min(hi, n):
        words = np.zeros(-(-n // 64), np.uint64)
    elif hi >= n:
        words = cut(lo, True) if lo > 0 else _ranked(keys, n)
    else:
        words = cut(hi, False)
        if lo > 0:
            words &= ~cut(lo, False)
    return words.astype("<u8", copy=False).view(np.uint8)[: -(-n // 8)]
