"""What a pass over a table finds in some lines: counts by bin and group, and the lines near a cut.

A line's rank key is a uint64 that sorts like the line: the bits of its score as an integer in the upper half, in the lower half
those of its hash if they are needed; or the bits of a time. The largest uint64 says that the line has no rank.
"""

import numpy as np

from adaptive_sampler.kernels.jit import kernel

UNRANKED = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_FNV, _PRIME, _MIX = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3), np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)


@kernel
def hash_between(text, borders):
    """The hash of each string between two borders, as `keys.hash_all` hashes them where NULs lie between."""
    hashes = np.empty(borders.size - 1, np.uint64)
    for i in range(hashes.size):
        h = _FNV
        for j in range(borders[i], borders[i + 1]):
            h = (h ^ np.uint64(text[j])) * _PRIME
        h = (h ^ (h >> _HALF)) * _MIX
        hashes[i] = h ^ (h >> _HALF)
    return hashes


@kernel
def _score_key(raw):
    """(the bits of a float32 score as a uint32 that sorts like it, whether it has a rank): −0.0 is 0.0, and NaN has none."""
    bits = np.uint32(raw)
    bits = np.uint32(0) if bits == np.uint32(0x80000000) else bits
    key = bits ^ (np.uint32(0xFFFFFFFF) if bits >> np.uint32(31) else np.uint32(0x80000000))
    return key, bits & np.uint32(0x7FFFFFFF) <= np.uint32(0x7F800000)


@kernel
def score_keys(raw):
    """The rank key of each score, without a hash. raw: the bits of float32 scores; −0.0 is 0.0, and NaN has no rank."""
    keys = np.empty(raw.size, np.uint64)
    for i in range(raw.size):
        key, ranked = _score_key(raw[i])
        keys[i] = np.uint64(key) << _HALF if ranked else UNRANKED
    return keys


@kernel
def count_all(raw, codes, groups, firsts, shifts, dropped, bits, lines, counts):
    """Count the lines of each group, and the scores by bin.

    raw: as in `score_keys`; codes: of each line, or empty: all are of groups[0]; groups: of each code; firsts, shifts: of the upper
    16 bits of a score, its first bin, and how many of its lower bits the bins do not tell apart; dropped: lower bits of a bin's
    number that are not told apart either; bits: those that are; counts: (groups · 2**bits,) uint32 or int64.
    """
    if not raw.size:
        return
    group = np.uint32(groups[0])
    lines[group] += 0 if codes.size else raw.size
    for i in range(raw.size):
        key, ranked = _score_key(raw[i])
        upper = key >> np.uint32(16)
        place = (firsts[upper] + ((key & np.uint32(0xFFFF)) >> shifts[upper])) >> dropped
        if codes.size:
            group = np.uint32(groups[codes[i]])
            lines[group] += 1
        counts[(group << bits) + place] += ranked


@kernel
def _count_cut(keys, floor, low, high, shift, bins):
    """Count lines by bin inside one interval; returns how many lie below it."""
    below = np.int64(0)
    for i in range(keys.size):
        place = keys[i] - low
        if place <= high - low:
            bins[place >> shift] += 1
        below += np.int64(keys[i] < low) & np.int64(keys[i] >= floor)
    return below


@kernel
def _count_one(keys, codes, groups, begins, floors, lows, highs, shifts, below, counts):
    """As `count_within` where a group has one cut at most."""
    cuts = np.full(groups.size, -1, np.int64)
    starts, widths = np.zeros(groups.size, np.uint64), np.zeros(groups.size, np.uint64)
    for code in range(groups.size):
        for c in range(begins[groups[code]], begins[groups[code] + 1]):
            cuts[code], starts[code], widths[code] = c, floors[c], highs[c] - floors[c]
    for i in range(keys.size):
        code = codes[i]
        if keys[i] - starts[code] <= widths[code]:
            c = cuts[code]
            if c < 0:
                continue
            if keys[i] < lows[c]:
                below[c] += 1
            else:
                counts[c, (keys[i] - lows[c]) >> shifts[c]] += 1


@kernel
def most_cuts(begins):
    """How many cuts a group has at most."""
    most = np.int64(0)
    for group in range(begins.size - 1):
        most = max(most, np.int64(begins[group + 1] - begins[group]))
    return most


@kernel
def count_within(keys, codes, groups, begins, floors, lows, highs, shifts, below, counts):
    """For each cut of a line's group: count it below the cut's interval, or by bin inside.

    codes: of each line, or empty: all are of group 0; groups: of each code; begins: (groups + 1,), where the cuts of each group
    begin; floors: what lies under it was counted before.
    """
    if not keys.size:
        return
    if codes.size and most_cuts(begins) < 2:
        _count_one(keys, codes, groups, begins, floors, lows, highs, shifts, below, counts)
        return
    if not codes.size:
        for c in range(begins[1]):
            below[c] += _count_cut(keys, floors[c], lows[c], highs[c], shifts[c], counts[c])
        return
    for i in range(keys.size):
        key = keys[i]
        group = groups[codes[i]]
        for c in range(begins[group], begins[group + 1]):
            if key >= floors[c] and key <= highs[c]:
                if key < lows[c]:
                    below[c] += 1
                else:
                    counts[c, (key - lows[c]) >> shifts[c]] += 1


