"""Runs one case at one size: who takes part, who is left out and why, and the rows of the table."""

from collections.abc import Callable
from dataclasses import dataclass, field

from adaptive_sampler.commands.bench.arena import REHEARSED, Out, Setup, Turns, compete, compete_in_one
from adaptive_sampler.commands.bench.base import Case, Contestant, Row
from adaptive_sampler.errors import AdaptiveSamplerError

TOO_LONG = 30.0  # seconds: a contestant whose turn would take longer, predicted from a smaller size, is skipped
MOST_BYTES = 8 << 30  # bytes that a contestant may hold; with more the machine would swap, and no figure would be valid
CLAIMED = 3  # times as many rounds if a contestant has a goal at this size
_HERE = "adaptive_sampler.commands.bench.contestants."


@dataclass
class Contests:
    """Runs cases at ascending sizes. What a contestant needed at a smaller size decides whether it runs at the next."""

    rounds: int
    told: Callable[[str], None]
    _last: dict[tuple[str, str], tuple[int, Turns]] = field(default_factory=dict)

    def hold(self, case: Case, n: int, samplers: dict[str, str]) -> list[Row]:
        """Run one case at one size -> one row per contestant. `samplers`: the user's own, spec -> what it yields.

        Raises AdaptiveSamplerError if our own contestant fails.
        """
        own = [Contestant(spec, "own:batches", (spec,)) for spec, kind in samplers.items() if kind == case.own]
        everybody = [*case.contestants, *own]
        out = {c.name: why for c in everybody if (why := self._left_out(case, c, n))}
        found: dict[str, Turns | Out] = dict.fromkeys(out, Out(""))
        if case.ours.name not in out:
            playing = {c.name: _setup(c, n) for c in everybody if c.name not in out}
            if case.in_one:
                found |= compete_in_one(playing, case.in_one * self.rounds)
            else:
                rounds = self.rounds * (CLAIMED if case.claims(n) else 1)
                found |= compete(playing, rounds, lambda text: self.told(f"{case.name}, n = {n:,}: {text}"))
            ours = found[case.ours.name]
            if isinstance(ours, Out):
                raise AdaptiveSamplerError(
                    f"{case.name}, n={n}: our own contestant is out: {ours.why}. Choose another --case or --n."
                )
        for name, turns in found.items():
            if isinstance(turns, Turns) and n >= REHEARSED:
                self._last[case.name, name] = n, turns
        return [self._row(case, c, n, found, out) for c in everybody]

    def _left_out(self, case: Case, contestant: Contestant, n: int) -> str:
        """Why a contestant is not started, or "" if it is."""
        if contestant.missing or contestant is case.ours or (case.name, contestant.name) not in self._last:
            return contestant.missing
        smaller, turns = self._last[case.name, contestant.name]
        times = n / smaller
        seconds = turns.seconds * times if case.grows else turns.seconds
        memory = ((turns.memory or 0) + (turns.held or 0)) * times
        if seconds > TOO_LONG and not contestant.refuses:
            return f"skipped: {seconds:.0f} s a turn, by its {turns.seconds:.3g} s at n = {smaller:,}"
        if memory > MOST_BYTES:
            return f"skipped: {memory / 2**30:.0f} GiB, by what it held at n = {smaller:,}"
        return ""

    def _row(
        self, case: Case, contestant: Contestant, n: int, found: dict[str, Turns | Out], out: dict[str, str]
    ) -> Row:
        result, ours = found.get(contestant.name, Out("")), found.get(case.ours.name)
        row: Row = {"case": case.name, "n": n, "contestant": contestant.name}
        row |= dict.fromkeys(("s", "ratio", "at least", "extra MiB", "rounds"), "")
        if contestant.least is not None and case.claims(n):
            row["at least"] = contestant.least
        if isinstance(result, Turns):
            assert isinstance(ours, Turns)
            row |= {"s": result.seconds, "ratio": result.times(ours), "rounds": len(result.each)}
            row["extra MiB"] = "" if result.memory is None else result.memory / 2**20
            return row | {"note": contestant.remark}
        return row | {"note": out.get(contestant.name) or result.why or "not run: ours needs what is not installed"}


def _setup(contestant: Contestant, n: int) -> Setup:
    return _HERE + contestant.where, (n, *contestant.arguments)
