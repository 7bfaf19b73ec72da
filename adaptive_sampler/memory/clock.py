"""The clock of a store: the epoch that observations belong to, and how many of its samples were delivered."""

from adaptive_sampler.checks import LAST_EPOCH, whole_number


class Clock:
    """The current epoch and its delivered samples, set only by the methods here; code that counts either calls them.

    `epoch`: the epoch of new observations. `delivered`: how many samples of it a watched loader has delivered. A commit
    keeps both, so that a sampler's state can be compared with the commit that it is to be resumed from.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch, self._delivered = epoch, 0

    @property
    def epoch(self) -> int:
        """The epoch of observations that come without one."""
        return self._epoch

    @property
    def delivered(self) -> int:
        """How many samples of the epoch were delivered."""
        return self._delivered

    def enter(self, epoch: int, delivered: int = 0) -> None:
        """Note that a sampler comes to `epoch`; `delivered`: how many of its samples were delivered before a resume."""
        self._epoch, self._delivered = epoch, delivered

    def show(self, epoch: int) -> None:
        """Note that a batch of `epoch` is here; a loop without one of our samplers calls this to count its epochs.

        Raises `InvalidValue` unless `epoch` is a whole number from 0 to `LAST_EPOCH`.
        """
        self._epoch = whole_number("epoch", epoch, 0, most=LAST_EPOCH)

    def deliver(self, delivered: int) -> None:
        """Note how many samples of the epoch were delivered so far."""
        self._delivered = delivered
