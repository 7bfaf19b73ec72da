"""The demo's data: digits or Fashion-MNIST, with wrong labels or a spurious cue if an experiment needs them."""

import gzip
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from adaptive_sampler.errors import InvalidValue

Name = Literal["digits", "fashion-mnist"]
FASHION_DIR = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
FASHION_ENV = "ADAPTIVE_SAMPLER_FASHION_MNIST"
GARMENTS = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


@dataclass(frozen=True)
class Part:
    """Images (n, side, side) float32 in [0, 1], labels (n,) int64, and groups (n,) int64 if there are groups."""

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(self) -> TensorDataset:
        """The same as a dataset of (image, label)."""
        return TensorDataset(torch.from_numpy(self.images), torch.from_numpy(self.labels))


@dataclass(frozen=True)
class Data:
    """One split of a data set. `names`: the names of the classes.

    `train` is for training, `validation` for every choice, and `test` only for the table.
    """

    train: Part
    validation: Part
    test: Part
    names: tuple[str, ...]


def load(name: Name, folder: Path | None, samples: int | None, seed: int) -> Data:
    """Load a data set, and split it by `seed`. `samples`: the most training samples to take; None takes all.

    Raises InvalidValue if the files of Fashion-MNIST are not there.
    """
    images, labels, names = _digits() if name == "digits" else _fashion(folder)
    order = np.random.default_rng([seed, 0]).permutation(len(labels))
    cuts = min(len(order) // 6, 5000), min(5 * len(order) // 12, 15000)
    parts = order[: cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] :][:samples]
    validation, test, train = (Part(images[rows], labels[rows]) for rows in parts)
    return Data(train, validation, test, names)


def with_wrong_labels(part: Part, share: float, seed: int) -> Part:
    """A copy of `part` in which a share of the labels is replaced by another class, chosen uniformly."""
    rng = np.random.default_rng([seed, 1])
    wrong = rng.choice(len(part), round(share * len(part)), replace=False)
    labels = part.labels.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
    return replace(part, labels=labels)


def with_cue(part: Part, aligned: float, seed: int) -> Part:
    """A copy of `part` with two classes (0–4 and 5–9) and a cue: a corner of the image that is bright or dark.

    In a share `aligned` of the samples the corner is bright for class 1 and dark for class 0; in the others it is the
    reverse. Four groups: 2 · class + (1 if the corner is bright).
    """
    rng = np.random.default_rng([seed, 2])
    labels = (part.labels >= 5).astype(np.int64)
    cue = np.where(rng.random(len(part)) < aligned, labels, 1 - labels)
    images, corner = part.images.copy(), max(part.images.shape[1] // 4, 1)
    images[:, :corner, :corner] = cue[:, None, None]
    return Part(images, labels, 2 * labels + cue)


def _digits() -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)
    return images, digits.target.astype(np.int64), tuple(str(d) for d in range(10))


def _fashion(
    folder: Path | None, environment: Mapping[str, str] = os.environ
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    folder = folder or Path(environment.get(FASHION_ENV, FASHION_DIR))
    images, labels = [], []
    for part in ("train", "t10k"):
        images.append(_idx(folder / f"{part}-images-idx3-ubyte.gz"))
        labels.append(_idx(folder / f"{part}-labels-idx1-ubyte.gz"))
    scaled = (np.concatenate(images) / np.float32(255)).astype(np.float32)
    return scaled, np.concatenate(labels).astype(np.int64), GARMENTS


def _idx(path: Path) -> np.ndarray:
    """Read an array in idx format, with .gz or without: 2 zero bytes, type, number of axes, length of each axis, data."""
    plain = path.with_suffix("")
    if not (path.exists() or plain.exists()):
        raise InvalidValue(
            f"{path} is not there. On Debian and Ubuntu: apt-get install dataset-fashion-mnist. Elsewhere download the four idx "
            f"files of Fashion-MNIST and name their folder by --data-dir or {FASHION_ENV}."
        )
    raw = gzip.decompress(path.read_bytes()) if path.exists() else plain.read_bytes()
    axes = raw[3]
    shape = np.frombuffer(raw, ">u4", axes, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)
