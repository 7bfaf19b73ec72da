"""What a saved state says of its sampler and store, and the check that it belongs to those that are to go on from it."""

from collections.abc import Mapping
from typing import Any

from adaptive_sampler.errors import ResumeError
from adaptive_sampler.store import ScoreStore

# Of a saved state, which holds a place in an order and not the order itself. Raise it with every change that gives the
# same seed another order, so that older states are refused: they would go on at other rows without a word. Such a change
# fails test_an_order_is_the_one_that_states_of_this_format_go_on_in (tests/walk/test_order.py).
FORMAT = 1
_NEEDED = {"format", "epoch", "position", "plans", "once", "store", "commit", "counts"}


def described(walk: dict[str, Any], settings: Mapping[str, Any], store: ScoreStore) -> dict[str, Any]:
    """A state: `walk`, which says where the walk is, with what it takes to check that it belongs to a sampler and a store."""
    walk["plan"] = walk["plans"][0] if walk["plans"] else None  # for human readers; `plans` may still grow
    about = {"format": FORMAT, "store": store.session.uuid, "commit": store.version, "counts": "drawn"}
    return {**walk, **about, **settings}


def check_state(state: Mapping[str, Any], settings: Mapping[str, Any], store: ScoreStore) -> None:
    """Raise `ResumeError`, which names the remedy, for a state of another store, of other settings or another commit.

    `settings`: those of the sampler that is to go on, by name.
    """
    missing = sorted(_NEEDED - set(state))
    if missing or state["format"] != FORMAT:
        what = (
            f"it lacks {', '.join(missing)}" if missing else f"its format is {state['format']}, this one reads {FORMAT}"
        )
        raise ResumeError(f"no sampler state of this version: {what}. Pass what sampler.state_dict() returned.")
    for name, value in {"store": store.session.uuid, **settings}.items():
        if state.get(name) != value:
            raise ResumeError(
                f"the state was saved with {name}={state.get(name)!r}, this sampler has {name}={value!r}: it would walk "
                "other rows. Make the sampler as it was, or start without the state."
            )
    _check_commit(state, store)


def _check_commit(state: Mapping[str, Any], store: ScoreStore) -> None:
    """Raise `ResumeError` if the store is certainly open at another commit than the one that was made with the state.

    A state does not always name that commit: a loader takes a state when a batch is drawn, so the state may name an
    earlier commit, and a position before what was delivered. Therefore only a store that is certainly older or newer than
    the state is refused. The commit that a state names never counts as newer, whatever its clock says: the clock may be
    that of another training, which made the scores, while the present training only reads them.
    """
    epoch, delivered = store.session.committed_at
    older = store.version < state["commit"]
    exact, ended = state["counts"] == "delivered", state["position"] and state["position"] == state.get("length")
    of, position = (state["epoch"] + 1, 0) if ended else (state["epoch"], state["position"])
    ahead = epoch > of or (exact and epoch == of and delivered > position)
    if older or (ahead and store.version > state["commit"]):
        raise ResumeError(
            f"the state was saved at commit {state['commit']}, at sample {state['position']} of epoch {state['epoch']}; the "
            f"store is open at commit {store.version}, made after sample {delivered} of epoch {epoch}: its scores are others. "
            f"Open the commit made with the state: ScoreStore.open(path, version={state['commit']}), or the number that "
            "store.commit() returned then (store.versions() lists them)."
        )
