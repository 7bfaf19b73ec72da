"""What a saved state says, and the checks that it is whole and belongs to the sampler and store that go on from it."""

import json
import sys
from collections.abc import Callable, Mapping
from reprlib import repr as short
from typing import Any

from adaptive_sampler.checks import LAST_EPOCH, is_whole
from adaptive_sampler.errors import ResumeError
from adaptive_sampler.selection.base import describe
from adaptive_sampler.store import ScoreStore

# Of a saved state, which holds a place in an order and not the order itself. Raise it with every change that gives the
# same seed another order, so that older states are refused: they would go on at other rows without a word. Such a change
# fails test_an_order_is_the_one_that_states_of_this_format_go_on_in (tests/walk/test_order.py).
FORMAT = 2
_REMEDY = "Pass what sampler.state_dict() returned"


def _ids(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


# What a state holds besides the settings: name -> (what that is, whether a value is such)
_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "epoch": (f"a whole number from 0 to {LAST_EPOCH}", lambda value: is_whole(value, most=LAST_EPOCH)),
    "position": ("a whole number, 0 or more", is_whole),
    "plans": ("a list of plans' ids", _ids),
    "once": ("a list of at most one plan's id", lambda value: _ids(value) and len(value) < 2),
    "store": ("the identifier of a store", lambda value: isinstance(value, str)),
    "commit": ("a whole number, 0 or more", is_whole),
    "counts": ("'drawn' or 'delivered'", lambda value: isinstance(value, str) and value in ("drawn", "delivered")),
}
# The same of what only some states hold
_SOMETIMES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "length": ("a whole number, 0 or more, or None", lambda value: value is None or is_whole(value, most=sys.maxsize)),
    "block": ("a whole number, 1 or more", lambda value: is_whole(value, 1)),
    "mark": (
        "three whole numbers, 0 or more",
        lambda value: isinstance(value, list | tuple) and len(value) == 3 and all(map(is_whole, value)),
    ),
}


def described(walk: dict[str, Any], settings: Mapping[str, Any], store: ScoreStore) -> dict[str, Any]:
    """A state: `walk`, which says where the walk is, with what it takes to check that it belongs to a sampler and a store."""
    walk["plan"] = walk["plans"][0] if walk["plans"] else None  # for human readers; `plans` may still grow
    about = {"format": FORMAT, "store": store.session.uuid, "commit": store.version, "counts": "drawn"}
    return {**walk, **about, **settings}


def check_state(state: Any, settings: Mapping[str, Any], store: ScoreStore) -> None:
    """Raise `ResumeError`, which names the remedy, for what is no state, and for the state of another sampler or commit.

    `settings`: those of the sampler that is to go on, by name.
    """
    check_fields(state)
    for name, value in {"store": store.session.uuid, **settings}.items():
        if name not in state or not _equal(state[name], value):
            raise ResumeError(
                f"the state was saved with {name}={short(state.get(name))}, this sampler has {name}={value!r}: it would walk "
                "other rows. Make the sampler as it was, or start without the state."
            )
    _check_place(state, isinstance(settings["replan"], int), settings["num_samples"])
    _check_commit(state, store, whose(settings))


def whose(settings: Mapping[str, Any]) -> str:
    """A text that only samplers of the same settings have in common."""
    return json.dumps(settings, sort_keys=True, default=repr)


def settings_of(sampler: Any) -> dict[str, Any]:
    """What a sampler was made with, as its states name it."""
    named = ("seed", "shuffle", "warmup_epochs", "replan", "num_samples")
    about = {"n": len(sampler.store), "policy": describe(sampler.policy)}
    return about | {name: getattr(sampler, name) for name in named}


