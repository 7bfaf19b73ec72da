"""Once more, longer: halves of a training of 16 epochs, by what was chosen at 8 epochs (again.py), whose scores they go by."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.evidence.again import against_everything, full, groups, runs_of, table
from benchmarks.evidence.again_ways import LONGER
from benchmarks.evidence.runs import Question, Records, Run, Trial, draw, values, verdict

ABOUT = (
    "16 epochs of the wide network on 60,000 images, or on halves by what held-out images chose for 8 epochs: test accuracy in %, "
    "mean ± standard error, differences paired by seed. `samples`: those trained on, in % of everything."
)


def runs(trial: Trial) -> Iterator[Run]:
    """Yield one seed's runs: everything, and the two halves. Scores and choices are those of again.py."""
    yield from runs_of(replace(trial, folder=trial.folder.parent / "again"), LONGER)


def findings(records: Records) -> list[str]:
    """The expectations, with the bars that they had, and what was measured this time."""
    said = []
    for name, expected in zip(LONGER, ("no worse than", "ahead of"), strict=True):
        differs = values(records, group=name) - full(records, groups(records)[name])
        said.append(verdict(f"once more: 16 epochs, {name.split(', ')[1]}, {expected} everything", differs, 0))
    return said


def figure(records: Records, file: Path) -> None:
    """Draw both halves against everything."""
    draw(file, partial(against_everything, records))


WHY = (
    "In longer trainings a half still lacks a tenth of a point with half the steps, and what helped at 8 epochs does not help at "
    "16: by then everything has gained 0.4 points, and the half of the lowest margin, with as many steps, nothing. The choice was "
    "made for 8 epochs, for time; one made by trainings of 16 may be another."
)
QUESTION = Question(
    "again_longer", "Once more, longer", ABOUT, runs, table, findings, figure, epochs=16, width=2, why=WHY
)

if __name__ == "__main__":
    QUESTION.main()
