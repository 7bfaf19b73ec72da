"""Decide, while a model trains, which samples are worth the next step."""

import importlib
import typing

from adaptive_sampler import scoring, selection
from adaptive_sampler.plan import Plan
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.store import ScoreStore

if typing.TYPE_CHECKING:  # few need them, so __getattr__ finds them at first access
    from adaptive_sampler import shards

    __version__: str

__all__ = ["AdaptiveSampler", "Plan", "ScoreStore", "scoring", "selection", "shards"]


def __getattr__(name: str) -> typing.Any:
    if name == "__version__":
        return importlib.import_module("adaptive_sampler.version").installed()
    if name != "shards":
        raise AttributeError(f"module 'adaptive_sampler' has no attribute {name!r}")
    return importlib.import_module("adaptive_sampler.shards")
