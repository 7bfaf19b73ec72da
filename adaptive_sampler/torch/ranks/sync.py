"""One store on many ranks: each rank keeps what it observed in a journal, and `sync` folds all journals on every rank."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch.distributed as dist

from adaptive_sampler.checks import whole_number
from adaptive_sampler.disk import checksum
from adaptive_sampler.errors import InvalidValue, NoStore, NotDistributed, OutOfStep, StoreError
from adaptive_sampler.memory.journal import Journal, JournalEntry, runs
from adaptive_sampler.memory.table import Runs
from adaptive_sampler.plan import MadeFrom
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.scoring.base import ScoreLike
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.ranks.collective import gather
from adaptive_sampler.torch.ranks.exchange import compare, exchange, headers_of, pieces, together
from adaptive_sampler.torch.ranks.sampler import DistributedAdaptiveSampler, alone, inner
from adaptive_sampler.torch.ranks.visits import PassTallies, VisitTally

LIMIT = 1 << 16  # rows that a rank sends at a time: so few that the next round finds memory that this one has used
_ONE_PATH = "give every rank the same path, on a file system that all of them see"


def distributed_store(
    path: str | os.PathLike[str],
    n: int,
    scores: Sequence[ScoreLike],
    *,
    group: Any = None,
    version: int | None = None,
    exist_ok: bool = False,
    keys: Sequence[str] | None = None,
    fingerprint: str | None = None,
    options: Mapping[str, Any] | None = None,
    runs: Runs = "mean",
) -> ScoreStore:
    """The store of a training, on one process or on many: create it, or go on with it. Call it alike on every rank.

    `n`: the number of rows; `scores`, `keys`, `fingerprint`, `options`, `runs`: as for `ScoreStore.create`. Where `path` holds a
    store it is opened only if that is asked for: by `exist_ok`, at its last commit, or by `version`, at that commit. Without a
    process group, and with `WORLD_SIZE` 1 or unset, this is `ScoreStore.create` or `open`. With one, every rank of `group` keeps
    its observations in a journal until `sync`, and only the first rank writes to disk: `commit` on the others writes nothing.
    Columns of your own are set afterwards, alike on every rank: `store.columns["source"] = values`.

    Raises `StoreError` if a store is there and nobody asked to go on with it, `NotDistributed` if `WORLD_SIZE` says that
    there are more processes and no group is initialised, and `InvalidValue` if the store has other rows, scores or keys. If
    one rank fails, all raise: that rank its own error, the others `OutOfStep`.
    """
    named = {"keys": keys, "fingerprint": fingerprint, "runs": runs}
    if alone("distributed_store"):
        return _created(path, n, scores, version, exist_ok, named, options)
    first = dist.get_rank(group) == 0

    def open_first() -> ScoreStore | None:
        if not first:
            return None
        return _created(path, n, scores, version, exist_ok, named, options)

    store = together(open_first, group)

    store = together(lambda: store or _opened(path, n, scores, version, group, options), group)
    try:
        compare(gather([_identity(store)], group), ["stores"], f"{path} is {store.path} here: {_ONE_PATH}")
    except OutOfStep:
        store.close()
        raise
    store.session.keep_journal()
    return store


def _opened(
    path: str | os.PathLike[str],
    n: int,
    scores: Sequence[ScoreLike],
    version: int | None,
    group: Any,
    options: Mapping[str, Any] | None,
) -> ScoreStore:
    """The store as every rank but the first has it, which the first has made."""
    try:
        store = ScoreStore.open(path, version=version, mode="journal", scores=scores, options=options)
    except NoStore as error:
        raise NoStore(
            f"rank 0 has opened a store at {path}, and rank {dist.get_rank(group)} finds none: {_ONE_PATH}"
        ) from error
    return _same(store, n, scores)


def _identity(store: ScoreStore) -> int:
    """A number that no other store has, as good as certainly."""
    return int(store.session.uuid, 16) >> 65


def _created(
    path: str | os.PathLike[str],
    n: int,
    scores: Sequence[ScoreLike],
    version: int | None,
    exist_ok: bool,
    named: dict[str, Any],
    options: Mapping[str, Any] | None,
) -> ScoreStore:
    """The store as this process, the only one that writes, has it. `named`: its keys and its fingerprint."""
    if version is None:
        return ScoreStore.create(path, n, scores, exist_ok=exist_ok, options=options, **named)
    return _same(ScoreStore.open(path, version=version, scores=scores, options=options), n, scores, **named)


def sync(
    store: ScoreStore,
    sampler: AdaptiveSampler | DistributedAdaptiveSampler | None = None,
    *,
    group: Any = None,
    limit: int = LIMIT,
) -> None:
    """Fold, on every rank, what all ranks observed since the last sync, in (update, rank) order.

    Afterwards the scores are the same on every rank, bit for bit. Call it on every rank, before the next plan is made
    and before the store is committed. With `sampler`, what was observed in its epoch is taken for its visits: a row of its
    plan is folded only as often as the plan visits it, so that padding counts once, and the plans of the ranks are
    compared. An epoch that is begun anew, as by `set_epoch(0)` each time, has its visits anew. If several samplers walk one
    store, sync with each after its own pass. Rows that the plan leaves out, and what `observe` and `fold_table` bring, are
    folded as they come. `limit`: how many rows a rank sends at a time, at most.

    Alone, without a process group, it does nothing but fold what the hooks still hold, so that one script serves one
    process and many.

    Raises `NotDistributed` as `distributed_store` does, and, on every rank, `OutOfStep` if stores or plans differ. If
    one rank fails, all raise: that rank its own error (`StoreError` for a store without a journal, or after a sync that
    broke off), the others `OutOfStep`.
    """
    if alone("sync"):
        _fold_alone(store)
        return
    sampler = None if sampler is None else inner(sampler)
    journal = together(lambda: _ready(store, limit), group)
    plan = _agree(store, sampler, group)
    journal.torn = True  # until everything is folded: if this breaks off, the ranks differ
    entries = journal.entries
    headers = headers_of(entries, journal.passes_of(sampler), group)
    tallies = None
    if sampler is not None and plan is not None:
        tallies = PassTallies(journal, sampler, store.plan(plan[0]), plan[1], headers)
    for exchanged in exchange(pieces(headers[:, :, 0], limit), headers, entries, group):
        for run, updates, nth in runs(exchanged, by_batches=store.session.table.by_batches):
            _fold(store, journal, run, updates, None if tallies is None else tallies.of(nth))
    journal.entries = []
    if tallies is not None:
        tallies.ended()
    told = gather([store.version, store.session.updates, journal.next_version()], group)
    version, updates, following = told[0].tolist()
    journal.synced, journal.version, journal.next = (
        MadeFrom(version, updates),
        version,
        following,
    )  # taken from the first rank, which alone commits
    compare(
        gather([store.session.digest()], group),
        ["scores or columns"],
        "they did so before this epoch, or a rank folded on its own",
    )
    journal.torn = False


def committed(
    store: ScoreStore, sampler: AdaptiveSampler | DistributedAdaptiveSampler | None, *, keep: int | None = None
) -> int:
    """Sync the store if it is distributed, and commit it, for a checkpoint -> the number of the commit.

    `sampler`: as for `sync`; `keep`: as for `ScoreStore.commit`. A store that is open only to read stays as it is.
    """
    if store.session.mode == "r":
        return store.version
    if store.session.journal is not None:
        sync(store, sampler)
    return store.commit(keep=keep)


def _fold_alone(store: ScoreStore) -> None:
    """All that a sync is where there are no ranks. Raises `NotDistributed` for a store that was opened on ranks."""
    if store.session.journal is not None:
        raise NotDistributed(
            f"sync({store.path}): the store was opened on ranks, and their process group is gone. Call sync before the group ends."
        )
    store.session.drain()


def _ready(store: ScoreStore, limit: int) -> Journal:
    """The journal of the store. Raises `StoreError` if it keeps none, or if an earlier sync broke off."""
    store.session.drain()
    whole_number("limit", limit, 1, otherwise=": the rows sent at a time")
    if store.session.journal is None:
        raise StoreError(
            f"{store.path} keeps no journal: open it with distributed_store(path, n, scores) on every rank."
        )
    if store.session.journal.torn:
        store.session.journal.settled("a sync is wanted")
    return store.session.journal


def _agree(store: ScoreStore, sampler: AdaptiveSampler | None, group: Any) -> tuple[str, int] | None:
    """The id of the plan that the ranks walk, and the position at which its epoch was begun; None if no rank walks one.

    Raises `OutOfStep` if plans, positions or stores differ among the ranks.
    """
    remedy = "open one store with distributed_store, and call sync on every rank at each epoch"
    columns = checksum([repr(store.names).encode()])
    stores = gather([len(store), columns, _identity(store)], group)
    compare(stores, ["numbers of rows", "scores", "stores"], remedy)
    plan = None if sampler is None else sampler.fixed_plan
    walk = (
        [0] * 4
        if sampler is None or plan is None
        else [sampler.epoch, sampler.start, *divmod(int(plan.id, 16), 1 << 32)]
    )
    walks = gather([int(plan is not None), *walk], group)
    walking = walks[walks[:, 0] == 1]  # a rank that has drawn nothing yet has no plan to compare
    compare(walking[:, 1:], ["epochs", "positions", "plans", "plans"], remedy)
    if not len(walking):
        return None
    _, _, start, high, low = walking[0].tolist()
    return f"{(high << 32) + low:016x}", start


def _fold(store: ScoreStore, journal: Journal, entry: JournalEntry, updates: int, tally: VisitTally | None) -> None:
    """Fold a run of so many updates into the store. With `tally`, visits are left out that the plan does not have."""
    names = journal.named(entry.mask)
    if tally is None or entry.epoch != tally.walk.epoch:
        store.session.fold_merged(entry.rows, names, entry.values, entry.epoch, updates=updates)
        return
    # Scores that fold the same rows are folded in one update, so that the store keeps them together.
    alike: dict[bytes, tuple[np.ndarray, list[int]]] = {}
    for line, name in enumerate(names):
        mine = tally.take(name, entry.rows)
        alike.setdefault(mine.tobytes(), (mine, []))[1].append(line)
    for mine, lines in alike.values():
        values = np.ascontiguousarray(entry.values[lines][:, mine])
        some = tuple(names[line] for line in lines)
        store.session.fold_merged(entry.rows[mine], some, values, entry.epoch, updates=updates)


def _same(store: ScoreStore, n: int, scores: Sequence[ScoreLike], **named: Any) -> ScoreStore:
    """The store, if it has `n` rows, these scores, and the keys and the fingerprint of `named`.

    Otherwise closes it and raises `InvalidValue`.
    """
    try:
        store.session.check_asked(n, scores, **named)
    except InvalidValue:
        store.close()
        raise
    return store
