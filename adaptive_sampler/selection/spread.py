"""Keep rows that together stand for all: no two that are alike before one that is like none."""

from dataclasses import KW_ONLY, dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from adaptive_sampler import seeds
from adaptive_sampler.arrays import to_host
from adaptive_sampler.checks import whole_number
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.kernels.cover import Neighbours
from adaptive_sampler.kernels.select import premix
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import Scores, check_by, check_share, cut
from adaptive_sampler.selection.composed import Composable
from adaptive_sampler.selection.following import Varying
from adaptive_sampler.selection.made import make
from adaptive_sampler.selection.per_group import grouped, ranking, settle_groups


@dataclass(frozen=True, eq=False)
class Spread(Composable):
    """Keep a share of the rows of which each row has one close by, above all the rows with high scores `by`.

    Facility location (Wei, Iyer & Bilmes 2015, Submodularity in Data Subset Selection and Active Learning), with the scores as
    weights: greedily the rows that raise most the sum over all rows of (score) · (likeness to the likest row that is kept). The
    likeness of two rows is the cosine of their `embeddings`, (n, d), if it is above 0 and one of the two is among the `neighbours`
    nearest of the other, and 0 otherwise. Equal gains, and rows that add nothing any more, are taken by a hash of (seed, epoch,
    row).

    `keep`: a fraction f (float), of floor(f·n + ½) rows, or a count (int). Scores must be finite and not negative; with `by=None`
    all count 1. Rows never observed are kept first, as with `Prune`. The embeddings are copied, as float32. Neighbours are
    found once for a policy by faiss, exactly; where cosines differ by rounding alone, another machine may find others.
    `per_group`, `per_class`: as for `Prune`; the rows of each group, of which at least one stays, then stand for that group alone,
    and neighbours are looked for within it.
    """

    keep: Varying
    by: str | None
    _: KW_ONLY
    embeddings: Any = field(repr=False)
    neighbours: int = 20
    per_class: Any = None
    per_group: Any = None

    def __post_init__(self) -> None:
        check_share("keep", self.keep)
        if self.by is not None:
            check_by(self.by)
        whole_number("neighbours", self.neighbours, 1, what="how many neighbours of each row are looked at")
        settle_groups(self)
        if hasattr(self, "_graph"):  # of a policy whose `keep` follows the epoch this is a copy
            return
        vectors = to_host(self.embeddings)
        if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or 0 in vectors.shape:
            raise InvalidValue(
                f"embeddings have shape {vectors.shape} and dtype {vectors.dtype}: a vector of numbers for each row is needed, "
                "(n, d)."
            )
        vectors = _as_float32(vectors)
        vectors.setflags(write=False)
        object.__setattr__(self, "embeddings", vectors)
        object.__setattr__(self, "_graph", {})

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """Every row if no row was observed yet, else the share that stands for all.

        Raises `InvalidValue` for embeddings of another number of rows, and for a score that is negative or infinite; ImportError if
        faiss is not installed.
        """
        n = len(store)
        if len(self.embeddings) != n:
            raise InvalidValue(
                f"embeddings have {len(self.embeddings)} rows, and the store {n}: one for each row is needed."
            )
        members = [rows for rows, _ in ranking(self, store).members()]
        scores = np.ones(n, np.float32) if self.by is None else store[self.by]
        if self.by is not None and not store.observed(self.by):
            return make(store, self, epoch, seed)
        bad = (scores < 0) | np.isinf(scores)
        if bad.any():
            row = int(np.argmax(bad))
            raise InvalidValue(
                f"{self.by!r} of row {row} is {scores[row]}: what a row counts must be finite and not negative. Go by "
                "another score."
            )
        unseen = np.isnan(scores)
        ties = store.identity.hashes(premix(seeds.key(seed, epoch, seeds.Purpose.TIES)))
        weights = np.where(unseen, 0.0, scores.astype(np.float64))
        kept = np.empty(n, np.bool_)
        for rows, graph in zip(members, self._neighbours(members), strict=True):
            given = unseen[rows]
            share = cut({"keep": self.keep}, len(given), least=1 if grouped(self) else 0)
            number = max(share - int(given.sum()), 0)
            kept[rows] = graph.cover(weights[rows], number, ties=ties[rows], given=given)
        return make(store, self, epoch, seed, kept=kept)

    def _neighbours(self, members: list[Any]) -> list[Neighbours]:
        """Those within each group, which are found anew where a group's rows are others, as of a column that was set anew."""
        # Shared by the policies that a schedule makes of this one.
        known: dict[bytes, Neighbours] = vars(self)["_graph"]
        names = [b"" if isinstance(rows, slice) else blake2b(rows).digest() for rows in members]
        for gone in known.keys() - names:
            del known[gone]
        for name, rows in zip(names, members, strict=True):
            if name not in known:
                vectors = self.embeddings[rows]
                known[name] = _found(vectors, min(int(self.neighbours), len(vectors) - 1))
        return [known[name] for name in names]


def _as_float32(given: np.ndarray) -> np.ndarray:
    """A copy of embeddings. Raises `InvalidValue`, naming the row, for one that is not finite, or is all 0 by rounding alone."""
    with np.errstate(over="ignore", under="ignore"):
        vectors = np.array(given, np.float32, order="C")
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidValue(
            f"the embedding of row {row} is {vectors[row][~np.isfinite(vectors[row])][0]} as float32. Embed it again, or by zeros."
        )
    if given.dtype.itemsize > 4:
        bad = given.any(axis=1) & ~vectors.any(axis=1)
        if bad.any():
            raise InvalidValue(f"the embedding of row {int(np.argmax(bad))} is 0 as float32. Scale the embeddings up.")
    return vectors


def _found(vectors: np.ndarray, number: int) -> Neighbours:
    """The nearest neighbours of each row by the cosine."""
    try:
        import faiss
    except ImportError as error:
        raise ImportError("Spread finds neighbours with faiss: pip install faiss-cpu", name="faiss") from error
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    likeness, found = index.search(unit, number + 1)  # itself is among them, unless others are as near
    return Neighbours(found.astype(np.int64), likeness)
