"""The reader of imports sees what is planted: each fault in a small package of its own."""

from pathlib import Path

import pytest

from tests.imports import Package, circles, reached, way

CLEAN = {
    "__init__": "",
    "low": "import os\nVALUE = 1\n",
    "middle": "from planted.low import VALUE\n",
    "room.__init__": "",
    "room.high": "from planted import low\nfrom planted.middle import VALUE as RENAMED\n",
}


def planted(folder: Path, **changed: str) -> Package:
    """The clean package with some modules changed or added; two underscores for a dot."""
    for module, source in (CLEAN | {name.replace("__", "."): text for name, text in changed.items()}).items():
        file = folder / "planted" / Path(*module.replace(".__init.", ".__init__").split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return Package(folder / "planted")


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


@pytest.mark.parametrize("name", ["f'planted.{x}'", "'planted.' + x"])
def test_an_import_by_a_name_that_is_computed_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AssertionError, match="a name that is computed"):
        _ = planted(tmp_path, low=f"import importlib\ndef f(x):\n    return importlib.import_module({name})\n").inside


def test_a_name_that_a_module_only_passes_on_is_told_from_its_own(tmp_path: Path) -> None:
    package = planted(tmp_path)
    assert package.defines("planted.low", "VALUE")
    assert not package.defines("planted.middle", "VALUE")


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
