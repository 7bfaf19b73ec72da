"""How a store is made of what is there already: of a table, or of other stores."""

from collections.abc import Sequence
from typing import Any

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.memory import merging
from adaptive_sampler.memory.body import Body
from adaptive_sampler.session import Session
from adaptive_sampler.storage import creating
from adaptive_sampler.storage.opening import Opened
from adaptive_sampler.storage.places import Place
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
) -> Opened:
    """A new store from a table. Arguments and errors are those of `ScoreStore.from_table`."""
    return creating.begin(
        path, filled(source, scores, key, epoch, fingerprint, columns), "made from a table", overwrite
    )


def merge(path: Place, stores: Sequence[Any], overwrite: bool) -> Opened:
    """A new store from what several stores observed. Arguments and errors are those of `ScoreStore.merge`."""
    merged = merging.merge([_body(store) for store in stores])
    return creating.begin(path, merged, f"merged from {len(stores)} stores", overwrite)


def _body(store: Any) -> Body:
    session = getattr(store, "session", None)
    if not isinstance(session, Session):
        raise InvalidValue(f"stores has {store!r}, which is no ScoreStore: open it, ScoreStore.open(path, mode='r').")
    session.settled("a merge is wanted")
    return session.body