def check_fields(state: Any) -> None:
    """Raise `ResumeError` unless `state` has everything that a sampler's state of this format has, each of its kind."""
    if not isinstance(state, Mapping):
        raise ResumeError(f"no sampler state: {short(state)}, of type {type(state).__name__}, is no dict. {_REMEDY}.")
    if "_iterator_finished" in state:  # in every state of a StatefulDataLoader, with workers or without
        raise ResumeError(
            f"no sampler state, but a StatefulDataLoader's: give it to that loader's load_state_dict. {_REMEDY}."
        )
    missing = sorted((_FIELDS.keys() | {"format"}) - set(state))
    if missing:
        raise ResumeError(f"no sampler state: it lacks {', '.join(missing)}. {_REMEDY}.")
    if not is_whole(state["format"]) or state["format"] != FORMAT:
        raise ResumeError(
            f"the state has format {short(state['format'])}, and this release reads format {FORMAT} only: go on with the "
            "release of adaptive-sampler that saved it, or start without the state."
        )
    for name, (what, sound) in {**_FIELDS, **_SOMETIMES}.items():
        if name in state and not sound(state[name]):
            raise ResumeError(f"the state is damaged: {name}={short(state[name])}, which must be {what}. {_REMEDY}.")


def _check_place(state: Mapping[str, Any], blocks: bool, num_samples: int | None) -> None:
    """Raise `ResumeError` for a place that no epoch has; `blocks`: whether plans are made within an epoch."""
    position, length, plans = state["position"], state.get("length"), state["plans"]
    if length is not None and num_samples not in (None, length):
        raise ResumeError(f"the state is damaged: length={length} of an epoch of {num_samples} samples. {_REMEDY}.")
    if position > (length or 0):
        raise ResumeError(
            f"the state is damaged: position={position} of an epoch of length={length} samples, beyond its end. {_REMEDY}."
        )
    if blocks and position and not {"block", "mark"} <= set(state):
        raise ResumeError(f"the state is damaged: it lacks block or mark, which plans for blocks need. {_REMEDY}.")
    if not blocks and (len(plans) > 1 or (position and not plans)):
        raise ResumeError(
            f"the state is damaged: plans={plans!r}, where an epoch that has begun has one plan. {_REMEDY}."
        )


def _check_commit(state: Mapping[str, Any], store: ScoreStore, walker: str) -> None:
    """Raise `ResumeError` if the store is certainly open at another commit than the one that was made with the state.

    A state does not always name that commit: a loader takes a state when a batch is drawn, so the state may name an
    earlier commit, and a position before what was delivered. Therefore only a store that is certainly older or newer than
    the state is refused. The commit that a state names never counts as newer, whatever its clock says: the clock may be
    that of another training, which made the scores, while the present training only reads them. Nor does a commit whose clock was
    another sampler's than this `walker`, which walks epochs of its own.
    """
    epoch, delivered, last = store.session.committed_at
    older = store.version < state["commit"]
    exact, ended = state["counts"] == "delivered", state["position"] and state["position"] == state.get("length")
    of, position = (state["epoch"] + 1, 0) if ended else (state["epoch"], state["position"])
    ahead = last == walker and (epoch > of or (exact and epoch == of and delivered > position))
    if older or (ahead and store.version > state["commit"]):
        made = (
            f"the state was saved at commit {state['commit']}, at sample {state['position']} of epoch {state['epoch']}"
        )
        newest = max((version.version for version in store.versions()), default=0)
        if state["commit"] > newest:
            raise ResumeError(
                f"{made}; the newest commit of {store.path} is {newest}: the other was never written, as when the first rank died "
                "before it, or this is an older copy. Go on from an earlier checkpoint: any from before that commit."
            )
        raise ResumeError(
            f"{made}; the store is open at commit {store.version}, made after sample {delivered} of epoch {epoch}: its scores "
            f"are others. Open the commit made with the state: ScoreStore.open(path, version={state['commit']}), or the number "
            "that store.commit() returned then (store.versions() lists them)."
        )


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are equal. What refuses to say so, as arrays of several values do, is not."""
    try:
        return bool(one == other)
    except Exception:
        return False
