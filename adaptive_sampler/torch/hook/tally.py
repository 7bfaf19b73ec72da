"""Counts the observations whose values are not finite, and warns or raises if there are too many."""

import warnings
from dataclasses import dataclass

from adaptive_sampler.errors import InvalidValue

_ENOUGH = 1000  # observations that must have come before the share of skipped ones is checked


@dataclass
class Tally:
    """Counts the observations that a hook recorded and those that it skipped.

    This is an object of its own, because setting an attribute on an nn.Module, such as the hook, is slow.
    """

    max_skipped: float  # the largest share of skipped observations that is tolerated
    seen: int = 0  # observations so far, including the skipped ones
    skipped: int = 0

    def leave_out(self, bad: int, rows: int) -> None:
        """Count `bad` of the last `rows` observations as skipped.

        Warns (`RuntimeWarning`) the first time. Raises `InvalidValue` if there were at least 1000 observations so far
        and more than the share `max_skipped` of them was skipped. Both come after the counting, so the counts are right
        afterwards.
        """
        first = not self.skipped
        self.seen += rows
        self.skipped += bad
        if self.seen >= _ENOUGH and self.skipped > self.max_skipped * self.seen:
            raise InvalidValue(
                f"{self.skipped} of {self.seen} observations were not finite, more than max_skipped={self.max_skipped}: the "
                "training has likely diverged, or labels are outside the classes, or label rows are no distribution (>= 0, sum 1). "
                "Lower the learning rate, mend the labels, or raise max_skipped."
            )
        if first:
            warnings.warn(
                f"{bad} of {rows} observations have a value that is not finite; they are not recorded. The loss or the logits have "
                "diverged, or labels are outside the classes, or label rows are no distribution (>= 0, sum 1). "
                "The hook's `skipped` counts them; nonfinite='raise' stops at the first.",
                RuntimeWarning,
                stacklevel=3,
            )
