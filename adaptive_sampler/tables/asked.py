"""Which scores a new store gets from a table, and which of its columns they are read from."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring.base import BOOKKEEPING, ScoreLike, describe, restore
from adaptive_sampler.tables.names import beside, column_of, own_columns

Scores = Sequence[ScoreLike] | Mapping[str, ScoreLike] | None


class TableScore(NamedTuple):
    """A score that is read: `column` has its values; `state`: column of the store -> column of the table."""

    score: ScoreLike
    column: str
    state: dict[str, str]


def asked(scores: Scores, about: Mapping[str, Any] | None) -> dict[str, ScoreLike]:
    """Column -> score. Without `scores`, those that the file says it has."""
    if scores is None:
        if about is None:
            raise InvalidValue(
                "scores=None: the table does not say how its scores were made, or its files say different things. Pass them, "
                "such as scores={'quality': Loss(name='quality')}."
            )
        custom = [column for column, made in about["scores"].items() if made["kind"] == "custom"]
        if custom:
            raise InvalidValue(f"{custom[0]} is a custom score: pass all that you want, from_table(..., scores=[...]).")
        return {column: restore(made) for column, made in about["scores"].items()}
    if not isinstance(scores, Mapping):
        scores = {column_of(score.name): score for score in scores}
    if not scores:
        raise InvalidValue("scores is empty: say which columns are scores, such as {'quality': Loss(name='quality')}.")
    return dict(scores)


def planned(names: Sequence[str], column: str, score: ScoreLike, about: Mapping[str, Any] | None) -> TableScore:
    """Which columns a score is read from. Raises `InvalidValue` if the table does not have what its fold needs."""
    state = {name: beside(column, name) for name in (*BOOKKEEPING, *own_columns(score.fold))}
    there = [name for name in state.values() if name in names]
    if len(there) == len(state):
        _check_made_alike(column, score, about)
        return TableScore(score, column, state)
    if there or own_columns(score.fold):
        missing = next(name for name in state.values() if name not in names)
        raise InvalidValue(
            f"{score.name}: there is no column {missing!r}, and the score alone does not tell the fold's state. Write the table "
            "with store.export(..., state=True); or take the values as they are, by a score with fold=Last(), and no column "
            f"{beside(column, 'count')!r}."
        )
    return TableScore(score, column, {})


def _check_made_alike(column: str, score: ScoreLike, about: Mapping[str, Any] | None) -> None:
    made = about["scores"].get(column) if about else None
    fold = made and (restore(made).fold if made["kind"] != "custom" else made["fold"])
    if fold and describe(score.fold) != (fold if isinstance(fold, dict) else describe(fold)):
        raise InvalidValue(
            f"{score.name}: the file has it from {fold}, the one passed has {describe(score.fold)}: one's state is nothing to the "
            "other. Pass the same fold; or leave the columns count and last_seen out of the table, and the values are taken as "
            "they are."
        )
