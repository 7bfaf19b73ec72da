"""Twins of the kernels for shards: the window shuffle, and the hash of keys."""


def window_order(n: int, window: int, key: int) -> list[int]:
    """The order in which 0 … n − 1 leave a shuffling buffer of size `window`, drawn with SplitMix64 from `key`."""
    order, held = [], list(range(min(window, n)))
    state = key
    for out in range(n):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        bits = state
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) % 2**64
        bits ^= bits >> 31
        pick = int((bits >> 11) / 2**53 * len(held))
        order.append(held[pick])
        if out + window < n:
            held[pick] = out + window
        else:
            held[pick] = held[-1]
            held.pop()
    return order


def hash_keys(keys: list[bytes]) -> list[int]:
    """The 64-bit FNV-1a hash of each key."""
    hashes = []
    for key in keys:
        value = 0xCBF29CE484222325
        for byte in key:
            value = (value ^ byte) * 0x100000001B3 % 2**64
        hashes.append(value)
    return hashes
