"""What the columns of a table are called, and what its file says of the scores in it."""

import json
from collections.abc import Mapping
from typing import Any

from adaptive_sampler.checks import LAST_EPOCH, is_whole
from adaptive_sampler.errors import MALFORMED, InvalidValue
from adaptive_sampler.memory.body import Body
from adaptive_sampler.scoring.base import REGISTRY, Fold, describe

ROW, KEY = "row", "key"
FIRST = (ROW, KEY, "repeats", "loss_weight")  # the columns before the scores
ABOUT = b"adaptive_sampler"  # the entry of an Arrow schema's metadata
FORMAT = 1  # of that entry
_CLASH = "score:"
_OWN_CLASH = "column:"


def column_of(score: str) -> str:
    """The column with the values of a score: its name, or "score:row" where "row" is something else.

    No two columns can clash: a score's name is an identifier, which has neither a colon nor a slash, and no name of a column of
    the user's own.
    """
    return _CLASH + score if score in FIRST else score


def column_of_own(name: str) -> str:
    """The column with a column of the user's own: its name, or "column:row" where "row" is something else."""
    return _OWN_CLASH + name if name in FIRST else name


def beside(column: str, what: str) -> str:
    """The column with the `what` of the score in `column`, such as "loss/count": the name that it has in the store, too."""
    return f"{column.removeprefix(_CLASH)}/{what}"


def own_columns(fold: Fold) -> list[str]:
    """The fold's columns that its score does not tell: none for a built-in fold whose one column is the score."""
    built_in = REGISTRY.get(str(getattr(fold, "kind", None))) is type(fold)
    return [] if built_in and [*fold.columns] == ["value"] else [*fold.columns]


def about(body: Body, plan_id: str | None) -> dict[bytes, bytes]:
    """What an Arrow schema says of a store, as JSON: how its scores are made, which columns are its user's, how far it is."""
    told = {
        "format": FORMAT,
        "scores": {column_of(score.name): describe(score) for score in body.table.scores},
        "columns": {column_of_own(name): name for name in body.columns},
        "runs": [*body.runs],
        "epoch": body.epoch,
        "fingerprint": body.fingerprint if plan_id is None else None,  # of all rows alone
        "plan": plan_id,
    }
    return {ABOUT: json.dumps(told).encode()}


def told(where: str, metadata: Mapping[bytes, bytes] | None) -> dict[str, Any] | None:
    """What `about` wrote into the metadata of a schema; None if there is nothing. `where`: the file, for messages.

    Raises `InvalidValue` for what no version of this package writes, and for what only a newer one does.
    """
    raw = (metadata or {}).get(ABOUT)
    if raw is None:
        return None
    try:
        found = json.loads(raw)
        if found["format"] > FORMAT:
            raise InvalidValue(
                f"{where} has format {found['format']}; this adaptive-sampler reads up to {FORMAT}. Upgrade: pip install "
                "-U adaptive-sampler."
            )
        kinds = {
            "scores": dict,
            "columns": dict,
            "runs": list,
            "epoch": int,
            "fingerprint": str | None,
            "plan": str | None,
        }
        kinds_alone = all(isinstance(found[name], kind) for name, kind in kinds.items())
        scores = [isinstance(made["kind"], str) and isinstance(made, dict) for made in found["scores"].values()]
        runs = [isinstance(run, str) for run in [*found["runs"], *found["columns"].values()]]
        if not (kinds_alone and all(scores) and runs and all(runs) and is_whole(found["epoch"], most=LAST_EPOCH)):
            raise ValueError(raw)
    except MALFORMED as error:
        if isinstance(error, InvalidValue):
            raise
        raise InvalidValue(
            f"{where}: its metadata {ABOUT.decode()!r} was not written by store.export. Leave it out (replace_schema_metadata), "
            "and pass scores=."
        ) from error
    return dict(found)
