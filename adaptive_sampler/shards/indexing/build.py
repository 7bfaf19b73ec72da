"""Builds an index: scans new and changed shards, keeps the tables of the others, and commits them as a new version."""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import braceexpand
import numpy as np
from numpy.typing import NDArray

from adaptive_sampler.errors import InvalidValue, StoreLocked
from adaptive_sampler.progress import Show, shown
from adaptive_sampler.shards.errors import Handler, ShardError
from adaptive_sampler.shards.indexing.columns import put
from adaptive_sampler.shards.indexing.contents import EVERYWHERE, INDEX, Contents, IndexVersion, newest
from adaptive_sampler.shards.indexing.merge import check_rows_stay, first_rows, merged, repeated
from adaptive_sampler.shards.indexing.scan import ShardTable
from adaptive_sampler.shards.sources.access import Access
from adaptive_sampler.shards.sources.base import same_stamp
from adaptive_sampler.shards.sources.crew import Crew
from adaptive_sampler.storage.base import Lease
from adaptive_sampler.storage.generation import GenerationWriter
from adaptive_sampler.storage.places import Options, storage_at
from adaptive_sampler.storage.versions import Versions

KEPT = 2  # versions: the newest, and the one before it, which another process may be opening at this moment
PAUSE = 0.05  # seconds between two looks at whether another builder is done

Result = TypeVar("Result")


class Request(NamedTuple):
    """What `ShardIndex.build` was asked for: the URLs, one by one, what makes a shard's table, and its other arguments but
    the path.
    """

    urls: list[str]
    scan: Callable[[str, Access], ShardTable]
    workers: int | None
    handler: Handler
    progress: Show
    renumber: bool
    access: Access
    options: Options


def build(request: Request, path: str | os.PathLike[str]) -> None:
    """Index the shards at `path`; see ShardIndex.build. If another process is doing it, wait for what it makes."""
    versions = Versions(storage_at(path, request.options), INDEX)
    before = newest(versions)
    if before is not None and _nothing_new(before, request):
        return
    looked = None  # where shards are still missing, it takes no lock to see that, so that ranks do it side by side
    if before is not None and _unsure(before) and _answers(before, request):
        looked = _indexed(before, request)
        if _same(before, *looked):
            return
    with _alone(versions, request.progress) as (lease, waited):
        present = newest(versions)
        if lease.taken_over and present is not None:
            versions.take_over()
        theirs = waited and present is not None and (before is None or present.manifest != before.manifest)
        if theirs and present is not None and _answers(present, request):
            lease.release()
            if _unsure(present) and not request.renumber:
                build(request, path)  # what the other handler let pass, this one has to decide about
            return
        unmoved = before is not None and present is not None and present.manifest == before.manifest
        columns, about = looked if looked is not None and unmoved else _indexed(present, request)
        if present is None or not _same(present, columns, about):
            _commit(versions, present, columns, about)


def _commit(
    versions: Versions, present: IndexVersion | None, columns: Mapping[str, NDArray[Any]], about: Contents
) -> None:
    """Write a new version, which shares with `present` what is the same, and drop old ones."""
    meta = about.meta()

    def write(writer: GenerationWriter) -> None:
        meta["columns"] = put(writer, columns, None if present is None else present.columns)

    parent = None if present is None else present.manifest
    made = versions.commit(parent, write, meta, note="built", pin=False, observed=0)
    versions.drop(KEPT, made.version)


