"""Limits for statistical tests with fixed seeds: a right program fails one in a million."""

SIGMAS = 4.9  # two-sided normal at 1e-6


def chi_square_limit(freedom: int) -> float:
    """The chi-square quantile at 1 - 1e-6 (Wilson and Hilferty)."""
    return freedom * (1 - 2 / (9 * freedom) + 4.75 * (2 / (9 * freedom)) ** 0.5) ** 3
