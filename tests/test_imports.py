"""The reader of imports sees what is planted: each fault in a small package of its own."""

from pathlib import Path

import pytest

from tests.imports import Package, circles, reached, way
from tests.planted import planted


def arrows(package: Package, module: str) -> set[str]:
    return {i.module for i in package.inside if i.importer == f"planted.{module}"}


def test_an_import_leads_to_the_file_that_it_reads(tmp_path: Path) -> None:
    package = planted(tmp_path)
    assert arrows(package, "middle") == {"planted.low"}
    assert arrows(package, "room.high") == {"planted.low", "planted.middle"}


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    from planted.middle import VALUE\n",
        "class C:\n    def f(self):\n        import planted.middle\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from planted.middle import VALUE\n",
        "try:\n    from planted import middle\nexcept ImportError:\n    pass\n",
        "import importlib\nimportlib.import_module('planted.middle')\n",
        "__import__('planted.middle')\n",
        "def f(load):\n    return load('planted.middle')\n",
        "async def f():\n    from planted import middle\n",
    ],
    ids=["function", "method", "type checker", "try", "importlib", "__import__", "passed on", "async"],
)
def test_an_import_is_seen_wherever_it_stands(tmp_path: Path, source: str) -> None:
    assert arrows(planted(tmp_path, low=source), "low") == {"planted.middle"}


def test_an_import_says_where_it_stands(tmp_path: Path) -> None:
    (found,) = planted(tmp_path, low="\n\nfrom planted.middle import VALUE\n").inside[:1]
    assert str(found) == "planted/low.py:3: planted.low imports planted.middle.VALUE"


def test_a_relative_import_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"planted/low\.py:1: a relative import"):
        _ = planted(tmp_path, low="from .middle import VALUE\n").inside


@pytest.mark.parametrize(
    "source",
    [
        "importlib.import_module(f'planted.{x}')",
        "importlib.import_module('planted.' + x)",
        "importlib.import_module(BASE + '.middle')",
        "importlib.import_module('.'.join(('planted', 'middle')))",
        "importlib.import_module('.middle', 'planted')",
        "importlib.import_module(name=f'planted.{x}')",
        "name = f'planted.{x}'; importlib.import_module(name)",
        "map(importlib.import_module, x)",
        "from importlib import import_module as load",
        "from sys import modules",
        "__import__(x)",
        "pkgutil.resolve_name(f'planted.{x}:VALUE')",
        "sys.modules[f'planted.{x}']",
        "exec('from planted.middle import VALUE')",
        "eval('planted.middle')",
    ],
)
def test_an_import_by_a_name_that_is_computed_is_told_of(tmp_path: Path, source: str) -> None:
    package = planted(tmp_path, low=f"def f(x):\n    {source}\n")
    (found,) = package.computed
    assert str(found).startswith("planted/low.py:2: planted.low imports by a computed name: ")
    assert found.module.partition(": ")[2] in source


@pytest.mark.parametrize(
    "source",
    [
        "importlib.import_module('torch.nn')",
        "__import__('torch')",
        "importlib.util.find_spec('torch')",
        "pkgutil.resolve_name('torch.nn:Module')",
        "sys.modules.get('torch')",
        "sys.modules['torch.nn']",
        "'torch' in sys.modules",
    ],
)
def test_an_import_of_others_by_name_is_seen(tmp_path: Path, source: str) -> None:
    package = planted(tmp_path, low=f"def f():\n    return {source}\n")
    assert {i.module for i in package.outside} == {"torch"}
    assert package.computed == []


def test_the_package_itself_loaded_by_name_is_an_import_of_it(tmp_path: Path) -> None:
    assert arrows(
        planted(tmp_path, low="def f(load):\n    return importlib.import_module('planted').room\n"), "low"
    ) == {"planted"}


def test_a_method_called_as_a_loader_is_none(tmp_path: Path) -> None:
    assert planted(tmp_path, low="def f(model):\n    model.eval(), model.modules()\n").computed == []


