"""Which library does a docstring come from? Five of them, told apart by their words.

The documents are those of `corpus.py`, from Python (PSF licence), matplotlib (its own, after Python's), numba (BSD, 2 clauses),
scipy and scikit-learn (BSD, 3 clauses): as many of each. Which texts they are depends on the versions: `name` is a
checksum.
"""

import hashlib
import sysconfig
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor

from benchmarks.evidence.corpus import documents
from benchmarks.evidence.training import Data, Images

LIBRARIES = ("Python", "matplotlib", "numba", "scipy", "sklearn")
QUICK = ("asyncio", "logging", "email", "xml", "multiprocessing")  # packages of Python, for `--quick`
EACH, FEW, TEST = 740, 60, 5  # documents of each library, or for `--quick`; one of so many is for the test
WORDS, SCALE = 2048, 10.0  # places that words are hashed to; the Euclidean norm of a document


class Vectors(Images):
    """(n, WORDS) float32 vectors in place of images, which need no scaling."""

    def __getitem__(self, rows: int | list[int] | Tensor | slice) -> tuple[Tensor, Tensor]:
        return self.images[rows], self.labels[rows]


@dataclass(frozen=True)
class Libraries(Data):
    """The documents as vectors, and the `name` of the texts."""

    name: str


def load(quick: bool = False) -> Libraries:
    """The documents of the five libraries; `quick`: fewer, of five packages of Python."""
    found = [_some(folder, FEW if quick else EACH) for folder in _folders(quick)]
    texts = [text for of_one in found for text in of_one]
    labels = torch.arange(len(found)).repeat_interleave(torch.tensor([len(of_one) for of_one in found]))
    words = HashingVectorizer(n_features=WORDS, alternate_sign=False).transform(text.decode() for text in texts)
    every = Vectors(torch.tensor(SCALE * words.toarray(), dtype=torch.float32), labels)
    order = np.random.default_rng(0).permutation(len(texts))
    cut, name = len(texts) // TEST, hashlib.sha256(b"".join(texts)).hexdigest()[:8]
    return Libraries(every.part(order[cut:]), every.part(order[:cut]), name)


def _folders(quick: bool) -> list[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    if quick:
        return [library / name for name in QUICK]
    places = [find_spec(name) for name in LIBRARIES[1:]]
    return [library, *(Path(place.origin).parent for place in places if place and place.origin)]


def _some(folder: Path, number: int) -> list[bytes]:
    """`number` of a folder's documents, each once."""
    found = list(dict.fromkeys(documents(folder)))
    return [found[row] for row in np.random.default_rng(1).permutation(len(found))[:number]]
