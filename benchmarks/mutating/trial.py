"""One trial: a copy of a folder is mutated, read, gone on with and read again; the verdict says whether that is right."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.mutating import damage, reseal, text
from benchmarks.mutating.damage import Mutation
from benchmarks.mutating.folder import Folder, NothingToMutate, copied, what
from benchmarks.mutating.reading import Reading
from benchmarks.mutating.subjects import Subject

MUTATIONS: dict[str, Mutation] = {
    "a bit flipped": damage.flip_a_bit,
    "a byte changed": damage.change_a_byte,
    "a stretch made zero": damage.zero_a_stretch,
    "cut": damage.cut,
    "emptied": damage.empty,
    "grown": damage.grow,
    "grown by zeros": damage.grow_by_zeros,
    "two files swapped": damage.swap,
    "swapped with another version's": damage.swap_versions,
    "replaced by another version's": damage.put_another_version,
    "two folders swapped": damage.swap_folders,
    "a file removed": damage.remove_a_file,
    "a folder removed": damage.remove_a_folder,
    "a folder for a file": damage.file_to_folder,
    "a file for a folder": damage.folder_to_file,
    "a symbolic link": damage.link,
    "permissions taken away": damage.forbid,
    "a stranger added": damage.add_a_stranger,
    "JSON: a digit": text.change_a_digit,
    "JSON: a value": text.change_a_value,
    "JSON: a member": text.change_a_member,
    "JSON: a key twice": text.repeat_a_key,
}
TWO = "two of these at once"
RESEALED: dict[str, Mutation] = {
    "pointer": reseal.pointer_value,
    "manifest": reseal.manifest_value,
    "metadata in a manifest": reseal.manifest_about,
    "an object": reseal.object_bytes,
    "two files swapped": reseal.objects_swapped,
    "plan": reseal.plan_value,
}
KINDS = [*((name, False) for name in [*MUTATIONS, TWO]), *((name, True) for name in RESEALED)]
TRIES = 50  # to find something that a mutation can change
PRECIOUS = "precious.txt"  # a file beside the folder, which nothing may touch


@dataclass(frozen=True)
class Verdict:
    """`outcome`: right, refused, WRONG, RAW or HUNG.

    `resealed`: whether checksums were made good again. Such an edit is another folder that is whole; "right" then only says
    that two readings agree. `of`: what the file was for. `did`: what was done to it. `why`: the item, and what was read.
    """

    number: int
    subject: str
    mutation: str
    resealed: bool
    of: str
    did: str
    step: str
    outcome: str = "HUNG"
    why: str = ""


Expected = dict[str, Reading]
"""What must be read of a subject: as it was made, by the name "", and after each step, by the step's name."""