@kernel
def _near_one(keys, codes, groups, begins, floors, highs, places):
    """As `near_scores` where a group has one cut at most."""
    starts = np.full(groups.size, np.uint64(1) << np.uint64(40), np.uint64)  # no score lies there
    widths = np.zeros(groups.size, np.uint64)
    for code in range(starts.size):
        for c in range(begins[groups[code]], begins[groups[code] + 1]):
            starts[code] = floors[c] >> _HALF
            widths[code] = (highs[c] >> _HALF) - starts[code]
    m = np.int64(0)
    if not codes.size:
        start, width = starts[0], widths[0]
        for i in range(keys.size):
            places[m] = i
            m += np.int64((keys[i] >> _HALF) - start <= width)
        return m
    for i in range(keys.size):
        code = codes[i]
        places[m] = i
        m += np.int64((keys[i] >> _HALF) - starts[code] <= widths[code])
    return m


@kernel
def near_scores(keys, codes, groups, begins, floors, highs, places):
    """The positions of the lines whose score is one of an interval of its group's cuts; returns how many.

    codes: of each line, or empty: all have the code 0; groups: of each code.
    """
    if not keys.size:
        return np.int64(0)
    if most_cuts(begins) < 2:
        return _near_one(keys, codes, groups, begins, floors, highs, places)
    m = np.int64(0)
    group = np.int64(groups[0]) if groups.size else np.int64(0)
    for i in range(keys.size):
        if codes.size:
            group = np.int64(groups[codes[i]])
        near = False
        for c in range(begins[group], begins[group + 1]):
            near |= keys[i] >> _HALF >= floors[c] >> _HALF and keys[i] >> _HALF <= highs[c] >> _HALF
        places[m] = i
        m += np.int64(near)
    return m


@kernel
def _upper(ends):
    """The first upper half of rank keys that has none below each of `ends`, without a hash."""
    return (ends >> _HALF) + np.minimum(ends & np.uint64(0xFFFFFFFF), np.uint64(1))


@kernel
def inside(raw, groups, lows, highs, doubtful_low, doubtful_high, kept, places):
    """Whether each line's score is from the low to before the high of its group's, as far as that follows from the score.

    raw: as in `score_keys`; groups: of each line, or empty: all are of group 0; lows, highs: (groups,) rank keys; doubtful_low,
    doubtful_high: (groups,) bool, whether the hash decides about lines of the score of an end; kept: (lines,) bool, gets the
    answer, and True where there is no rank; places: gets the positions of the lines that are in doubt. Returns how many.
    """
    if not raw.size:
        return np.int64(0)
    begins, ends, at_low, at_high = _upper(lows), _upper(highs), lows >> _HALF, highs >> _HALF
    m = np.int64(0)
    doubts = np.empty(64, np.bool_)
    begin, end, first, last, doubt_first, doubt_last = (
        begins[0],
        ends[0],
        at_low[0],
        at_high[0],
        doubtful_low[0],
        doubtful_high[0],
    )
    for start in range(0, raw.size, 64):
        some, answers, any_doubt = raw[start : start + 64], kept[start : start + 64], False
        if groups.size:
            for i in range(some.size):
                key, ranked = _score_key(some[i])
                group = np.uint64(groups[start + i])
                answers[i] = ((key >= begins[group]) & (key < ends[group])) | (not ranked)
                doubts[i] = ((key == at_low[group]) & doubtful_low[group]) | (
                    (key == at_high[group]) & doubtful_high[group]
                )
                doubts[i] &= ranked
                any_doubt |= doubts[i]
        else:  # without a branch, so that LLVM vectorises it
            for i in range(some.size):
                key, ranked = _score_key(some[i])
                answers[i] = ((key >= begin) & (key < end)) | (not ranked)
                doubts[i] = (((key == first) & doubt_first) | ((key == last) & doubt_last)) & ranked
                any_doubt |= doubts[i]
        if any_doubt:
            for i in range(some.size):
                places[m] = start + i
                m += np.int64(doubts[i])
    return m


@kernel
def ascends_by_one(values):
    """Whether integers each are one more than the one before."""
    if not values.size or values[values.size - 1] < values[0]:  # a sum may wrap around
        return not values.size
    wrong = np.int64(0)
    for i in range(1, values.size):
        wrong += np.int64(values[i] - values[i - 1] != 1)
    return wrong == 0


@kernel
def seen(codes, found):
    """Mark which codes there are: found, bool."""
    for i in range(codes.size):
        found[codes[i]] = True


@kernel
def as_codes(values, lowest, places, labels):
    """The code of each integer, (n,) int32, and how many different ones there are: codes are given out as values come.

    places: (range of the values,) int32 zeros, which are changed; labels: as long, gets the value of each code.
    """
    codes = np.empty(values.size, np.int32)
    different = np.int32(0)
    for i in range(values.size):
        at = np.int64(values[i]) - lowest
        if places[at] == 0:
            labels[different] = at + lowest
            different += np.int32(1)
            places[at] = different
        codes[i] = places[at] - np.int32(1)
    return codes, different


@kernel
def list_within(keys, groups, begins, floors, lows, highs, below, cuts, places):
    """As `count_within`, but list which cut each line is near, and its position; returns how many are listed."""
    m = np.int64(0)
    group = np.int64(0)
    for i in range(keys.size):
        if groups.size:
            group = np.int64(groups[i])
        key = keys[i]
        for c in range(begins[group], begins[group + 1]):
            if key >= floors[c] and key <= highs[c]:
                if key < lows[c]:
                    below[c] += 1
                else:
                    cuts[m], places[m] = c, i
                    m += 1
    return m
