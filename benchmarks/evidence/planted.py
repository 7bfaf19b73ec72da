"""Corrupted documents and copies, planted among others at a known rate, and what a ranking finds of them."""

import numpy as np
from sklearn.metrics import average_precision_score

from benchmarks.harness import Row

SHARE, COPIES = 0.05, 10  # of the documents, for each kind of planted ones; how often a copied document comes
CLEAN, BYTES, ORDER, WORDS, COPIED = range(5)
KINDS = ("clean", "random bytes", "bytes in random order", "words in random order", f"{COPIES} copies")
CORRUPTED = (BYTES, ORDER, WORDS)
FOUND = SHARE * len(CORRUPTED)  # of the documents: as many as are corrupted
RANKS = tuple(range(0, 101, 5))  # in percent, where the figure tells how much lies below


def planted(clean: list[bytes], seed: int) -> tuple[list[bytes], np.ndarray]:
    """Replace SHARE of the documents by each kind of planted ones -> (the documents, (n,) int64 positions in KINDS).

    A corrupted document is as long as the one that it was made of. COPIES copies of one document replace as many.
    """
    rng = np.random.default_rng([seed, 1])
    number = COPIES * max(1, round(SHARE * len(clean) / COPIES))
    order, kinds, given = rng.permutation(len(clean)), np.full(len(clean), CLEAN), list(clean)
    for place, kind in enumerate((*CORRUPTED, COPIED)):
        rows = order[place * number : (place + 1) * number]
        kinds[rows] = kind
        for at, row in enumerate(rows):
            source = clean[rows[at - at % COPIES]] if kind == COPIED else clean[row]
            given[row] = source if kind == COPIED else corrupted(source, kind, rng)
    return given, kinds


def corrupted(text: bytes, kind: int, rng: np.random.Generator) -> bytes:
    """`text` with printable bytes at random in its place, or with its bytes or its words in another order."""
    if kind == BYTES:
        return bytes(rng.integers(32, 127, len(text)).tolist())
    if kind == ORDER:
        return bytes(rng.permutation(list(text)).tolist())
    words = text.split(b" ")  # line ends stay with their words, so that no byte is lost
    return b" ".join(words[place] for place in rng.permutation(len(words)))


def first_of_each(documents: list[bytes], kinds: np.ndarray) -> np.ndarray:
    """The rows of all that is not corrupted, each text once: what somebody would train on who knew what is planted."""
    first = np.array([documents.index(text) for text in documents]) == np.arange(len(documents))
    return np.flatnonzero(first & ~np.isin(kinds, CORRUPTED))


def told(scores: np.ndarray, kinds: np.ndarray, negated: bool) -> Row:
    """What a ranking finds, in percent: average precisions, and how much of each planted kind its end of the ranking holds.

    `negated`: corrupted documents are expected to be the lowest.
    """
    scores, corrupt, copied = -scores if negated else scores, np.isin(kinds, CORRUPTED), kinds == COPIED
    ranked, ends = ranking(scores, kinds), {COPIED: slice(round(SHARE * len(kinds)))}
    ends |= dict.fromkeys(CORRUPTED, slice(-round(FOUND * len(kinds)), None))
    return {
        "corrupted": 100 * float(average_precision_score(corrupt, scores)),
        "copies": 100 * float(average_precision_score(copied, -scores)),
        "at its end": {KINDS[k]: 100 * float((ranked[end] == k).sum() / (kinds == k).sum()) for k, end in ends.items()},
    }


def ranking(scores: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """(n,) the kinds by ascending score, equal scores in random order."""
    tied = np.random.default_rng(0).permutation(len(scores))
    return kinds[tied[np.argsort(scores[tied], kind="stable")]]


def lies_below(scores: np.ndarray, kinds: np.ndarray) -> dict[str, list[float]]:
    """Kind -> the percent of its documents that lie below each of RANKS."""
    ranked = ranking(scores, kinds)
    return {
        name: [
            round(100 * float((ranked[: round(r * len(ranked) / 100)] == k).sum() / (kinds == k).sum()), 1)
            for r in RANKS
        ]
        for k, name in enumerate(KINDS)
    }