@dataclass(frozen=True)
class Trials:
    """Trials of a subject whose folder is in `home`; copies are made in `space`. Trial `number` of `seed` is always the same."""

    subject: Subject
    home: Path
    space: Path
    seed: int

    @cached_property
    def stamps(self) -> dict[str, tuple[int, int]]:
        """The sizes and times of all files in `home` when this was first asked."""
        return _stamps(self.home)

    def expected(self) -> Expected:
        """What is read of copies that nothing happened to. Raises `AssertionError` if a step is refused, or fails."""
        found, _ = {}, self.stamps
        for step in ("", *self.subject.steps):
            reading = found[step] = self._gone_on(self._fresh("sound"), step)
            assert step not in reading.refused, f"{self.subject.name}, {step}: {reading.refused[step]}"
            assert not reading.raw, f"{self.subject.name}, {step}: {reading.raw}"
        return found

    def verdicts(self, number: int, expected: Expected) -> Iterator[Verdict]:
        """Mutate a copy, and judge what is read of it, before and after a step.

        Yields the verdict as far as it is known before anything is read, then the whole of it.
        """
        rng = np.random.default_rng([self.seed, number])
        step = list(self.subject.steps)[int(rng.integers(len(self.subject.steps)))]
        path, mutation, resealed, (name, did) = self._mutated(number, rng)
        verdict = Verdict(number, self.subject.name, mutation, resealed, what(name), f"{name}: {did}", step)
        yield verdict
        twin = self._fresh(f"{number}, step", of=path)
        before, after = self.subject.read(path, self.home), self._gone_on(twin, step)
        if _touched(path.parent) or _touched(twin.parent) or _stamps(self.home) != self.stamps:
            wrong = "something beside the folder was changed"
        elif resealed:
            wrong = self.subject.read(path, self.home).wrong(before)
        else:
            wrong = _otherwise(before, after, step, expected)
        for box in (path.parent, twin.parent):
            shutil.rmtree(box)
        outcome, why = _judged(before, after, step, expected, wrong)
        for folder in (self.space, self.home):  # a reader of the result has others
            why = why.replace(f"{folder}/", "")
        yield replace(verdict, outcome=outcome, why=why)

    def _gone_on(self, path: Path, step: str) -> Reading:
        """Take the step on the folder, and read it then."""
        went = Reading()
        if step:
            went.tried(step, lambda: self.subject.steps[step](path, self.home))
        found = self.subject.read(path, self.home)
        return Reading(found.items, went.refused | found.refused, went.raw | found.raw)

    def _fresh(self, name: str, of: Path | None = None) -> Path:
        """A new copy of the subject's folder, or of the folder `of`, in a folder of its own."""
        box = self.space / name
        shutil.rmtree(box, ignore_errors=True)
        box.mkdir(parents=True)
        (box / PRECIOUS).write_text(PRECIOUS)
        copied(str(of or self.home / "subject"), str(box / "subject"))
        return box / "subject"

    def _mutated(self, number: int, rng: np.random.Generator) -> tuple[Path, str, bool, tuple[str, str]]:
        """A copy that is mutated -> its path, the kind of mutation, the file's name and what was done to it.

        Where there is nothing that the kind whose turn it is can change, the next one has its turn.
        """
        for turn in range(number, number + len(KINDS)):
            (mutation, resealed), path = KINDS[turn % len(KINDS)], self._fresh(f"{number}")
            done = self._once(path, mutation, resealed, rng)
            if done is not None:
                return path, mutation, resealed, done
        raise AssertionError(f"{self.subject.name} has nothing that can be mutated")

    def _once(self, path: Path, name: str, resealed: bool, rng: np.random.Generator) -> tuple[str, str] | None:
        """Mutate the folder -> the file and what was done to it; None if there is nothing that the mutation can change."""
        if name == TWO and not resealed:
            names = rng.choice(list(MUTATIONS), 2, replace=False).tolist()
            done = [found for one in names if (found := self._once(path, one, False, rng))]
            return (done[0][0], " and ".join(f"{n} {did}" for n, did in done)) if done else None
        mutate = (RESEALED if resealed else MUTATIONS)[name]
        for _ in range(TRIES):
            try:
                return mutate(Folder(path, self.subject.part, rng))
            except NothingToMutate:
                continue
        return None


def _otherwise(before: Reading, after: Reading, step: str, expected: Expected) -> str:
    """What was read otherwise than it must be; "" for nothing. A step that was refused must have changed nothing."""
    found = before.wrong(expected[""])
    if found:
        return f"before, {found}"
    went = step not in after.refused and step not in after.raw
    return after.wrong(expected[step if went else ""])


def _judged(before: Reading, after: Reading, step: str, expected: Expected, wrong: str) -> tuple[str, str]:
    """The outcome, and why, if anything is raw, wrong or refused that must not be."""
    raw = {f"before, {name}": why for name, why in before.raw.items()} | after.raw
    refused = {f"before, {name}": before.refused[name] for name in before.refused.keys() - expected[""].refused.keys()}
    refused |= {name: after.refused[name] for name in after.refused.keys() - expected[step].refused.keys()}
    for outcome, found in (("RAW", raw), ("WRONG", {"": wrong} if wrong else {}), ("refused", refused)):
        for name in sorted(found):
            return outcome, f"{name}: {found[name]}".removeprefix(": ")
    return "right", ""


def _touched(box: Path) -> bool:
    return {p.name for p in box.iterdir()} - {PRECIOUS, "subject"} != set() or (box / PRECIOUS).read_text() != PRECIOUS


def _stamps(top: Path) -> dict[str, tuple[int, int]]:
    stats = {path: os.stat(path) for folder, _, names in os.walk(top) for path in (f"{folder}/{n}" for n in names)}
    return {path: (status.st_size, status.st_mtime_ns) for path, status in stats.items()}
