"""Policies, which make plans from scores: pick one, or write your own class with a `plan` method."""

from adaptive_sampler.selection.balanced import Balanced
from adaptive_sampler.selection.base import Policy, Scores
from adaptive_sampler.selection.composed import Composable, Composed
from adaptive_sampler.selection.cvar import CVaR
from adaptive_sampler.selection.draw import Draw
from adaptive_sampler.selection.exclude import Exclude
from adaptive_sampler.selection.following import Varying, at_epoch
from adaptive_sampler.selection.group_dro import GroupDRO
from adaptive_sampler.selection.infobatch import InfoBatch
from adaptive_sampler.selection.keep_all import KeepAll
from adaptive_sampler.selection.made import make
from adaptive_sampler.selection.prune import Prune
from adaptive_sampler.selection.random_prune import RandomPrune
from adaptive_sampler.selection.schedules import Cosine, Geometric, Linear, Root, Schedule, Steps
from adaptive_sampler.selection.spread import Spread
from adaptive_sampler.selection.stratified import Stratified
from adaptive_sampler.selection.threshold import Threshold
from adaptive_sampler.selection.upsample import Upsample
from adaptive_sampler.selection.weigh import Weigh
from adaptive_sampler.selection.weights import Clip, Exponential, Focal, Proportional, Ratio
from adaptive_sampler.selection.window import Window

__all__ = [
    "Balanced",
    "CVaR",
    "Clip",
    "Composable",
    "Composed",
    "Cosine",
    "Draw",
    "Exclude",
    "Exponential",
    "Focal",
    "Geometric",
    "GroupDRO",
    "InfoBatch",
    "KeepAll",
    "Linear",
    "Policy",
    "Proportional",
    "Prune",
    "RandomPrune",
    "Ratio",
    "Root",
    "Schedule",
    "Scores",
    "Spread",
    "Steps",
    "Stratified",
    "Threshold",
    "Upsample",
    "Varying",
    "Weigh",
    "Window",
    "at_epoch",
    "make",
]
