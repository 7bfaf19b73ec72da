"""Scores, which turn observations of samples into numbers: pick some, or build your own from a measure and a fold."""

from adaptive_sampler.scoring import measures
from adaptive_sampler.scoring.base import CannotMerge, Column, Fold, Mergeable, Score, ScoreLike, describe, restore
from adaptive_sampler.scoring.confidence import Confidence
from adaptive_sampler.scoring.el2n import EL2N
from adaptive_sampler.scoring.entropy import Entropy
from adaptive_sampler.scoring.error import Error
from adaptive_sampler.scoring.folds import EMA, Deviation, Last, Max, Mean, Transitions
from adaptive_sampler.scoring.forgetting import Forgetting
from adaptive_sampler.scoring.grand import GraNd
from adaptive_sampler.scoring.influence import Influence
from adaptive_sampler.scoring.l2rw import L2RW
from adaptive_sampler.scoring.loss import Loss
from adaptive_sampler.scoring.margin import Margin
from adaptive_sampler.scoring.tokens import Tokens
from adaptive_sampler.scoring.variability import Variability

__all__ = [
    "EL2N",
    "EMA",
    "L2RW",
    "CannotMerge",
    "Column",
    "Confidence",
    "Deviation",
    "Entropy",
    "Error",
    "Fold",
    "Forgetting",
    "GraNd",
    "Influence",
    "Last",
    "Loss",
    "Margin",
    "Max",
    "Mean",
    "Mergeable",
    "Score",
    "ScoreLike",
    "Tokens",
    "Transitions",
    "Variability",
    "describe",
    "measures",
    "restore",
]
