"""Prints the demo's outcome: the table, what it shows, how it was made, where files are, and code for one's own loop."""

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from adaptive_sampler.commands.demo import outcome as results_of
from adaptive_sampler.commands.demo.experiments import (
    EARLY_EPOCHS,
    EARLY_RUNS,
    FIRST_STAGE_EPOCHS,
    OFFSETS,
    UPSAMPLE,
    WRONG_SHARE,
    Result,
    Trial,
)

YOUR_LOOP = """\
store = ScoreStore.create("scores.zarr", len(train_set), [EL2N()])
sampler = PrunedSampler(store, keep=0.5, warmup_epochs=3)   # DataLoader(..., sampler=sampler)
criterion = LossHook(nn.CrossEntropyLoss(), store)          # for ... in criterion.watch(loader)"""


def outcome(
    console: Console,
    output: Path,
    trial: Trial,
    results: Sequence[Result],
    found: Sequence[tuple[float, float]],
    page: Path,
) -> None:
    """Print the whole outcome. `found`: per seed, what `Trial.wrong_at_top` returns; `page`: the report for the browser."""
    table = results_of.lines(results)
    console.print(_table(table))
    console.print("[bold]What this shows[/] (differences paired by seed, ± 95 % interval)")
    console.print(_list([*results_of.verdicts(results), _found(found)]))
    console.print("\n[bold]How to read it[/]")
    console.print(_list(_notes(trial, table)))
    console.print("\n[bold]Where it is[/]")
    for name, path in (
        ("figure", output / "demo.png"),
        ("results", output / "results.json"),
        ("the store it shows", trial.folder / "wrong-labels"),
        ("look into a store", f"adaptive-sampler info {trial.folder / 'wrong-labels-data-map'}"),
        ("draw its figures", f"adaptive-sampler report {trial.folder / 'wrong-labels-data-map'}"),
    ):
        console.print(f"  {name + ':':20}{path}", soft_wrap=True, highlight=False)
    console.print("\n[bold]In your own loop[/], around the DataLoader of an IndexedDataset")
    console.print(Syntax(YOUR_LOOP, "python", background_color="default"), soft_wrap=True)
    console.print(
        f"\n[bold]Look at the samples and their scores[/] in a browser: {page}", soft_wrap=True, highlight=False
    )


def _table(table: Sequence[results_of.Line]) -> Table:
    seeds = len(table[0].seeds)
    title = f"Test accuracy in %, mean ± standard deviation over {seeds} seed{'s' * (seeds > 1)}"
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    shown.add_column("trained on", no_wrap=True)
    for heading in ("steps", "accuracy", "worst group", "against full"):
        shown.add_column(heading, justify="right")
    previous = ""
    for line in table:
        if line.question != previous:
            shown.add_row(f"[bold]{line.question}[/]")
            previous = line.question
        against = "" if line.against_full is None else f"{line.against_full.mean:+z.1f} ± {line.against_full.std:.1f}"
        worst = "" if line.worst_group is None else str(line.worst_group)
        shown.add_row(f" {line.method}", f"{line.steps:.0f}", str(line.accuracy), worst, against)
    return shown


def _list(sentences: Sequence[str]) -> Table:
    grid = Table.grid(padding=(0, 1))
    for sentence in sentences:
        grid.add_row(" •", sentence)
    return grid


def _found(found: Sequence[tuple[float, float]]) -> str:
    by_el2n, by_margin = (results_of.spread(shares) for shares in zip(*found, strict=True))
    return (
        f"finding wrong labels: of the {WRONG_SHARE:.0%} with the highest EL2N {by_el2n} % are wrong, of those with the lowest "
        f"margin (AUM) {by_margin} %; of a random {WRONG_SHARE:.0%} it would be {100 * WRONG_SHARE:.0f} %"
    )


def _notes(trial: Trial, table: Sequence[results_of.Line]) -> tuple[str, ...]:
    sizes = ", ".join(f"{len(getattr(trial.data, part))} {part}" for part in ("train", "validation", "test"))
    chosen = "; ".join(f"{line.method}: {line.choices}" for line in table if line.choices)
    return (
        f"{sizes} samples, {trial.epochs} epochs, another split, initialisation and noise for each seed. Every seed that was "
        "run is in the table.",
        "Equal epochs are not equal work: half the data is half the steps. 'Equal steps' goes through its half twice as often.",
        f"EL2N is the mean of {EARLY_RUNS} runs of {EARLY_EPOCHS} epochs, whose steps are not counted: they pay off where the "
        f"kept half is trained on often. 'In one run' counts everything: {EARLY_EPOCHS} epochs on all, then on the half.",
        f"The window's offset (of {', '.join(map(str, OFFSETS))}) and JTT's λ (of {', '.join(map(str, UPSAMPLE))}) are chosen on "
        f"a validation set with right labels and known groups, never on the test set. Chosen: {chosen}.",
        f"JTT's first stage trains {FIRST_STAGE_EPOCHS} epoch. Its second takes as many steps as plain training, and reads the "
        "mistakes from a pinned version of the store, open to read only. 'Against full' is there the worst group's.",
    )
