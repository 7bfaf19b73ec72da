"""How many observations had a value that is not finite, and when those are too many."""

import warnings
from dataclasses import dataclass

from adaptive_sampler.errors import InvalidValue

_ENOUGH = 1000  # rows before the share of skipped ones is judged


@dataclass
class Tally:
    """Apart from the hook, because torch's modules take a while to set an attribute."""

    max_skipped: float
    seen: int = 0  # observations, those left out too
    skipped: int = 0

    def leave_out(self, bad: int, rows: int) -> None:
        """Count `bad` of `rows` as skipped, and only then warn, once, or raise where they are too many."""
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
                "LossHook.skipped counts them; nonfinite='raise' stops at the first.",
                RuntimeWarning,
                stacklevel=3,
            )
