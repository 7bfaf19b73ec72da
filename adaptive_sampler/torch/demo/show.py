"""The demo's words: the table, what it shows, how it was made, where everything is, and the lines for one's own loop."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from adaptive_sampler.torch.demo import outcome as results_of
from adaptive_sampler.torch.demo.experiments import (
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
sampler = PrunedSampler(store := ScoreStore.create("scores.zarr", len(train_set), [EL2N()]), keep=0.5, warmup_epochs=3)
loader = DataLoader(IndexedDataset(train_set), batch_size=256, sampler=sampler)
criterion = LossHook(nn.CrossEntropyLoss(), store)      # then: for inputs, labels in criterion.watch(loader): ..."""


def outcome(
    console: Console, output: Path, trial: Trial, results: Sequence[Result], found: Sequence[tuple[float, float]]
) -> None:
    """Print everything."""
    table = results_of.lines(results)
    console.print(_table(table))
    console.print("[bold]What this shows[/] (paired by seed, ± standard error)")
    for sentence in results_of.verdicts(results):
        console.print(f"  • {sentence}", highlight=False)
    console.print(f"  • {_found(found)}", highlight=False)
    console.print("\n[bold]How to read it[/]")
    for note in _notes(trial):
        console.print(f"  • {note}", highlight=False)
    console.print("\n[bold]Where it is[/]")
    for name, path in (
        ("figure", output / "demo.png"),
        ("results", output / "results.json"),
        ("the scores it shows", trial.folder / "wrong-labels"),
    ):
        console.print(f"  {name}: {path}", soft_wrap=True, highlight=False)
    map_store = trial.folder / "wrong-labels-data-map"
    console.print(f"  look inside: adaptive-sampler info {map_store}", soft_wrap=True, highlight=False)
    console.print(f"  and:         adaptive-sampler report {map_store}", soft_wrap=True, highlight=False)
    console.print("\n[bold]In your own loop[/]")
    console.print(Syntax(YOUR_LOOP, "python", background_color="default", word_wrap=True))


def _table(table: Sequence[results_of.Line]) -> Table:
    seeds = len(table[0].seeds)
    shown = Table(title=f"Test accuracy in %, mean ± standard deviation over {seeds} seeds", title_justify="left")
    shown.add_column("trained on")
    for heading in ("steps", "accuracy", "worst group", "against full set", "chosen on validation"):
        shown.add_column(heading, justify="right")
    previous = ""
    for line in table:
        if line.question != previous:
            shown.add_section()
            shown.add_row(f"[bold]{line.question}[/]")
            previous = line.question
        against = "" if line.against_full is None else f"{line.against_full.mean:+.1f} ± {line.against_full.std:.1f}"
        worst = "" if line.worst_group is None else str(line.worst_group)
        shown.add_row(f"  {line.method}", f"{line.steps:.0f}", str(line.accuracy), worst, against, line.choices)
    return shown


def _found(found: Sequence[tuple[float, float]]) -> str:
    by_el2n, by_margin = (results_of.spread(shares) for shares in zip(*found, strict=True))
    return (
        f"finding wrong labels: of the {WRONG_SHARE:.0%} with the highest EL2N {by_el2n} % are wrong, of those with the lowest "
        f"margin (AUM) {by_margin} %; of a random {WRONG_SHARE:.0%} it would be {100 * WRONG_SHARE:.0f} %"
    )


def _notes(trial: Trial) -> tuple[str, ...]:
    sizes = ", ".join(f"{len(getattr(trial.data, part))} {part}" for part in ("train", "validation", "test"))
    return (
        f"{sizes} samples, {trial.epochs} epochs, another split, initialisation and noise for each seed. Every seed that was "
        "run is in the table.",
        "Equal epochs are not equal work: half the data is half the steps. 'As many steps as full' goes through its half "
        "twice as often.",
        f"EL2N is the mean of {EARLY_RUNS} runs of {EARLY_EPOCHS} epochs, whose steps are not counted: they pay off when the "
        "kept half is trained on more than once, or for long. 'Scored in the same run' counts everything.",
        f"The window's offset (of {', '.join(map(str, OFFSETS))}) and JTT's λ (of {', '.join(map(str, UPSAMPLE))}) are chosen on "
        "the validation set, which has right labels and known groups; the test set chooses nothing.",
        f"JTT's first stage trains {FIRST_STAGE_EPOCHS} epoch. Its second takes as many steps as plain training, and reads the "
        "mistakes from a pinned version of the store that is open to read only. 'Against full set' is there the worst group's.",
    )
