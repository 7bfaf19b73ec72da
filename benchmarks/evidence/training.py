"""The one training behind every answer: Fashion-MNIST in memory, a small convolutional net, and an ordinary loop.

What differs between two trainings of a question is the sampler, and nothing else: the same network from the same seed,
the same learning-rate cycle over the training, the same batches of 256.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.torch import IndexedDataset, L2RWLoss, LossHook, observe
from benchmarks.l2rw import read

BATCH = 256
# The highest learning rate, and the share of the training in which it rises. Held-out images decided: with a peak of
# 0.15, three of fifteen trainings on the easiest part of noisy labels collapsed to a constant answer, with 0.1 none did.
# window.py counts the trainings that still collapse.
PEAK, WARMUP = 0.1, 0.25
MOMENTUM, DECAY = 0.9, 5e-4
EPOCHS = 8  # of a training, unless a question says otherwise
SCORE_RUNS, SCORE_EPOCHS = 3, 2  # early scores: the mean of three trainings, each after two of its eight epochs


@dataclass(frozen=True)
class Images(Dataset[tuple[Tensor, Tensor]]):
    """(n, 28, 28) uint8 `images` and (n,) int64 `labels` in memory. A list of rows gives a whole batch at once."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: int | list[int] | Tensor | slice) -> tuple[Tensor, Tensor]:
        return normalised(self.images[rows]), self.labels[rows]

    def part(self, rows: np.ndarray) -> "Images":
        """Only these rows."""
        index = torch.from_numpy(rows)
        return replace(self, images=self.images[index], labels=self.labels[index])

    def relabelled(self, labels: np.ndarray) -> "Images":
        """The same images under other labels."""
        return replace(self, labels=torch.from_numpy(labels))


@dataclass(frozen=True)
class Data:
    """The training images and the test images: 60,000 and 10,000 in Fashion-MNIST."""

    train: Images
    test: Images

    def held_out(self, number: int, seed: int) -> tuple[Images, Images]:
        """Split the training images -> (the rest, `number` of them for validation). Each seed has another split."""
        order = np.random.default_rng([seed, 0]).permutation(len(self.train))
        return self.train.part(np.sort(order[number:])), self.train.part(np.sort(order[:number]))


def some(data: Images, number: int, seed: int) -> Images:
    """`number` of the images, or all if there are fewer. Each seed has others."""
    return data.part(np.sort(np.random.default_rng([seed, 2]).permutation(len(data))[:number]))


def of_each(data: Images, numbers: Sequence[int], seed: int) -> tuple[Images, Images]:
    """`numbers[c]` images of each class c, or all if there are fewer -> (these, the others). Each seed has others."""
    order = np.random.default_rng([seed, 4]).permutation(len(data))
    labels = data.labels.numpy()[order]
    taken = np.concatenate([order[labels == c][:number] for c, number in enumerate(numbers)])
    return data.part(np.sort(taken)), data.part(np.setdiff1d(order, taken))


def normalised(images: Tensor) -> Tensor:
    """(…, 28, 28) uint8 -> (…, 1, 28, 28) float32, about centred and of about unit variance."""
    return images.unsqueeze(-3).float().sub_(73).div_(90)


def load(folder: Path) -> Data:
    """Load Fashion-MNIST from its four files. Raises SystemExit if one is missing, and says where to get them."""
    parts = (read(folder, name) for name in ("train", "t10k"))
    return Data(*(Images(torch.tensor(images), torch.tensor(labels, dtype=torch.int64)) for images, labels in parts))


def made_up(train: int = 600, test: int = 200) -> Data:
    """Make data for `--quick`: noise around ten random images. It needs no file, and is learnt in a few steps."""
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 256, (10, 28, 28))

    def images(number: int) -> Images:
        labels = rng.integers(0, 10, number)
        noisy = np.clip(centres[labels] + rng.normal(0, 120, (number, 28, 28)), 0, 255)
        return Images(torch.from_numpy(noisy.astype(np.uint8)), torch.from_numpy(labels))

    return Data(images(train), images(test))


def digits(seed: int) -> tuple[Tensor, np.ndarray]:
    """scikit-learn's digits in another order for each seed -> (1797, 64) float32 about centred, and (1797,) int64 labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng([seed, 0]).permutation(len(labels))
    return torch.tensor(images[order] / 16 - 0.3, dtype=torch.float32), labels[order].astype(np.int64)


def with_wrong_labels(labels: np.ndarray, share: float, seed: int, classes: int = 10) -> np.ndarray:
    """A copy of the (n,) labels in which a share is replaced by another of the classes, chosen uniformly."""
    rng = np.random.default_rng([seed, 1])
    wrong = rng.choice(len(labels), round(share * len(labels)), replace=False)
    given = labels.copy()
    given[wrong] = (given[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return given


def network(seed: int, classes: int = 10, width: int = 1) -> nn.Module:
    """A plain convolutional net: 28 × 28 pixels become 14 × 14 of four channels, then 7 × 7, then 5 × 5.

    It has 57,000 parameters, or 432,000 with a `width` of 2. It was chosen among ten nets of about the small one's size
    for its speed (an epoch takes 1.4 s on one core) and its accuracy in plain training. The choice used no sampler.
    """
    torch.manual_seed(seed)
    few, many, hidden = 16 * width, 32 * width, 64 * width**2
    return nn.Sequential(
        *(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4, few, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(few, many, 3),
            nn.ReLU(),
        ),
        *(nn.Flatten(), nn.Linear(25 * many, hidden), nn.ReLU(), nn.Linear(hidden, classes)),
    )


def perceptron(seed: int, hidden: int = 128, inputs: int = 784, classes: int = 10) -> nn.Module:
    """A net of one hidden layer, for images of 102,000 parameters: an epoch takes a third of the small convolutional net's time."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def learning_rate(done: float) -> float:
    """The learning rate after the share `done` of a training: it rises linearly, then falls along half a cosine."""
    if done < WARMUP:
        return PEAK * max(done / WARMUP, 0.05)
    return PEAK * 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))


