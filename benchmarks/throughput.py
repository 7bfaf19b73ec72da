"""Sampler throughput: ours beside what a user would pick instead, case by case, as ratios of medians taken in turns."""

import argparse
from collections.abc import Iterator
from typing import Any

from benchmarks.arena import compete
from benchmarks.harness import Row, options, save

ABOUT = "Sampler throughput. `ratio`: how many times as long the other takes; `at least`: what we set out to reach."
Contest = tuple[str, int, dict[str, tuple[str, tuple[Any, ...]]], dict[str, float]]


def contests(sizes: list[int]) -> Iterator[Contest]:
    """(case, n, contestants with ours first, the least ratio against each)."""
    for n in sizes:
        torch = n <= 10**7  # above, torch's samplers need minutes and tens of gigabytes
        subset = {"BatchSampler(SubsetRandomSampler)": _c("torch_subset_batches", n)} if torch else {}
        yield _epoch("lists of 256, half kept", "ours_batches", n, subset, 8)
        yield _epoch("single rows through torch's BatchSampler, half kept", "ours_singles", n, subset, 4)
        random = {"RandomSampler": _c("torch_first_batch", n)}
        yield (
            "set_epoch to first batch, all kept",
            n,
            {"ours": _c("ours_first_batch", n, 1.0)} | random,
            {"RandomSampler": 100},
        )
        yield (
            "set_epoch to first batch, half kept, plan included",
            n,
            {"ours": _c("ours_first_batch", n, 0.5)} | random,
            {"RandomSampler": 15},
        )
        plan = {f"np.{f}": _c(f"numpy_{f}", n, 0) for f in ("argpartition", "argsort")}
        yield (
            "plan: keep the top half",
            n,
            {"ours": _c("ours_plan", n, 0)} | plan,
            {"np.argpartition": 5, "np.argsort": 40},
        )
        ties = {"np.argpartition": _c("numpy_argpartition", n, 5)}
        yield (
            "plan: top half of five distinct scores",
            n,
            {"ours": _c("ours_plan", n, 5)} | ties,
            {"np.argpartition": 2.5},
        )
        yield _draws("n weighted draws, shuffled", n, True, {"torch.multinomial": 10, "Generator.choice": 30})
        yield _draws("n/2 weighted draws without replacement", n, False, {"torch.multinomial": 10})
    n = min(sizes[0], 10**7)
    for size in (256, 4096):
        update = {"ours": _c("ours_update", n, size), "NumPy": _c("numpy_update", n, size)}
        yield f"200 updates of six scores, batch {size}", n, update, {"NumPy": 5}
    loader = {
        "ours": _c("loader_epoch", min(n, 10**6), True),
        "RandomSampler": _c("loader_epoch", min(n, 10**6), False),
    }
    yield "DataLoader epoch with __getitems__", min(n, 10**6), loader, {"RandomSampler": 1.3}
    hook = {"ours": _c("training_step", n, True), "no hook": _c("training_step", n, False)}
    yield "20 training steps with LossHook", n, hook, {"no hook": 1 / 1.03}
    imports = {"ours": _c("imported", "adaptive_sampler"), "import numba": _c("imported", "numba")}
    yield "import", 0, imports, {"import numba": 1 / 1.25}


def main(arguments: argparse.Namespace) -> None:
    """Run the cases whose name holds `--case`."""
    sizes = [10_000] if arguments.quick else arguments.n
    rows: list[Row] = []
    for case, n, contestants, least in contests(sizes):
        if arguments.case not in case:
            continue
        found = compete(contestants, arguments.rounds)
        ours = found.pop("ours")
        rows += [
            {
                "case": case,
                "n": n,
                "against": name,
                "ours s": ours.seconds,
                "other s": other.seconds,
                "ratio": other.seconds / ours.seconds,
                "at least": least.get(name, ""),
                "ours MiB": ours.memory / 2**20,
                "other MiB": other.memory / 2**20,
            }
            for name, other in found.items()
        ]
        print(case, n, {r["against"]: round(r["ratio"], 2) for r in rows[-len(found) :]} if found else ours, flush=True)
    save("throughput", rows, arguments, ABOUT)


def _c(function: str, *arguments: Any) -> tuple[str, tuple[Any, ...]]:
    return f"benchmarks.contestants:{function}", arguments


def _epoch(case: str, function: str, n: int, subset: dict[str, Any], least: float) -> Contest:
    others = subset | {"BatchSampler(RandomSampler)": _c("torch_random_batches", n)}
    return case, n, {"ours": _c(function, n)} | others, dict.fromkeys(others, least)


def _draws(case: str, n: int, replacement: bool, least: dict[str, float]) -> Contest:
    others = {"torch.multinomial": _c("torch_multinomial", n, replacement)} if n <= 2**24 else {}
    if "Generator.choice" in least and n <= 10**7:
        others["Generator.choice"] = _c("numpy_choice", n, replacement)
    return case, n, {"ours": _c("ours_draws", n, replacement)} | others, least


if __name__ == "__main__":
    parser = options(ABOUT)
    parser.add_argument("--n", type=int, nargs="+", default=[10**7], help="rows")
    parser.add_argument("--case", default="", help="only the cases whose name holds this")
    main(parser.parse_args())
