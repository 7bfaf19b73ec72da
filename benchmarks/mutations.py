"""What becomes of a store, its plans and an index of shards whose files something changed: read right, or refused?"""

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from adaptive_sampler.commands.bench.base import Row
from benchmarks.harness import options, save
from benchmarks.mutating.subjects import SUBJECTS
from benchmarks.mutating.trial import Verdict
from benchmarks.mutating.worker import run

ABOUT = (
    "Random mutations of the files of a store, of its plans, and of an index of shards; each copy is then read by every "
    "public name, gone on with (committed, grown, built again …), and read again. `right`: all is as it was before the "
    "mutation; `refused`: by an error of ours, and all that was not refused is right; `WRONG`: something else was read, or "
    "something beside the folder was touched; `RAW`: any other error; `HUNG`: no answer within 20 s. In the last table the "
    "checksums were made good after an edit, so that it is another store that is whole; there `right` says that it reads the "
    "same twice. Permissions are taken away only where the user is not root."
)
OUTCOMES = ("right", "refused", "WRONG", "RAW", "HUNG")


def verdicts(names: Sequence[str], count: int, seed: int, folder: Path, workers: int) -> list[Verdict]:
    """The verdicts of `count` trials, spread over the subjects of these names, by so many processes at once."""
    jobs = []
    for place, name in enumerate(names):
        subject, home = SUBJECTS[name], folder / name
        home.mkdir()
        subject.make(home)
        share = range(count // len(names) + (place < count % len(names)))
        jobs += [(subject, home, folder / "space", seed, share[start::workers]) for start in range(workers)]

    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda job: list(run(*job)), jobs)
        return sorted((v for some in found for v in some), key=lambda v: (names.index(v.subject), v.number))


def table(found: Sequence[Verdict]) -> list[Row]:
    """The rows: by mutation and by what was mutated; those with checksums made good; and each failure."""
    plain = [v for v in found if not v.resealed]
    resealed = [v for v in found if v.resealed]
    return [
        *_counted(plain, "mutation"),
        *_counted(plain, "of"),
        *({"resealed": row.pop("mutation"), **row} for row in _counted(resealed, "mutation")),
        *_failures(found),
    ]


def _counted(found: Sequence[Verdict], by: str) -> Iterator[Row]:
    groups: dict[tuple[str, str], Counter[str]] = {}
    for verdict in found:
        groups.setdefault((verdict.subject, getattr(verdict, by)), Counter())[verdict.outcome] += 1
    for (subject, group), counts in groups.items():
        yield {by: group, "subject": subject, **{outcome: counts[outcome] for outcome in OUTCOMES}}


def _failures(found: Sequence[Verdict]) -> Iterator[Row]:
    for v in found:
        if v.outcome in OUTCOMES[2:]:
            kind = f"{v.mutation}{', resealed' if v.resealed else ''}"
            yield {
                "trial": v.number,
                "subject": v.subject,
                "kind": kind,
                "step": v.step,
                "did": v.did,
                "why": f"{v.outcome}: {v.why}",
            }


def main(arguments: argparse.Namespace) -> None:
    """Run the trials, or with `--only` one of them."""
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    names = [arguments.subject] if arguments.subject else list(SUBJECTS)
    try:
        if arguments.only is not None:
            return _tell(names[0], arguments, folder)
        count = 30 if arguments.quick else arguments.count
        save("mutations", table(verdicts(names, count, arguments.seed, folder, arguments.workers)), arguments, ABOUT)
    finally:
        shutil.rmtree(folder)
    return None


def _tell(name: str, arguments: argparse.Namespace, folder: Path) -> None:
    home = folder / name
    home.mkdir()
    SUBJECTS[name].make(home)
    (verdict,) = run(SUBJECTS[name], home, folder / "space", arguments.seed, [arguments.only])
    told: dict[str, Any] = vars(verdict)
    print("\n".join(f"{key}: {value}" for key, value in told.items()))


if __name__ == "__main__":
    parser = options(ABOUT)
    parser.add_argument("--count", type=int, default=10_000, help="mutations")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other mutations")
    parser.add_argument("--workers", type=int, default=1, help="processes at once")
    parser.add_argument("--subject", choices=list(SUBJECTS), help="only this one")
    parser.add_argument("--only", type=int, help="only the trial of this number, and all that is known of it")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the copies are made; a folder in memory is faster"
    )
    main(parser.parse_args())
