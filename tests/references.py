"""Slow, obvious twins of every kernel and score: the tests' oracles, written to be read."""
