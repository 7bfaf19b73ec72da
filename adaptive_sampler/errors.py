"""The exceptions of this package. Every message names the value, the rule that it breaks, and the remedy."""

# What reading a file raises that was not written by this package, whatever it holds.
MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError, RecursionError)


class AdaptiveSamplerError(Exception):
    """The base of everything this package raises on purpose."""


class InvalidValue(AdaptiveSamplerError, ValueError):
    """An argument or an observed value breaks a rule."""


class NotFinite(InvalidValue):
    """A measured value is NaN or inf."""


class RowError(AdaptiveSamplerError, IndexError):
    """A row number lies outside this store, or the plan does not visit the row."""


class UnknownName(AdaptiveSamplerError, KeyError):
    """No score, key, version or plan has this name. For a score or a version, the message lists those that exist."""

    def __str__(self) -> str:  # KeyError would print the message's repr
        return str(self.args[0]) if self.args else ""


class StoreError(AdaptiveSamplerError, RuntimeError):
    """A store cannot do what was asked in the state or mode it is in."""


class StoreDamaged(StoreError):
    """What is on disk is not what was committed, or is not a store at all."""


class NoStore(StoreDamaged):
    """The place where a store was to be opened is empty."""


class StoreLocked(StoreError):
    """The store is already open for writing, in another process or in this one."""


class Unreachable(StoreError, OSError):
    """An object store does not answer, or refuses what was asked of it. Nothing in memory is lost: it can be asked again."""


class PointerMoved(StoreError):
    """Another writer has committed since this writer last read the pointer."""

    @classmethod
    def at(cls, where: str) -> "PointerMoved":
        """Make the error for a storage; `where` is its name in messages."""
        return cls(
            f"{where}: another writer has committed meanwhile, so this one would undo that. Nothing was changed: open it "
            "again and repeat what is missing, and take no lock from a writer that lives (steal=True)."
        )


class ResumeError(AdaptiveSamplerError, RuntimeError):
    """A saved state does not belong to this store, policy or epoch, or a file of trainings to these candidates; or an iterator
    draws from an epoch that was left."""


class NotDistributed(AdaptiveSamplerError, RuntimeError):
    """The call needs a process group of torch.distributed, and none is initialised."""


class OutOfStep(AdaptiveSamplerError, RuntimeError):
    """The ranks of a distributed run hold different scores or plans, or one of them failed."""


class RankLost(OutOfStep):
    """A rank of a distributed run is gone: its process died, or does not come to a call that all ranks must make."""


class WorkerLost(AdaptiveSamplerError, RuntimeError):
    """A cluster gave a task up: its worker died each time that it was tried, or cannot run this package."""


class SelectionLost(AdaptiveSamplerError, RuntimeError):
    """A loader does not visit what the sampler selected: something replaced the sampler, or a worker has no plan."""