@dataclass
class Training:
    """One training. `fit` goes on where its last call stopped, so that the network can be measured in between.

    Without a sampler, the loop is that of plain torch: all rows, shuffled by torch. `stream`: a ready loader, such as
    that of `PlannedShards.loader`, instead of a loader over `data`. `pace`: a factor of every learning rate. `epoch`,
    `samples`: epochs finished and samples trained on so far.
    """

    data: Dataset[tuple[Tensor, Tensor]]
    sampler: AdaptiveSampler | None
    model: nn.Module
    epochs: int
    criterion: nn.Module | L2RWLoss
    stream: Any = None
    pace: float = 1.0
    epoch: int = 0
    samples: int = 0

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(self.model.parameters(), PEAK, MOMENTUM, weight_decay=DECAY, nesterov=True)
        batches: Any = BatchSampler(RandomSampler(self.data), BATCH, False)
        if self.sampler is not None:
            batches = self.sampler.batches(BATCH)
        self.loader = whole_batches(self.data, batches) if self.stream is None else self.stream

    def fit(self, until: int | None = None) -> nn.Module:
        """Train until `until` epochs are finished, or to the end -> the model."""
        while self.epoch < (self.epochs if until is None else until):
            for _ in self.steps():
                pass
        return self.model

    def steps(self) -> Iterator[None]:
        """Train the next epoch, and yield after each step, so that several trainings can take turns."""
        clock = self.sampler if self.stream is None else self.stream
        if clock is not None:
            clock.set_epoch(self.epoch)
        hook = self.criterion if isinstance(self.criterion, LossHook | L2RWLoss) else None
        steps, runs_it = len(self.loader), isinstance(self.criterion, L2RWLoss)  # which runs the model itself
        batches: Iterable[tuple[Tensor, Tensor]] = hook.watch(self.loader) if hook else (b for _, b in self.loader)
        for step, (images, labels) in enumerate(batches):
            for group in self.optimizer.param_groups:
                group["lr"] = self.pace * learning_rate((self.epoch + step / steps) / self.epochs)
            loss = self.criterion(images if runs_it else self.model(images), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.samples += len(labels)
            yield
        self.epoch += 1


def train(
    data: Images,
    sampler: AdaptiveSampler | None,
    *,
    seed: int,
    epochs: int = EPOCHS,
    criterion: nn.Module | None = None,
    classes: int = 10,
    width: int = 1,
) -> Training:
    """A new network, trained for `epochs` on what `sampler` selects of `data`; `criterion` may be a LossHook."""
    training = Training(data, sampler, network(seed, classes, width), epochs, criterion or nn.CrossEntropyLoss())
    training.fit()
    return training


def whole_batches(data: Dataset[tuple[Tensor, Tensor]], batches: Any) -> DataLoader[Any]:
    """A loader that gets a whole batch from the dataset at once, without collating. `batches`: a batch sampler."""
    return DataLoader(IndexedDataset(data), sampler=batches, batch_size=None, collate_fn=lambda batch: batch)


def in_order(data: Dataset[tuple[Tensor, Tensor]]) -> DataLoader[tuple[list[int], tuple[Tensor, Tensor]]]:
    """A loader of (rows, (images, labels)) in batches of 1000, from the first row to the last."""
    return whole_batches(data, BatchSampler(SequentialSampler(data), 1000, False))


def logits_of(model: nn.Module, data: Images) -> Tensor:
    """(n, classes) float32, the model's logits for all images, in eval mode."""
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(images) for _, (images, _) in in_order(data)])
    model.train()
    return found


def accuracy(model: nn.Module, data: Images) -> float:
    """The share of images that the model gets right, in percent."""
    return 100 * float((logits_of(model, data).argmax(1) == data.labels).double().mean())


def by_group(model: nn.Module, data: Images, groups: Tensor) -> list[float]:
    """The accuracy in each group 0, 1, …, in percent. groups: (n,) int64, such as the labels."""
    right = logits_of(model, data).argmax(1) == data.labels
    return [100 * float(right[groups == group].double().mean()) for group in range(int(groups.max()) + 1)]


def score_early(
    data: Images,
    store: ScoreStore,
    everything: Callable[[int], AdaptiveSampler],
    *,
    seed: int,
    width: int = 1,
    runs: int = SCORE_RUNS,
) -> None:
    """Fold early scores into `store`, as Paul et al. 2021: `runs` trainings, each observed once, early, in eval mode.

    `everything(seed)`: a sampler of all rows.
    """
    for run in range(runs):
        store.begin_run(f"early run {run}")
        training = early_training(data, everything, 1000 * (run + 1) + seed, width)
        observe(training.model, in_order(data), store, progress=False)


def early_training(data: Images, everything: Callable[[int], AdaptiveSampler], number: int, width: int) -> Training:
    """The training `number`, as far as early scores need it: two of its eight epochs."""
    training = Training(data, everything(number), network(number, width=width), EPOCHS, nn.CrossEntropyLoss())
    training.fit(until=SCORE_EPOCHS)
    return training
