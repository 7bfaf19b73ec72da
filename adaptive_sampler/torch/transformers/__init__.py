"""Hugging Face's Trainer, and those of TRL and Sentence Transformers: our sampler in it, rows, scores, weights, resumes."""

try:
    import transformers as _transformers  # noqa: F401 - imported only to find out whether it is installed
except ImportError as error:
    raise ImportError(
        'adaptive_sampler.torch.transformers needs Transformers: pip install "transformers[torch]>=4.46"'
    ) from error

from adaptive_sampler.torch.transformers.callback import SamplerCallback
from adaptive_sampler.torch.transformers.means import TrainersLoss
from adaptive_sampler.torch.transformers.mixin import AdaptiveTrainer, AdaptiveTrainerMixin

__all__ = ["AdaptiveTrainer", "AdaptiveTrainerMixin", "SamplerCallback", "TrainersLoss"]