def expand(urls: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """Expand WebDataset's shard notation (braces, and `::` between URLs) into a list; a list of URLs is taken as it is.

    A path is one shard.

    Raises InvalidValue for an empty list, and for a URL that occurs twice.
    """
    if isinstance(urls, os.PathLike):
        urls = [urls]
    text = urls.split("::") if isinstance(urls, str) else [os.fspath(url) for url in urls]
    expanded = [url for part in text for url in (braceexpand.braceexpand(part) if isinstance(urls, str) else [part])]
    if not expanded:
        raise InvalidValue("urls is empty: give at least one shard.")
    seen: set[str] = set()
    for url in expanded:
        if url in seen:
            raise InvalidValue(f"{url} is listed twice: a shard's samples have one row each. Remove one.")
        seen.add(url)
    return expanded


@contextlib.contextmanager
def _alone(versions: Versions, progress: Show) -> Iterator[tuple[Lease, bool]]:
    """Be the only builder in this block. It is given the lease, and whether another builder, done or dead now, was first."""
    waited = False
    with shown(progress, f"waiting for another process that writes {versions.where}") as tell:
        while True:
            try:
                lease = versions.storage.lease()
                break
            except StoreLocked:
                if not waited and not callable(progress):
                    tell(0, None)
                waited = True
                time.sleep(PAUSE)
    try:
        yield lease, waited
    finally:
        lease.release()


def _nothing_new(present: IndexVersion, request: Request) -> bool:
    """Whether an index has all shards that are asked for, unchanged, so that nothing is to be done."""
    about = present.about
    if request.renumber or _unsure(present) or set(request.urls) != set(about.urls):
        return False
    stamps = dict(zip(about.urls, about.stamps, strict=True))

    def unchanged(url: str) -> bool:
        with contextlib.suppress(ShardError, OSError):
            return same_stamp(_stamp(url, request.access), stamps[url])
        return False

    return all(same for _, same in _each(unchanged, list(stamps), request, "looking for changed shards"))


def _unsure(present: IndexVersion) -> bool:
    """Whether there are shards that the next build looks at, though nothing may have changed."""
    return bool(present.about.missing or present.about.again)


def _answers(present: IndexVersion, request: Request) -> bool:
    """Whether what another builder has just made is what is asked for here."""
    about = present.about
    if request.renumber and about.urls != [url for url in request.urls if url not in about.missing]:
        return False
    return {*about.urls, *about.missing} == set(request.urls)


def _indexed(present: IndexVersion | None, request: Request) -> tuple[dict[str, NDArray[Any]], Contents]:
    """The columns of an index of all shards, and what it says of them. Those that it has already keep their rows."""
    known = {} if present is None or request.renumber else present.tables()
    order = _in_order(request.urls, list(known), present)
    before = Contents([], [], []) if present is None or request.renumber else present.about
    tables, damage, again = _looked_at(known, before, order, request)
    columns, layouts = merged(tables)
    twice = repeated(columns, layouts, tables)
    if twice is not None and not _decided(EVERYWHERE, twice.error, request.handler, damage):
        tables = first_rows(tables, max(twice.before, sum(len(table.offsets) for table in known.values())))
        columns, layouts = merged(tables)
        again |= {table.url for table in tables[-1:]}
    found = {table.url: table.stamp for table in tables}
    missing = [url for url in order if url not in found]
    unsure = [url for url in found if url in again]
    return columns, Contents(list(found), list(found.values()), layouts, damage, missing, unsure)


def _looked_at(
    known: Mapping[str, ShardTable], before: Contents, order: list[str], request: Request
) -> tuple[list[ShardTable], list[dict[str, str]], set[str]]:
    """The tables of all shards, the damage that is told of them, and the URLs that the next build looks at again.

    known, before: the tables of the present index and what it says. The rows of a shard stay, whatever became of it.
    """
    tables: list[ShardTable] = []
    damage: list[dict[str, str]] = []
    again: set[str] = set()
    as_before = set(known)
    sure = {url: table for url, table in known.items() if url not in before.again}
    last = next(reversed(list(known)), None)
    for url, result in _each(partial(_scanned, sure, request), order, request, "indexing shards"):
        table, goes_on = _judged(url, result, request.handler, damage)
        table = known.get(url) if table is None else table
        if table is not None:
            check_rows_stay(known.get(url), table, url == last)
            tables.append(table)
        if result is not sure.get(url):
            as_before.discard(url)
        if not goes_on or isinstance(result, Exception):
            again.add(url)
        if not goes_on:
            break
    tables += [known[url] for url in list(known)[len(tables) :]]
    damage += [error for error in before.damage if error["url"] in as_before]
    place = {url: number for number, url in enumerate(order)}
    return tables, sorted(damage, key=lambda error: place[error["url"]]), again | (as_before & set(before.again))


def _same(present: IndexVersion, columns: Mapping[str, NDArray[Any]], about: Contents) -> bool:
    """Whether this is what an index says and holds already."""
    return present.about == about and all(
        present.columns.shapes[name][:2] == (values.dtype.name, len(values))
        and np.array_equal(present.columns(name), values)
        for name, values in columns.items()
    )


def _in_order(urls: list[str], known: list[str], present: IndexVersion | None) -> list[str]:
    gone = set(known) - set(urls)
    if gone and present is not None:
        raise InvalidValue(
            f"{present.versions.where} indexes {sorted(gone)[0]} and {len(gone) - 1} more shards that are not among the "
            f"{len(urls)} given: without them the rows behind would move. List them too, or pass renumber=True and start a "
            "new store."
        )
    old = set(known)
    return known + [url for url in urls if url not in old]


def _each(work: Callable[[str], Result], urls: list[str], request: Request, what: str) -> Iterator[tuple[str, Result]]:
    """(URL, what `work` makes of it), in order, while threads work ahead; `what`: the title of the progress."""
    # Threads are enough, because a header pass waits for the disk or the network, not for Python.
    threads = request.workers or min(32, 4 * (os.cpu_count() or 1))
    with Crew(threads) as crew, shown(request.progress, what) as tell:
        tasks = deque(crew.give(partial(work, url)) for url in urls)
        for done, url in enumerate(urls, 1):
            result = tasks.popleft().result()
            tell(done, len(urls))
            yield url, result


def _scanned(known: Mapping[str, ShardTable], request: Request, url: str) -> ShardTable | Exception:
    """The table of a shard: the `known` one, if the shard has not changed, or else a new one; or what is wrong with it."""
    try:
        old = known.get(url)
        if old is not None and same_stamp(_stamp(url, request.access), old.stamp):
            return old
        return request.scan(url, request.access)
    except (ShardError, OSError) as error:
        return error


def _stamp(url: str, access: Access) -> str:
    source = access.open(url)
    source.close()
    return source.stamp


def _judged(
    url: str, result: ShardTable | Exception, handler: Handler, damage: list[dict[str, str]]
) -> tuple[ShardTable | None, bool]:
    """The table that goes into the index, None for a shard that could not be scanned; and whether later shards follow.

    Every error goes to `handler`. If it returns False, the samples before the damage are kept.
    """
    if isinstance(result, Exception):
        return None, _decided(url, result, handler, damage)
    for before, error in result.flaws:
        if not _decided(url, error, handler, damage):
            return result.first(before), False
    return result, True


def _decided(url: str, error: Exception, handler: Handler, damage: list[dict[str, str]]) -> bool:
    """What `handler` returns for `error`, which is listed in `damage` if it does not raise."""
    goes_on = handler(error)
    damage.append({"error": type(error).__name__, "message": str(error), "url": url})
    return goes_on
