"""Policies side by side: a composed plan beside its parts, and strata beside a single cut."""

import argparse
from functools import partial
from typing import Any

import numpy as np

from adaptive_sampler import ScoreStore
from adaptive_sampler.commands.bench.turns import take_turns
from adaptive_sampler.scoring import EL2N, Error, Margin
from adaptive_sampler.selection import Exclude, Prune, Stratified, Upsample, Weigh
from benchmarks.harness import Row, options, save

ABOUT = (
    "The time of a plan, in turns in one process. A composed one is beside its parts, each planned alone: `times` is over the sum "
    "of theirs. `Stratified` is beside `Prune`, of the same score and share: `times` is over that."
)
SUSPECT = Exclude(by="margin", lowest=0.02)
COMPOSED = {
    "Prune & Exclude": (Prune(0.5, "el2n"), SUSPECT),
    "Upsample & Exclude": (Upsample(20, by="error"), SUSPECT),
    "Prune & Exclude & Weigh": (Prune(0.5, "el2n"), SUSPECT, Weigh("el2n", "linear")),
}
STRATIFIED = {
    "Stratified": Stratified(0.3, "el2n"),
    "Stratified, skip_hardest=0.1": Stratified(0.3, "el2n", skip_hardest=0.1),
}


def measured(store: ScoreStore, policies: dict[str, Any], base: list[str], rounds: int) -> list[Row]:
    """The time of each policy's plan, and how many times that of those in `base` together."""
    plans = {name: partial(policy.plan, store, epoch=0, seed=0) for name, policy in policies.items()}
    times = take_turns(plans, rounds)
    whole = sum(times[name] for name in base)
    return [
        {"plan": name, "rows": len(store), "seconds": taken, "beside": " + ".join(base), "times": taken / whole}
        for name, taken in times.items()
    ]


def main() -> None:
    """Measure, and write the table."""
    parser = options(ABOUT)
    parser.add_argument("--n", type=float, default=1e7, help="rows")
    arguments: argparse.Namespace = parser.parse_args()
    if arguments.quick:
        arguments.n = 1000
    n, rng = int(arguments.n), np.random.default_rng(0)
    store = ScoreStore.create(None, n, [EL2N(), Error(), Margin()])
    store.fold("el2n", np.arange(n), rng.gamma(2, 0.3, n).astype(np.float32))
    store.fold("error", np.arange(n), (rng.random(n) < 0.05).astype(np.float32))
    store.fold("margin", np.arange(n), rng.normal(size=n).astype(np.float32))
    rows: list[Row] = []
    for name, parts in COMPOSED.items():
        each = {type(part).__name__: part for part in parts}
        composed = parts[0]
        for part in parts[1:]:
            composed = composed & part
        rows += measured(store, {**each, name: composed}, [*each], arguments.rounds)
    rows += measured(store, {"Prune": Prune(0.3, "el2n"), **STRATIFIED}, ["Prune"], arguments.rounds)
    save("selection", rows, arguments, ABOUT)


if __name__ == "__main__":
    main()
