"""The words of the benchmark: a case, its contestants, and the package that one of them needs."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

BATCH = 256
Turn = Callable[[], Any]  # where it returns a float, the seconds of its part that counts
Row = dict[str, Any]


@dataclass(frozen=True)
class Package:
    """Somebody else's package: the module that it brings, and what pip calls it."""

    module: str
    pip: str

    @property
    def installed(self) -> bool:
        """Whether it can be found; it is not imported."""
        return find_spec(self.module) is not None


@dataclass(frozen=True)
class Contestant:
    """Who competes: `where` is "module:function" below `contestants`, called as function(n, *arguments) -> a turn."""

    name: str
    where: str
    arguments: tuple[Any, ...] = ()
    package: Package | None = None
    least: float | None = None  # the ratio to ours that we set out to reach
    remark: str = ""  # where what it does is not quite the same
    refuses: bool = False  # raises at once where n is too large for it, which tells more than a guess at its time

    @property
    def missing(self) -> str:
        """What would have to be installed for it, or ""."""
        if self.package is None or self.package.installed:
            return ""
        return f"not installed (pip install {self.package.pip})"


@dataclass(frozen=True)
class Case:
    """One piece of work and who does it, ours first. `own`: what a user's sampler must yield to take part."""

    name: str
    contestants: tuple[Contestant, ...]
    own: str | None = None
    most: int | None = None  # rows: a larger n is brought down to this, as the work does not grow with n
    sized: bool = True  # False: there is no n
    grows: bool = True  # False: a turn is the same work whatever n is
    least_from: int = 10**7  # rows from which on `least` is meant
    in_one: int = (
        0  # turns a round, all in one process, where two processes' memory would hide the difference; 0: apart
    )

    @property
    def ours(self) -> Contestant:
        """The contestant that the others are compared with."""
        return self.contestants[0]

    def claims(self, n: int) -> bool:
        """Whether a ratio is meant to be reached at this size."""
        return n >= self.least_from and any(contestant.least is not None for contestant in self.contestants)

    def sizes(self, wanted: list[int]) -> list[int]:
        """The sizes at which the case is run, ascending."""
        if not self.sized:
            return [0]
        return sorted({min(n, self.most or n) for n in wanted})
