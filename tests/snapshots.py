"""Everything a store says of its scores, as bytes: equal before and after is what 'unchanged' means."""

from adaptive_sampler import ScoreStore


def snapshot(store: ScoreStore) -> dict[str, object]:
    """The scores, counts, epochs and clock, bit for bit."""
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
