"""Sampler throughput: runs `adaptive-sampler bench`, and writes the result where the docs read it, to OUT/throughput."""

import argparse

from adaptive_sampler.commands.bench import command, files
from benchmarks.harness import CONSOLE, options


def main(arguments: argparse.Namespace) -> None:
    """Measure, or take the rows that are there; then write everything."""
    folder = arguments.out / command.NAME
    if arguments.redraw:
        files.save(files.read(folder), folder)
        return
    asked = command.BenchSettings(
        command.sizes(arguments.n), tuple(arguments.case), arguments.rounds, tuple(arguments.sampler)
    )
    files.save(command.run(asked.quickly() if arguments.quick else asked, CONSOLE), folder)


if __name__ == "__main__":
    parser = options(command.ABOUT)
    parser.add_argument("--n", nargs="+", default=["10_000_000"], help="rows, as 10_000 or 1e7")
    parser.add_argument("--case", nargs="+", default=[], help="only the cases whose name holds one of these")
    parser.add_argument("--sampler", nargs="+", default=[], metavar="MODULE:FACTORY", help="samplers of your own")
    parser.add_argument(
        "--redraw", action="store_true", help="measure nothing: make tables and figure from the kept rows"
    )
    main(parser.parse_args())
