"""The commands: `demo`, `bench`, kernels compiled ahead (`compile`), shards (`index`), what a store holds (`info`, `report`)."""

import importlib
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from adaptive_sampler import version
from adaptive_sampler.commands import given
from adaptive_sampler.errors import AdaptiveSamplerError, InvalidValue
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.shards.errors import reraise
from adaptive_sampler.store import ScoreStore

try:
    import typer
    from rich.console import Console
except ImportError as error:
    raise ImportError('The commands need rich and typer: pip install "adaptive-sampler[torch,report]"') from error

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
console = Console(emoji=False)  # a path or a name with :x: in it is one
errors = Console(stderr=True, emoji=False)
Store = Annotated[
    str,
    typer.Argument(help="The folder of a store, or its s3://, gs:// or az:// URL.", metavar="PATH", show_default=False),
]


def _tell_version(wanted: bool) -> None:
    if wanted:
        console.print(version.installed(), highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Decide, while a model trains, which samples are worth the next step."""


@app.command()
def demo(
    data: Annotated[Literal["digits", "fashion-mnist"], typer.Option(help="What to train on.")] = "digits",
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of Fashion-MNIST's idx files. Default: where Debian's dataset-fashion-mnist puts them.",
            envvar="ADAPTIVE_SAMPLER_FASHION_MNIST",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for stores, figure and results.")] = Path("demo-output"),
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds: splits, initialisations and noise differ.")] = 6,
    epochs: Annotated[
        int | None,
        typer.Option(min=2, help="Epochs of each training. Default: 30; 15 for fashion-mnist.", show_default=False),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=50, help="Training samples. Default: all digits; 6000 of Fashion-MNIST.", show_default=False),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The smallest size: whether it runs, not what it shows.")
    ] = False,
    look: Annotated[bool, typer.Option("--open", help="Open the page of the store in a browser at the end.")] = False,
) -> None:
    """Train small networks on all, on random and on selected samples, and report what each is worth."""
    try:
        import torch

        from adaptive_sampler.commands import demo as demonstration
    except ImportError as error:
        _say(ImportError(f'The demo needs more: pip install "adaptive-sampler[torch,report]"   ({error})'))
        raise typer.Exit(1) from error
    torch.set_num_threads(1)  # with batches this small, a second thread costs more time than it saves
    settings = demonstration.DemoSettings(data, data_dir, output, seeds, epochs, samples)

    def train() -> None:
        _folder(output)
        demonstration.run(settings.quick() if quick else settings, console)
        if look:
            webbrowser.open(demonstration.page(output).absolute().as_uri())

    _run(train)


@app.command()
def bench(
    case: Annotated[
        list[str] | None,
        typer.Option(help="Only cases whose name holds this. May be given again.", show_default=False),
    ] = None,
    n: Annotated[
        list[str] | None,
        typer.Option("--n", help="Rows: 100_000, 1e7, or several as 1e5,1e6.", show_default="1e5,1e6"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each contestant gets; the median counts.")] = 5,
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:FACTORY",
            help="A sampler of your own: factory(n), or factory(n, batch_size=256) where it has that parameter, returns "
            "an iterable of rows or of lists of rows, an epoch each time it is iterated. May be given again.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for rows, tables and figure. Default: nothing is written.", show_default=False),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="10,000 rows, one turn: whether it runs, not what it shows.")
    ] = False,
    list_cases: Annotated[bool, typer.Option("--list", help="Name the cases and who competes, and run none.")] = False,
) -> None:
    """Measure what a sampler costs, beside torch's and whichever others are installed: time and memory against n."""
    from adaptive_sampler.commands.bench import command, files

    if output:
        _needs("adaptive_sampler.commands.bench.figures")  # fails now, not after minutes of measuring

    def measure() -> None:
        if list_cases:
            return command.list_cases(case or (), console)
        settings = command.BenchSettings(
            command.sizes(n or ["1e5", "1e6"]), tuple(case or ()), rounds, tuple(sampler or ())
        )
        if output:
            _folder(output)
        found = command.run(settings.quickly() if quick else settings, console)
        for file in files.save(found, output) if output else ():
            _line(str(file))
        return None

    _run(measure)


@app.command("compile")
def compile_kernels() -> None:
    """Compile all kernels now, for this processor, so that no training waits for it: in images and in CI."""
    from adaptive_sampler.commands import compile as ahead

    def run() -> None:
        folder, seconds = ahead.run()
        _line(f"All kernels are compiled, in {seconds:.0f} s: they lie in {folder}")

    _run(run)


@app.command("index")
def index_shards(
    urls: Annotated[list[str], typer.Argument(help="Paths, URLs, also as 'name-{000..099}.tar'.", show_default=False)],
    output: Annotated[str, typer.Option(help="The folder of the index.")] = "shards.index",
    go_on: Annotated[bool, typer.Option("--go-on", help="Say what is damaged or missing, and leave it out.")] = False,
    listing: Annotated[
        Literal["energon", "wids"] | None,
        typer.Option(
            "--from",
            help="Name, in place of shards, the folder that `energon prepare` has indexed, or the JSON file that wids wrote.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Index tar shards, on disk, on web servers and in object stores. Where there is an index, only what is new is read."""

    def build() -> None:
        shards = "::".join(urls) if listing is None else given.listing(listing, urls)
        index = ShardIndex.build(shards, output, progress=None, handler=_say if go_on else reraise)
        _line(f"{index.path}: {len(index):,} samples in {len(index.urls):,} shards")

    _run(build)


@app.command()
def info(path: Store) -> None:
    """The scores and versions of a store."""
    from adaptive_sampler.commands import contents

    def tell() -> None:
        with ScoreStore.open(path, mode="r") as store:
            contents.show(store, console)

    _run(tell)


@app.command()
def report(
    path: Store,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the figures. Default: PATH-report; of a URL, its last part.", show_default=False),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="A .npy file of the rows' classes, to show what was kept of each.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write one page for a browser to this file, instead of figures.", show_default=False),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="With --html: a .npy file of the classes that a model says.", show_default=False),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:NAME",
            help="With --html: the dataset whose samples the page shows, or a function that returns it; or a .npy file, a sample "
            "a row.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Draw a store's figures, or write a page: each score and what the newest plan keeps of it, the data map, the classes."""
    drawn = _needs("adaptive_sampler.report")

    def draw() -> None:
        with ScoreStore.open(path, mode="r") as store:
            classes = None if labels is None else given.array("--labels", labels)
            if html is not None:
                samples = None if data is None else given.dataset(data)
                guessed = None if predictions is None else given.array("--predictions", predictions)
                _line(str(drawn.html(store, html, dataset=samples, labels=classes, predictions=guessed)))
                return
            if data is not None or predictions is not None:
                raise InvalidValue("--data and --predictions are for the page: name its file by --html report.html.")
            beside = store.path if isinstance(store.path, Path) else store.path.rpartition("/")[2]
            folder = output or Path(f"{beside}-report")
            _folder(folder)
            for file in drawn.save_all(store, folder, labels=classes):
                _line(str(file))

    _run(draw)


def _folder(path: Path) -> None:
    """Make the folder for a command's output. Raises `InvalidValue` if there can be none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidValue(f"--output {path}: a folder to write into is needed ({error.strerror}).") from error


def _needs(module: str) -> Any:
    """Import a module. If it needs an extra that is missing, say what to install, and exit with status 1."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        _say(error)
        raise typer.Exit(1) from error


def _run(command: Callable[[], object]) -> None:
    """Run a command. Say an error of this package's, or of the disk or the memory, without a traceback, and exit.

    The status is 2 for an option of a wrong value, as where typer itself refuses one, and 1 for what cannot be done.
    """
    try:
        command()
    except (AdaptiveSamplerError, OSError, MemoryError) as error:
        _say(error)
        raise typer.Exit(2 if isinstance(error, InvalidValue) else 1) from error


def _line(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _say(error: Exception) -> bool:
    errors.print(f"{error}", style="red", markup=False, highlight=False, soft_wrap=True)
    return True  # as a handler that goes on
