"""The demo's training: an ordinary loop over an ordinary DataLoader, whose sampler is the only thing that differs."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler
from adaptive_sampler.commands.demo.data import Part
from adaptive_sampler.torch import IndexedDataset, LossHook


@dataclass(frozen=True)
class Training:
    """What one training gave: the model, and the number of its steps."""

    model: nn.Module
    steps: int

    def correct(self, part: Part) -> np.ndarray:
        """(n,) bool: for which samples the model is right."""
        self.model.eval()
        with torch.no_grad():
            predicted = self.model(torch.from_numpy(part.images)).argmax(1).numpy()
        right: np.ndarray = predicted == part.labels
        return right

    def accuracy(self, part: Part) -> float:
        """The share of samples for which the model is right, in percent."""
        return 100 * float(self.correct(part).mean())

    def worst_group(self, part: Part) -> float:
        """The accuracy of the group with the lowest accuracy, in percent."""
        assert part.groups is not None
        right = self.correct(part)
        return 100 * min(float(right[part.groups == group].mean()) for group in np.unique(part.groups))


def make_model(part: Part, classes: int = 10, width: int = 128) -> nn.Module:
    """A small perceptron. It trains in a second, and is large enough to memorise wrong labels."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(part.images[0].size, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )


def train(
    part: Part,
    sampler: AdaptiveSampler,
    *,
    epochs: int,
    seed: int,
    batch_size: int = 32,
    hook: LossHook | None = None,
) -> Training:
    """Train a new model on what `sampler` selects. A `hook`, if given, is the criterion and scores every sample."""
    torch.manual_seed(seed)
    model = make_model(part)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    criterion = hook or nn.CrossEntropyLoss()
    dataset = part.tensors()
    loader = DataLoader(IndexedDataset(dataset) if hook else dataset, batch_size=batch_size, sampler=sampler)
    steps = 0
    for _ in range(epochs):
        batches: Iterable[list[torch.Tensor]] = hook.watch(loader) if hook else loader
        for images, labels in batches:
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
    return Training(model, steps)
