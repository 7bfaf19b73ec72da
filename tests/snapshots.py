"""Everything that a store says about its scores, as bytes, for tests that nothing has changed."""

from adaptive_sampler import ScoreStore


def snapshot(store: ScoreStore) -> dict[str, object]:
    """The scores, counts, epochs and clock of a store, bit for bit."""
    scores = {
        name: (
            store[name].tobytes(),
            store.count(name).tobytes(),
            store.last_seen(name).tobytes(),
            store.observed(name),
        )
        for name in store.names
    }
    return {"clock": store.epoch, "made from": store.made_from, "n": len(store), **scores}
