"""The clock of a store: the epoch that observations belong to, and how much of it was delivered."""

from adaptive_sampler.checks import whole_number

LAST_EPOCH = 2**31 - 1  # when a row was last seen is an int32


class Clock:
    """Only its methods set it; whoever counts epochs or batches calls them.

    `epoch`: of the observations that come now. `delivered`: samples of this epoch that a watched loader delivered, which
    tells the states of a sampler that a commit fits.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch, self._delivered = epoch, 0

    @property
    def epoch(self) -> int:
        """The epoch that observations belong to where they do not say."""
        return self._epoch

    @property
    def delivered(self) -> int:
        """Samples of the epoch that were delivered."""
        return self._delivered

    def enter(self, epoch: int, delivered: int = 0) -> None:
        """A sampler comes to `epoch`, of which `delivered` samples were delivered before, where it is resumed."""
        self._epoch, self._delivered = epoch, delivered

    def show(self, epoch: int) -> None:
        """A batch of `epoch` is here, or a loop without a sampler of ours counts its epochs itself."""
        self._epoch = whole_number("epoch", epoch, 0, most=LAST_EPOCH)

    def deliver(self, delivered: int) -> None:
        """So many samples of the epoch were delivered by now."""
        self._delivered = delivered
