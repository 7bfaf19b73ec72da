"""Choose a policy by trainings: successive halving, then fresh seeds, and the baseline unless something beats it."""

from adaptive_sampler.choice.choosing import choose
from adaptive_sampler.choice.grid import Grid, grid
from adaptive_sampler.choice.halving import Round
from adaptive_sampler.choice.result import Choice, Difference
from adaptive_sampler.choice.steadiness import Steadiness, stability

__all__ = ["Choice", "Difference", "Grid", "Round", "Steadiness", "choose", "grid", "stability"]
