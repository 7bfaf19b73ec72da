"""Keep the rows with the highest or the lowest score: data pruning as in Data Diet, forgetting and the rest."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from adaptive_sampler.arrays import to_host
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.plan import Plan
from adaptive_sampler.selection.base import (
    Order,
    Scores,
    Ties,
    check_choice,
    check_max_age,
    check_share,
    cut,
    fill,
    make,
    stale_age,
    ties_salt,
)


@dataclass(frozen=True, eq=False)
class Prune:
    """Keep the share `keep` with the `order` score `by` (Paul et al. 2021, section 3: `order="highest"`).

    `keep`: a fraction (float) cut at floor(f·n + ½), or a count (int). Rows never observed fill `keep` first; only if
    they exceed it is the plan larger. `max_age`: then come rows whose own score is older than that many epochs, the
    oldest first. `ties="row"` is a stable argsort; `"random"` a hash of (seed, epoch, row). `per_class`: (n,) labels;
    `keep` then applies within each class.
    """

    keep: float | int
    by: str
    _: KW_ONLY
    order: Order = "highest"
    ties: Ties = "random"
    per_class: Any = None
    max_age: int | None = None

    def __post_init__(self) -> None:
        check_share("keep", self.keep)
        check_choice("order", self.order, ("highest", "lowest"))
        check_choice("ties", self.ties, ("random", "row"))
        check_max_age(self.max_age)
        if self.per_class is not None:
            object.__setattr__(self, "per_class", to_host(self.per_class))

    def plan(self, store: Scores, *, epoch: int, seed: int) -> Plan:
        """Everything where nobody was observed yet, else the share of best scores."""
        if not store.observed(self.by):
            store[self.by]  # an unknown name is an error, also before the first observation
            return make(store, self, epoch, seed)
        scores, age = store[self.by], stale_age(store, self.by, epoch, self.max_age)
        salt = ties_salt(epoch, seed)
        if self.per_class is None:
            return make(store, self, epoch, seed, kept=self._best(scores, age, salt, store.observed(self.by)))
        kept = np.zeros(len(store), np.bool_)
        for members in self._classes(len(store)):
            part = self._best(scores[members], None if age is None else age[members], salt)
            kept[members] = np.unpackbits(part, count=len(members), bitorder="little")
        return make(store, self, epoch, seed, kept=np.packbits(kept, bitorder="little"))

    def _best(self, scores: np.ndarray, age: np.ndarray | None, salt: int, observed: int | None = None) -> np.ndarray:
        budget = cut({"keep": self.keep}, len(scores))
        highest = self.order == "highest"
        start = (lambda ranked, number: ranked - number) if highest else (lambda ranked, number: 0)
        return fill(scores, budget, start, age=age, salt=salt, ties=self.ties, observed=observed)

    def _classes(self, n: int) -> list[np.ndarray]:
        """The rows of each class, ascending."""
        labels = self.per_class
        if labels.shape != (n,):
            raise InvalidValue(f"per_class has shape {labels.shape}: one label for each of the {n} rows is needed.")
        by_class = np.argsort(labels, kind="stable")
        ordered = labels[by_class]
        return np.split(by_class, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1)
