"""Joins the pieces of one document: those of one call at once, those of several calls at the end of the epoch."""

from dataclasses import dataclass, field

import numpy as np

_MANY = (
    1 << 16
)  # pieces that may wait before they are joined, so that the memory is that of the documents, not of pieces


def joined(rows: np.ndarray, means: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One entry for each row, in ascending order -> (rows, means, counts), each mean weighted by its count of tokens.

    `rows` (pieces,) int64; `means` (scores, pieces) float32, 0 where there are no tokens; `counts` (pieces,) float64. The
    arguments themselves are returned if no row comes twice.
    """
    whole, at = np.unique(rows, return_inverse=True)
    if len(whole) == len(rows):
        return rows, means, counts
    total = np.bincount(at, weights=counts)
    with np.errstate(all="ignore"):  # a mean that is not finite
        sums = [np.bincount(at, weights=line * counts) for line in means.astype(np.float64)]
        found = np.stack(sums) / np.maximum(total, 1) if sums else means[:, : len(whole)]
    return whole, found.astype(np.float32), total


@dataclass
class Waiting:
    """Pieces of one epoch's documents that wait for further pieces: 8 + 8 + 4 bytes a score and document."""

    epoch: int = -1
    names: tuple[str, ...] = ()
    _parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    _held: int = 0  # pieces in `_parts`
    _most: int = _MANY

    def put(self, epoch: int, names: tuple[str, ...], part: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """Add pieces, as `joined` takes them, of the same epoch and scores as those that wait."""
        self.epoch, self.names = epoch, names
        self._parts.append(part)
        self._held += len(part[0])
        if self._held > self._most:
            whole = self._joined()
            self._parts, self._held = [whole], len(whole[0])
            self._most = max(2 * self._held, _MANY)

    def fits(self, epoch: int, names: tuple[str, ...]) -> bool:
        """Whether pieces of this epoch with these scores may be added."""
        return not self._parts or (self.epoch, self.names) == (epoch, names)

    def take(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Everything that waits, joined; None if nothing does."""
        if not self._parts:
            return None
        whole = self._joined()
        self._parts, self._held = [], 0
        return whole

    def _joined(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, means, counts = zip(*self._parts, strict=True)
        return joined(np.concatenate(rows), np.concatenate(means, axis=1), np.concatenate(counts))
