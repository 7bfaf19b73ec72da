"""Objects that stand for others in an object store, until its server has copied them.

No object store has hard links. Copying what did not change, although the server does it, takes half as long as sending it; so
a commit notes what is to be copied, in one object, and the copies are made behind it. What describes a group or an array to
other clients (zarr.json) is copied last, so that they find none before they find it whole.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from adaptive_sampler.errors import StoreDamaged
from adaptive_sampler.remote.objects import Objects

LINKS = "LINKS"  # the prefix of the notes, one for each first component of the names in it; `Storage.names` lists none
SMALL = 32 << 20  # bytes; as much is copied within the commit, where it takes no more time than the rest of it
THREADS = 16  # requests in flight at once: a request waits for the server, and needs no core
BEHIND = 4  # the same behind a commit, where others are waited for
DESCRIBES = "zarr.json"


class Links:
    """The links of one place. Its writer knows all of them, from `load` on; others read the notes when they need them."""

    def __init__(self, objects: Objects) -> None:
        self._objects, self._guard = objects, threading.Condition()  # its lock may be taken twice by one thread
        self._new: dict[str, str] = {}  # target -> source, since the last flush
        self._kept: dict[str, dict[str, str]] = {}  # the same, noted, by the first component of the targets
        self._read: dict[str, dict[str, str]] = {}  # what others noted
        self._owner, self._alone = os.getpid(), False
        self._whole: set[str] = set()  # first components below which something was described already
        self._ready: set[str] = set()  # first components below which all is written, and may be copied
        self._copied: str | None = None  # the one of them that is being copied
        self._settling: threading.Thread | None = None

    def add(self, source: str, target: str) -> None:
        """Let `target` stand for `source` from the next `flush` on."""
        self._new[target] = source

    def wrote(self, name: str) -> None:
        """Note that an object is written, so that it stands for no other. If it describes an array, its chunks must not be late."""
        if name.rpartition("/")[2] == DESCRIBES:
            self._whole.add(_first(name))
        self._new.pop(name, None)
        self.drop(name)

    def forget(self) -> None:
        """Drop what was added since the last flush."""
        self._new = {}

    def flush(self) -> None:
        """Copy what is small, and note the rest. Raises `FileNotFoundError` for a source that is not there."""
        new, self._new = self._new, {}
        if not new:
            return
        new = {target: self.source(source) or source for target, source in new.items()}
        sizes: dict[str, int] = {}
        for group in {_first(source) for source in new.values()}:
            sizes |= {name: about.size for name, about in self._objects.below(group).items()}
        if missing := [source for source in new.values() if source not in sizes]:
            raise FileNotFoundError(f"{self._objects.url}/{missing[0]} is not there")
        small = sum(sizes[source] for source in new.values()) <= SMALL
        at_once = {target: source for target, source in new.items() if small or _first(target) in self._whole}
        self._copy(at_once, THREADS)
        with self._guard:
            for target in new.keys() - at_once.keys():
                self._kept.setdefault(_first(target), {})[target] = new[target]
            for group in {_first(target) for target in new.keys() - at_once.keys()}:
                self._note(group)

    def load(self) -> None:
        """Read all notes, as their only writer from now on, until `leave`."""
        with self._guard:
            self._alone, self._read = True, {}
            self._kept = {group: links for group in self._objects.names(LINKS) if (links := self._noted(group))}

    def leave(self) -> None:
        """Copy what is ready; from now on others may note something."""
        self.settle()
        with self._guard:
            self._alone, self._kept = False, {}

    def source(self, name: str) -> str | None:
        """What `name` stands for; None if it stands for itself, or is not there."""
        return self._of(_first(name)).get(name)

    def groups(self) -> set[str]:
        """The first components of the names that this writer noted."""
        return set(self._kept)

    def below(self, prefix: str) -> list[str]:
        """The names below `prefix`, or `prefix` itself, that stand for other objects."""
        return [name for name in list(self._of(_first(prefix))) if _is_below(name, prefix)]

    def needed(self, prefix: str) -> bool:
        """Whether something elsewhere stands for what is below `prefix`."""
        with self._guard:
            pairs = [pair for links in self._kept.values() for pair in links.items()]
        return any(_is_below(source, prefix) and not _is_below(target, prefix) for target, source in pairs)

    def drop(self, prefix: str) -> None:
        """Forget the links below `prefix`; afterwards none of them is copied any more."""
        if not self.below(prefix):
            return
        group = _first(prefix)
        with self._guard:
            links = self._kept.setdefault(group, dict(self._of(group)))
            for name in [name for name in links if _is_below(name, prefix)]:
                del links[name]  # where it is being copied now, this ends it
            self._guard.wait_for(lambda: self._copied != group)
            self._note(group)

    def settle_behind(self) -> None:
        """Begin to copy, in a thread, what is noted; one that is at it already goes on to the rest."""
        with self._guard:
            self._ready |= self._kept.keys()
            if self._kept and (self._settling is None or not self._settling.is_alive()):
                self._settling = threading.Thread(target=self._settle, daemon=True, name="adaptive-sampler-copies")
                self._settling.start()

    def settle(self) -> None:
        """Copy everything that is ready. What fails now is tried again later, by this writer or by the next one."""
        if self._settling is not None:
            self._settling.join()
        self._settle()

    def _settle(self) -> None:
        failed: set[str] = set()
        try:
            while (group := self._next(failed)) is not None:
                links = self._kept[group]
                names = list(links)
                try:
                    self._copy(links, BEHIND)
                    with self._guard:
                        for name in names:
                            links.pop(name, None)
                        self._note(group)
                except OSError:
                    failed.add(group)
        finally:
            with self._guard:
                self._copied = None
                self._guard.notify_all()

    def _next(self, failed: set[str]) -> str | None:
        """The next group to be copied, which nobody drops from now on."""
        with self._guard:
            self._copied = next((group for group in self._kept if group in self._ready - failed), None)
            self._guard.notify_all()
            return self._copied

    def _copy(self, links: dict[str, str], threads: int) -> None:
        """Copy everything, and the descriptions last: of the arrays, of the groups, then of the whole."""

        def copy(name: str) -> None:
            if (source := links.get(name)) is None:  # it was dropped meanwhile
                return
            try:
                self._objects.copy(source, name)
            except FileNotFoundError:
                if self._objects.changed(name) is None:  # else a writer was killed after it had copied everything
                    raise

        names = list(links)
        last = sorted((name for name in names if name.endswith(DESCRIBES)), key=lambda name: -name.count("/"))
        _each(copy, set(names) - set(last), threads)
        for depth in dict.fromkeys(name.count("/") for name in last):
            _each(copy, [name for name in last if name.count("/") == depth], threads)

    def _note(self, group: str) -> None:
        """Write what is left of a group's links; nothing is written of none."""
        links = self._kept.get(group)
        if links:
            self._objects.put(f"{LINKS}/{group}", [json.dumps(links).encode()])
        else:
            self._objects.remove([f"{LINKS}/{group}"])
            self._kept.pop(group, None)

    def _of(self, group: str) -> dict[str, str]:
        """The links of a group: as this writer has them, as they were read, or as they are noted."""
        mine = os.getpid() == self._owner  # a forked child does not see what its parent notes
        found = (self._kept.get(group) if mine else None) or self._read.get(group)
        if found is None and not (mine and self._alone) and (found := self._noted(group)):
            self._read[group] = found
        return found or {}

    def _noted(self, group: str) -> dict[str, str]:
        found = self._objects.read(f"{LINKS}/{group}")
        try:
            links = {} if found is None else json.loads(found.data)
            if not (isinstance(links, dict) and all(isinstance(source, str) for source in links.values())):
                raise ValueError("texts")
        except (ValueError, RecursionError) as error:
            raise StoreDamaged(
                f"{self._objects.url}/{LINKS}/{group} is not what a commit wrote ({error}). Open another version of the store."
            ) from error
        return links


def _each(call: Callable[[str], Any], names: Iterable[str], threads: int) -> None:
    """Call it for each name, in so many threads; one after another while the interpreter ends, when no thread starts."""
    from adaptive_sampler.storage.writers import Writers  # imported late: only a commit needs it

    names = list(names)
    try:
        with Writers(threads, "adaptive-sampler-copy") as pool:
            for done in [pool.submit(call, name) for name in names]:
                done.result()
    except RuntimeError as error:
        if isinstance(error, OSError):
            raise
        for name in names:
            call(name)


def _first(name: str) -> str:
    return name.partition("/")[0]


def _is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}/")
