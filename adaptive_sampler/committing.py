"""The commits of a store and its plans: what `ScoreStore` has of versions."""

from typing import Literal, overload

from adaptive_sampler.commits.pending import PendingCommit
from adaptive_sampler.plan import MadeFrom, Plan
from adaptive_sampler.session import Session
from adaptive_sampler.storage.pointer import Version


class Committing:
    """A store as versions: commit one, list them, drop old ones."""

    session: Session

    @overload
    def commit(
        self, note: str = "", *, pin: bool = False, keep: int | None = None, wait: Literal[True] = True
    ) -> int: ...
    @overload
    def commit(
        self, note: str = "", *, pin: bool = False, keep: int | None = None, wait: Literal[False]
    ) -> PendingCommit: ...

    def commit(
        self, note: str = "", *, pin: bool = False, keep: int | None = None, wait: bool = True
    ) -> int | PendingCommit:
        """Keep everything as a new version, atomically and durably. Returns its number, the same on every rank.

        Only what changed is written. `note`: your words, which `versions` shows. `pin`: this version is never dropped.
        `keep`: afterwards drop all but the newest `keep` versions, as `drop_versions` does; None: none. A checkpoint needs the
        version committed with it. Raises `StoreError` if the disk refuses, `PointerMoved` if another writer has committed.

        `wait=False`: a copy of what changed is written by a thread, and the training goes on; what is observed meanwhile belongs
        to the next commit. Returns a handle at once: `.result()` waits for the number, or raises the error; then what the commit
        took counts as not committed, and the next one writes it. The next commit, a sampler's state and `close` wait, too.
        Raises `InvalidValue` for that on ranks.
        """
        return self.session.to_write().commit(note, pin, keep, wait)

    def drop_versions(self, *, keep: int) -> None:
        """Delete old versions, and the plans that were made from them. Raises as `commit` does.

        The newest `keep` stay, pinned ones, and the one open here; plans that a state saved with one of these, or now, may name.
        """
        self.session.to_write().drop(keep)

    def versions(self) -> list[Version]:
        """The commits, oldest first, as tuples (version, time, note, pinned) with a further attribute `observed`."""
        return self.session.versions()

    def plan(self, plan_id: str) -> Plan:
        """A plan by its id: a saved one, or one that this store's samplers fixed. Raises `UnknownName` for an unknown id."""
        return self.session.plans[plan_id]

    @property
    def version(self) -> int:
        """The number of the version that was opened or last committed; 0 before the first commit."""
        return self.session.version

    @property
    def made_from(self) -> MadeFrom:
        """The state of the scores now: the last commit, and how many updates were folded in since.

        Raises `StoreError` on ranks while updates wait for `sync`.
        """
        return self.session.settled("a plan is wanted")
