"""What can go wrong, as types. Every message names the value, the rule and the remedy."""


class AdaptiveSamplerError(Exception):
    """The base of everything this package raises on purpose."""


class InvalidValue(AdaptiveSamplerError, ValueError):
    """An argument or an observed value breaks a rule."""


class NotFinite(InvalidValue):
    """A measured value is NaN or inf."""


class RowError(AdaptiveSamplerError, IndexError):
    """A row is no row of this store or of this plan."""


class UnknownName(AdaptiveSamplerError, KeyError):
    """A score or key that does not exist; the message lists those that do."""

    def __str__(self) -> str:  # KeyError would print the message's repr
        return str(self.args[0]) if self.args else ""


class StoreError(AdaptiveSamplerError, RuntimeError):
    """A store cannot do what was asked in the state or mode it is in."""


class StoreDamaged(StoreError):
    """What is on disk is not what was committed, or is no store at all."""


class NoStore(StoreDamaged):
    """Nothing at all is where a store was to be opened."""


class StoreLocked(StoreError):
    """Another process holds the store for writing."""


class PointerMoved(StoreError):
    """Somebody else has committed since this writer last looked."""

    @classmethod
    def at(cls, where: str) -> "PointerMoved":
        """The error for the place that messages call `where`."""
        return cls(
            f"{where}: another writer has committed meanwhile, so this one would undo that. Nothing was changed: open it "
            "again and repeat what is missing, and take no lock from a writer that lives (steal=True)."
        )


class ResumeError(AdaptiveSamplerError, RuntimeError):
    """A saved state does not belong to this store, policy or epoch."""


class NotDistributed(AdaptiveSamplerError, RuntimeError):
    """A process group is needed, and there is none."""


class OutOfStep(AdaptiveSamplerError, RuntimeError):
    """The ranks of a distributed run hold different scores or plans."""


class SelectionLost(AdaptiveSamplerError, RuntimeError):
    """Something outside replaced or reshaped our selection."""
