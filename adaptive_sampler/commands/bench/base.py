"""The types of the benchmark: a case, its contestants, and the package that a contestant needs."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

BATCH = 256
Turn = Callable[[], Any]  # if it returns a float, that is the time in seconds
Row = dict[str, Any]


@dataclass(frozen=True)
class Package:
    """A third-party package: the name of its module, and its name for pip."""

    module: str
    pip: str

    @property
    def installed(self) -> bool:
        """Whether the module can be found. It is not imported."""
        return find_spec(self.module) is not None


@dataclass(frozen=True)
class Contestant:
    """Who competes in a case. `where`: "module:function" in `contestants`; function(n, *arguments) returns a turn."""

    name: str
    where: str
    arguments: tuple[Any, ...] = ()
    package: Package | None = None
    least: float | None = None  # the goal: that it takes at least so many times as long as ours
    remark: str = ""  # how its work differs, if it is not quite the same
    refuses: bool = False  # raises at once if n is too large for it, so it need not be skipped by a predicted time

    @property
    def missing(self) -> str:
        """What would have to be installed for it, or "" if nothing is missing."""
        if self.package is None or self.package.installed:
            return ""
        return f"not installed (pip install {self.package.pip})"


@dataclass(frozen=True)
class Case:
    """One piece of work, and who does it, ours first. `own`: what a user's own sampler must yield to take part."""

    name: str
    contestants: tuple[Contestant, ...]
    own: str | None = None
    most: int | None = None  # rows: the largest n that is run; a larger n is reduced to it
    sized: bool = True  # False: there is no n
    grows: bool = True  # False: the work of a turn does not depend on n
    least_from: int = 10**7  # rows: the smallest n for which `least` is the goal
    in_one: int = (
        0  # turns per round, all in one process, if two processes' memory layouts would hide the difference; 0: apart
    )

    @property
    def ours(self) -> Contestant:
        """The contestant that the others are compared with."""
        return self.contestants[0]

    def claims(self, n: int) -> bool:
        """Whether a contestant has a goal (`least`) at this size."""
        return n >= self.least_from and any(contestant.least is not None for contestant in self.contestants)

    def sizes(self, wanted: list[int]) -> list[int]:
        """The sizes at which the case is run, ascending."""
        if not self.sized:
            return [0]
        return sorted({min(n, self.most or n) for n in wanted})