@pytest.mark.parametrize("text", ["planted.middle.VALUE", "planted.middle:VALUE", "planted.middle"])
def test_a_text_that_leads_into_a_module_is_an_import(tmp_path: Path, text: str) -> None:
    assert arrows(planted(tmp_path, low=f"LATE = {{'value': {text!r}}}\n"), "low") == {"planted.middle"}


def test_a_text_that_only_speaks_of_a_module_is_no_import(tmp_path: Path) -> None:
    assert (
        arrows(planted(tmp_path, low="HELP = 'planted.middle has more', 'planted', 'planted.middle/'\n"), "low")
        == set()
    )


def test_what_is_read_from_an_imported_module_leads_to_where_it_is_from(tmp_path: Path) -> None:
    high = "def f():\n    from planted import passing as p\n    return p.low.VALUE, p.RENAMED, p.OWN\n"
    passing = "from planted import low\nfrom planted.middle import VALUE as RENAMED\nOWN = 1\n"
    package = planted(tmp_path, passing=passing, room__high=high)
    assert arrows(package, "room.high") == {"planted.passing", "planted.low", "planted.middle"}


def test_a_file_reached_by_its_folder_is_an_import_of_the_file(tmp_path: Path) -> None:
    package = planted(tmp_path, low="def f():\n    from planted import room\n    return room.high\n")
    assert arrows(package, "low") == {"planted.room", "planted.room.high"}


def test_a_star_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"planted/low\.py:1: a star"):
        _ = planted(tmp_path, low="from planted.middle import *\n").inside


def test_a_name_that_a_module_only_passes_on_is_told_from_its_own(tmp_path: Path) -> None:
    package = planted(tmp_path)
    assert package.defines("planted.low", "VALUE")
    assert not package.defines("planted.middle", "VALUE")


@pytest.mark.parametrize(
    "source",
    ["OTHER = VALUE", "OTHER = low.VALUE", "OTHER: int = VALUE", "def __getattr__(name):\n    return low.VALUE"],
)
def test_another_name_for_what_was_imported_is_not_its_own(tmp_path: Path, source: str) -> None:
    imports = "from planted import low\nfrom planted.low import VALUE\n"
    assert not planted(tmp_path, middle=f"{imports}{source}\n").defines("planted.middle", "OTHER")


@pytest.mark.parametrize(
    "source",
    ["OWN = VALUE + 1", "OWN = [VALUE]", "try:\n    OWN = 1\nexcept ValueError:\n    pass", "class OWN:\n    pass"],
)
def test_what_is_made_of_what_was_imported_is_its_own(tmp_path: Path, source: str) -> None:
    imports = "from planted.low import VALUE\n"
    assert planted(tmp_path, middle=f"{imports}{source}\n").defines("planted.middle", "OWN")


def test_a_name_that_is_passed_on_comes_from_where_it_was_made(tmp_path: Path) -> None:
    package = planted(tmp_path, room____init__="from planted.middle import VALUE\nfrom planted import low\n")
    assert package.origin("planted.room", "VALUE") == "planted.low"
    assert package.origin("planted.room", "low") == "planted.low"


def test_other_peoples_packages_are_named_by_their_first_name(tmp_path: Path) -> None:
    package = planted(tmp_path, low="import numpy.linalg\nfrom torch.utils import data\nimport json\n")
    assert {i.module for i in package.outside} == {"numpy", "torch"}


def test_what_runs_at_import_is_told_from_what_runs_when_called(tmp_path: Path) -> None:
    package = planted(tmp_path, low="import numpy\ndef f():\n    import torch\n")
    assert {i.module: i.when_called for i in package.outside} == {"numpy": False, "torch": True}


GRAPH = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"f2"}, "f2": {"f"}}


def test_every_circle_is_found_and_walked() -> None:
    assert circles(GRAPH) == [["a", "b", "c", "a"], ["f", "f2", "f"]]


def test_a_graph_without_a_circle_has_none() -> None:
    assert circles({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []


def test_what_is_reached_is_reached_over_any_number_of_steps() -> None:
    assert reached(GRAPH, "d") == {"e"}
    assert reached(GRAPH, "a") == {"a", "b", "c", "d", "e"}
    assert way(GRAPH, "a", "e") == "a -> b -> c -> d -> e"
    assert way(GRAPH, "e", "a") == ""
