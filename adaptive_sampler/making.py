"""How a store is made of what is there already: of a table, or of other stores."""

from collections.abc import Sequence
from typing import Any

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.memory import merging
from adaptive_sampler.memory.body import Body
from adaptive_sampler.session import Session
from adaptive_sampler.storage import creating
from adaptive_sampler.storage.opening import Opened, placed
from adaptive_sampler.storage.places import Options, Place
from adaptive_sampler.tables.asked import Scores
from adaptive_sampler.tables.filling import filled
from adaptive_sampler.tables.own import Columns


def from_table(
    path: Place,
    source: Any,
    scores: Scores,
    key: str | None,
    epoch: int,
    fingerprint: str | None,
    overwrite: bool,
    columns: Columns,
    options: Options,
) -> Opened:
    """A new store from a table. Arguments and errors are those of `ScoreStore.from_table`."""
    body = filled(source, scores, key, epoch, fingerprint, columns)
    return _begun(path, body, "made from a table", overwrite, options)


def merge(path: Place, stores: Sequence[Any], overwrite: bool, options: Options) -> Opened:
    """A new store from what several stores observed. Arguments and errors are those of `ScoreStore.merge`."""
    merged = merging.merge([_body(store) for store in stores])
    return _begun(path, merged, f"merged from {len(stores)} stores", overwrite, options)


def _begun(path: Place, body: Body, note: str, overwrite: bool, options: Options) -> Opened:
    path, storage = placed(path, None, options)
    return creating.begin(path, body, note, overwrite, storage=storage)


def _body(store: Any) -> Body:
    session = getattr(store, "session", None)
    if not isinstance(session, Session):
        raise InvalidValue(f"stores has {store!r}, which is no ScoreStore: open it, ScoreStore.open(path, mode='r').")
    session.settled("a merge is wanted")
    return session.body
