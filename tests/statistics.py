"""Limits for statistical tests: a correct program exceeds one with a probability of one in a million."""

SIGMAS = 4.9  # standard deviations: the two-sided normal quantile at 1e-6


def chi_square_limit(freedom: int) -> float:
    """The chi-square quantile at 1 - 1e-6 for `freedom` degrees of freedom, by Wilson and Hilferty's approximation."""
    return freedom * (1 - 2 / (9 * freedom) + 4.75 * (2 / (9 * freedom)) ** 0.5) ** 3
