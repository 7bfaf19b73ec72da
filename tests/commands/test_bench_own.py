"""A user's own sampler is looked at first, and competes where it fits."""

import re

import pytest

pytest.importorskip("rich")

from rich.console import Console

from adaptive_sampler.commands.bench import command
from adaptive_sampler.commands.bench.contestants import own
from adaptive_sampler.errors import InvalidValue
from tests.commands import contestants
from tests.commands.contestants import HERE


@pytest.mark.parametrize(
    ("factory", "kind"),
    [
        ("shuffled", own.EPOCH),
        ("arrays", own.EPOCH),
        ("lists", own.EPOCH),
        ("scalars", own.EPOCH),
        ("seeded", own.EPOCH),
        ("every_other", own.HALF),
        ("drawn", own.DRAWS),
    ],
)
def test_what_a_sampler_yields_says_where_it_competes(factory: str, kind: str) -> None:
    assert own.kind(f"{HERE}:{factory}") == kind


@pytest.mark.parametrize(
    ("spec", "got"),
    [
        (f"{HERE}:once", "yielded nothing in its second epoch"),
        (f"{HERE}:too_few", "yielded 993 rows, 993 different ones, for n=1000"),
        (f"{HERE}:outside", "yielded row 1000 for n=1000: rows are 0 … 999"),
        (f"{HERE}:words", "yielded 'a', a str and no row"),
        (f"{HERE}:fractions", "a float64 and no row"),
        (f"{HERE}:endless", "goes on after 2,001 rows of n=1000"),
        (f"{HERE}:nothing", "returned None, which cannot be iterated"),
        (f"{HERE}:absent", "has no attribute 'absent'"),
        (f"{HERE}:without_rows", "TypeError: without_rows() takes 0 positional arguments but 1 was given"),
        (f"{HERE}:breaking", f"KeyError: 'lost' ({contestants.__file__}, line "),
        ("no_such_module:factory", "No module named 'no_such_module'"),
        ("shuffled", "write module:factory"),
    ],
)
def test_a_sampler_that_fits_nowhere_is_refused_by_what_it_yields(spec: str, got: str) -> None:
    with pytest.raises(InvalidValue, match=re.escape(got)):
        own.kind(spec)


def test_a_sampler_of_ones_own_competes_where_it_fits() -> None:
    console = Console(quiet=True)
    spec = f"{HERE}:every_other"
    settings = command.BenchSettings((1000,), ("half kept, lists", "plan: keep"), 1, (spec,))
    rows = command.run(settings, console)["rows"]
    assert [row["case"] for row in rows if row["contestant"] == spec and row["s"]] == ["half kept, lists of 256"]
