"""Decide, while a model trains, which samples are worth the next step."""

from adaptive_sampler import scoring, selection, shards
from adaptive_sampler.plan import Plan
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.store import ScoreStore

__all__ = ["AdaptiveSampler", "Plan", "ScoreStore", "scoring", "selection", "shards"]
