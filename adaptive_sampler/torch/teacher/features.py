"""What a teacher sees of a sample: its label, how far the model is, and what the model makes of the sample."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue, NotFinite


@dataclass
class Student:
    """What a teacher knows of the training that it is in.

    `calls`: batches seen so far; `loss`, `kept`: the sum of the losses of the samples kept so far, in nats, and their
    number; `best`: the best validation accuracy so far, a share.
    """

    calls: int = 0
    loss: float = 0.0
    kept: int = 0
    best: float = 0.0

    def features(self, steps: int, classes: int) -> list[float]:
        """The three features of the model: the share of `steps` that is over, the mean loss, the best accuracy.

        The loss is in units of ln(classes), that of a model that knows nothing; before anything was kept it is 1.
        """
        loss = self.loss / self.kept / math.log(classes) if self.kept else 1.0
        return [min(self.calls / steps, 1.0), loss, self.best]


def number_of_features(classes: int) -> int:
    """How many features `features_of` gives a sample."""
    return 2 * classes + 5


def features_of(logits: Tensor, labels: Tensor, model: list[float]) -> tuple[Tensor, Tensor]:
    """The features of Fan et al. 2017, section 2 -> ((batch, 2 · classes + 5), and the losses in nats, (batch,)), both float32.

    `logits` (batch, classes) of any floating dtype, `labels` (batch,) int64, as `checked` returns them; `model`: the three of
    `Student.features`. Of each sample: its label, one of classes; the three; the probability of each class; the cross
    entropy, in units of ln(classes); the margin p(label) − the largest other p.
    """
    classes = logits.shape[1]
    log_p = logits.float().log_softmax(1)
    label = nn.functional.one_hot(labels, classes).bool()
    p, loss = log_p.exp(), -log_p[label]
    margin = p[label] - p.masked_fill(label, 0.0).amax(1)
    of_model = torch.tensor(model, dtype=torch.float32, device=p.device).expand(len(p), 3)
    alone = torch.stack((loss / math.log(classes), margin), 1)
    return torch.cat((label.float(), of_model, p, alone), 1), loss


def checked(logits: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The logits without their graph, and the labels as int64 on their device. Raises `InvalidValue` for what has no features."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.is_floating_point():
        raise InvalidValue(f"logits are {_told(logits)}: a floating-point tensor (batch, classes) is needed.")
    if logits.shape[1] != classes:
        raise InvalidValue(
            f"logits have shape {tuple(logits.shape)}, and this teacher was made for {classes} classes: its features are theirs. "
            f"Make Teacher({logits.shape[1]}, ...) for this model."
        )
    if not isinstance(labels, Tensor) or labels.shape != logits.shape[:1] or _no_integers(labels):
        raise InvalidValue(
            f"labels are {_told(labels)}: one class a sample is needed, integers of shape ({len(logits)},), as there are logits."
        )
    labels = labels.to(logits.device, torch.int64)
    outside = ((labels < 0) | (labels >= classes)).nonzero()[:, 0]
    if len(outside):
        at = int(outside[0])
        raise InvalidValue(
            f"the label of sample {at} is {int(labels[at])}: labels are 0 … {classes - 1}. Leave out of the call what has no class."
        )
    return logits.detach(), labels


def checked_more(more: Tensor | None, batch: int, features: int) -> Tensor:
    """`more`, (batch, features) numbers. Raises `InvalidValue` for anything else, and for None where such features are due."""
    if not isinstance(more, Tensor) or more.shape != (batch, features) or more.is_complex():
        raise InvalidValue(
            f"more= is {_told(more)}: this teacher was made with more={features}, so a tensor of shape ({batch}, {features}) is "
            "needed."
        )
    return more.detach()


def refuse_nonfinite(features: Tensor, what: str) -> None:
    """Raise `NotFinite`, naming the first sample, unless all of (batch, features) are finite."""
    bad = (~features.isfinite().all(1)).nonzero()[:, 0]
    if len(bad):
        raise NotFinite(
            f"{what} of sample {int(bad[0])} of {len(features)}: nothing was recorded. Leave the sample out, or look for the "
            "cause; teacher.begin() forgets this training if it has diverged."
        )


def _no_integers(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def _told(x: object) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
