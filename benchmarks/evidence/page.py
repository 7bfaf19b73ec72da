"""Write docs/evidence.md from the recorded runs: `python -m benchmarks.evidence.page`."""

import json
from pathlib import Path

from adaptive_sampler.commands.bench.result import markdown
from benchmarks.evidence import (
    again,
    again_longer,
    coverage,
    curriculum,
    data_diet,
    diet_settings,
    hard_or_wrong,
    how_many,
    jtt,
    left_out,
    online,
    removed,
    streams,
    teacher,
    text,
    trusted,
    velocity,
    when,
    whose,
    window,
    window_settings,
    wrong_labels,
)
from benchmarks.evidence.advice import advice
from benchmarks.evidence.runs import Question, Records, commits, recorded, seeds_of
from benchmarks.evidence.training import EPOCHS
from benchmarks.harness import RESULTS

PAGE = Path(__file__).parents[2] / "docs" / "evidence.md"
QUESTIONS = tuple(
    module.QUESTION
    for module in (
        data_diet,
        diet_settings,
        window,
        window_settings,
        coverage,
        when,
        how_many,
        whose,
        velocity,
        removed,
        wrong_labels,
        hard_or_wrong,
        left_out,
        trusted,
        jtt,
        online,
        teacher,
        curriculum,
        streams,
        text,
        again,
        again_longer,
    )
)
TITLE = "# Evidence\n"
HEAD = f"""
Do these samplers make models better? Fashion-MNIST in full, 60,000 images to train on and 10,000 to test, a small
convolutional net of 57,000 parameters, or where a question says so the wide one of 432,000
([training.py](../benchmarks/evidence/training.py)), {EPOCHS} epochs unless a question says otherwise, on one CPU core.
Figures are mean ± standard error over the seeds; a seed is another initialisation, order, noise, held-out cut and another
set of scores; differences are paired by seed. What must be chosen is chosen on held-out images, never on the test set; no
seed is left out. Each section names the file that made it, and the commit. One question is of language models: its text is
the docstrings of Python's standard library, and its model is in [lm.py](../benchmarks/evidence/lm.py). Two are of scikit-learn's
digits, as they take hundreds of trainings. Eight are of 2,000 to 20,000 of the images, as they take many trainings, too; JTT's is
of 20,000 of four classes, and the last, L2RW's, of 5,000. One of the eight is also of docstrings of five libraries, which
[libraries.py](../benchmarks/evidence/libraries.py) names with their licences.

`python -m benchmarks.evidence` makes this page, from the runs in [benchmarks/results/evidence](../benchmarks/results/evidence).
It does those that are missing there, and goes on where it was stopped; `--anew` does all again, and `--quick` takes seconds, needs
no data and changes nothing here. A row of a table is checked by

```sh
python -m benchmarks.evidence.removed --repeat                                 # the settings of its runs
python -m benchmarks.evidence.removed --repeat noise=0.2 removed=0.7           # all seeds of one, from the scores on
python -m benchmarks.evidence.removed --repeat noise=0.2 removed=0.7 --seed 3  # one seed
```

which prints what was recorded beside what is found, and changes nothing. On another processor sums are rounded otherwise, and
trainings soon go other ways. Since the oldest runs (commits 793e148 and b70eca8; and 1caa7a5 for a random
half) a seed gives the samples in another order; and since aa68247 other draws by `Stratified`, `Draw` and `InfoBatch`. Each
makes as much of a difference as another seed does: hold it against the ±. The line below a table names the machine and the
versions with which it was written; runs name their commit and, but for the oldest, their processor. All were made with Python
3.11.7, NumPy 2.4.6 and torch 2.13.0 on one thread, and those to come name their versions, too.

Everything goes through the public API. Half of the data by early scores, for instance:

```python
from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import EL2N
from adaptive_sampler.torch import IndexedDataset, PrunedSampler, observe

store = ScoreStore.create(None, len(train_set), [EL2N()])
for run in range(3):
    store.begin_run(f"run {{run}}")
    young = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))  # trained for two epochs
    observe(young, DataLoader(IndexedDataset(train_set), batch_size=200), store, progress=False)
loader = DataLoader(train_set, batch_size=50, sampler=PrunedSampler(store, keep=0.5))
assert sum(len(labels) for _, labels in loader) == 300
```
"""


def page(results: Path = RESULTS) -> str:
    """The text of the page, made from the recorded runs."""
    answered = [(q, recorded(results / "evidence" / f"{q.name}.jsonl")) for q in QUESTIONS]
    answered = [(question, records) for question, records in answered if records]
    parts = [
        TITLE,
        advice({question.name: records for question, records in answered}),
        HEAD,
        _expectations([line for q, records in answered for line in q.findings(records)]),
    ]
    parts += [_section(question, records, results) for question, records in answered]
    if (results / "l2rw.json").exists():
        table = markdown(json.loads((results / "l2rw.json").read_text()))
        parts.append(f"\n## L2RW: unbalanced classes and wrong labels\n\n{table}")
        parts.append("\n![l2rw](../benchmarks/results/l2rw.png)\n")
    return "".join(parts)


def _expectations(lines: list[str]) -> str:
    """The section that counts which expectations were met, and lists those that were not."""
    met, missed = ([line for line in lines if line.endswith(f": {end}.")] for end in ("met", "not met"))
    told = f"\n## What was expected\n\n{len(met)} expectations were met, {len(missed)} were not"
    return told + (":\n\n" + "".join(f"- {line}\n" for line in missed) if missed else ".\n")


def _section(question: Question, records: Records, results: Path) -> str:
    name = question.name
    found = "".join(f"- {line}\n" for line in question.findings(records))
    table = markdown(json.loads((results / "evidence" / f"{name}.json").read_text()))
    made = (
        f"{len(seeds_of(records))} seeds, {len(records)} runs at commit {', '.join(commits(records))}, "
        f"{sum(r['cpu seconds'] for r in records) / 60:.0f} minutes of one core."
    )
    why = f"\n{question.why}\n" if question.why else ""
    source = f"[{name}.py](../benchmarks/evidence/{name}.py)"
    return (
        f"\n## {question.title}\n\n{found}{why}\n{source}: {made}\n\n{table}\n"
        f"![{name}](../benchmarks/results/evidence/{name}.png)\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page())
