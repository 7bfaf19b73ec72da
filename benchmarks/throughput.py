"""Sampler throughput: runs `adaptive-sampler bench`, and writes the result where the docs read it."""

import argparse

from adaptive_sampler.commands.bench import command
from benchmarks.harness import CONSOLE, options

if __name__ == "__main__":
    parser = options(command.ABOUT)
    parser.add_argument("--n", nargs="+", default=["10_000_000"], help="rows, as 10_000 or 1e7")
    parser.add_argument("--case", nargs="+", default=[], help="only the cases whose name holds one of these")
    parser.add_argument("--sampler", nargs="+", default=[], metavar="MODULE:FACTORY", help="samplers of your own")
    asked: argparse.Namespace = parser.parse_args()
    settings = command.BenchSettings(command.sizes(asked.n), tuple(asked.case), asked.rounds, tuple(asked.sampler))
    command.save(command.run(settings.quickly() if asked.quick else settings, CONSOLE), asked.out)
