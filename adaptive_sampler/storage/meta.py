"""Check what a manifest says of a store before anything is made from it: the manifest may be anybody's."""

from typing import Any

from adaptive_sampler.checks import is_time, is_whole
from adaptive_sampler.memory.user_column import KINDS
from adaptive_sampler.memory.user_columns import KEYS
from adaptive_sampler.plan import PLAN_ID

MOST_CHUNKS = 1 << 20  # 10¹² rows in chunks of 2²⁰; a loop over many more would not end


def check_meta(meta: dict[str, Any], version: int) -> None:
    """Raise `ValueError`, `KeyError` or `TypeError` unless the metadata is such as a commit of `version` writes."""
    n, chunk = meta["n"], meta["chunk"]
    _hold("n, chunk", is_whole(n, 1) and is_whole(chunk, 1, most=n) and -(-n // chunk) <= MOST_CHUNKS)
    _hold("parent", is_whole(meta["parent"], -1, most=version - 1))
    _hold("epoch", is_whole(meta["epoch"]))
    _hold("delivered", is_whole(meta["delivered"]))
    _hold("whose", isinstance(meta.get("whose"), str | None))
    _hold("walks", _all(meta.get("walks", []), list) and all(map(_walk, meta.get("walks", []))))
    _hold("runs", isinstance(meta["runs"], list) and bool(meta["runs"]))
    _hold("plans", _all(meta.get("plans", []), str) and all(map(PLAN_ID.fullmatch, meta.get("plans", []))))
    _hold("keys", isinstance(meta["keys"], bool))
    _hold("layout", meta["layout"] is None or is_whole(meta["layout"]))
    _hold("metadata, fingerprint", isinstance(meta["metadata"], dict) and "fingerprint" in meta)
    _hold("created, package", is_time(meta["created"]) and isinstance(meta["package"], str))
    _check_scores(meta)
    _check_columns(meta)


def _check_scores(meta: dict[str, Any]) -> None:
    """Raise as `check_meta` does unless each score has a description, a book and its counts."""
    _hold("scores", _all(meta["scores"], dict))
    names = [score["name"] for score in meta["scores"]]
    _hold("scores", all(isinstance(name, str) and name.isidentifier() for name in names))
    _check_counts(meta, names, meta["n"])
    _hold("made", isinstance(meta["made"], dict) and set(meta["made"]) == set(names))
    for made in meta["made"].values():
        _hold("made", isinstance(made, dict) and is_time(made["time"]) and isinstance(made["package"], str))
    kept = kept_runs(meta)
    _hold(
        "kept_runs", isinstance(kept, dict) and (not kept or str(len(meta["runs"]) - 1) in kept)
    )  # the current one, too
    for number, counts in kept.items():
        _hold("kept_runs", number in map(str, range(len(meta["runs"]))) and isinstance(counts, dict))
        _hold("kept_runs", isinstance(counts["books"], dict) and set(counts["books"]) <= set(names))
        _check_counts(counts, [*counts["books"]], meta["n"])


def kept_runs(meta: dict[str, Any]) -> dict[str, Any]:
    """The counts of each run that is kept apart, by its number; nothing in a version that was written before there were any."""
    found: dict[str, Any] = meta.get("kept_runs", {})
    return found


def _check_counts(counts: dict[str, Any], names: list[str], n: int) -> None:
    """Raise as `check_meta` does unless each score has a book and its counts."""
    for what in ("books", "observations", "observed"):
        _hold(what, isinstance(counts[what], dict) and set(counts[what]) == set(names))
    for name in names:
        _hold("books", is_whole(counts["books"][name], most=len(names)))
        _hold("observed", is_whole(counts["observed"][name], most=n))
        _hold("observations", is_whole(counts["observations"][name]))


def _check_columns(meta: dict[str, Any]) -> None:
    """Raise as `check_meta` does unless each column of the user's own has a name of its own and a kind."""
    _hold("columns", isinstance(meta["columns"], dict))
    taken = {KEYS, *(score["name"] for score in meta["scores"])}
    for name, kind in meta["columns"].items():
        _hold("columns", name.isidentifier() and name not in taken and kind in KINDS)


def _walk(walk: list[Any]) -> bool:
    """Whether this is a plan, an epoch, whether it is shuffled, its length and how many of its visits are left."""
    plan, epoch, shuffled, length, left = walk
    named = isinstance(plan, str) and bool(PLAN_ID.fullmatch(plan)) and isinstance(shuffled, bool)
    return named and is_whole(epoch) and is_whole(length) and is_whole(left, most=length)


def _hold(what: str, sound: bool) -> None:
    if not sound:
        raise ValueError(what)


def _all(values: Any, of: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, of) for value in values)
