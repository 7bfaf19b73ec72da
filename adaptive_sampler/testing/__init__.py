"""Checks of what a new score, policy, storage or training loop must do, for your own tests; ours call them too."""

from adaptive_sampler.testing.loop import Loop
from adaptive_sampler.testing.policies import check_policy
from adaptive_sampler.testing.resume import Resumable, check_resume
from adaptive_sampler.testing.scores import check_score
from adaptive_sampler.testing.storage import check_storage
from adaptive_sampler.testing.trace import Trace

__all__ = ["Loop", "Resumable", "Trace", "check_policy", "check_resume", "check_score", "check_storage"]
