"""The architecture: which part may import which, what no import may load, and what every part owes its reader.

The tables below are the layout of the package as a rule, and they are exact: a permission that nobody uses fails as an
import without permission does. A new line in them is a decision; make it on purpose. `tests/imports.py` reads the imports
of the sources, `tests/rules.py` finds what breaks another rule; `tests/test_imports.py` and `tests/test_rules.py` plant
faults and see them found.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

import adaptive_sampler
from tests import rules
from tests.imports import Import, Package, circles, reached, way

ROOT = Path(adaptive_sampler.__file__).parent
PACKAGE = Package(ROOT)
LONGEST_FILE, LONGEST_FUNCTION = 300, 45  # lines

# A part is a folder or a file of the package; the longest name that fits a module is its part. A door is the __init__ of
# a folder whose rooms are parts of their own: it shows users what is behind it, and is written with a slash.
# Part -> the other parts that it imports. Whatever a part imports it imports from where it is defined.
PARTS: dict[str, set[str]] = {
    # the ground: facts that everybody may know
    "errors": set(),
    "checks": {"errors"},
    "arrays": {"errors"},
    "disk": set(),
    "markup": set(),
    "progress": set(),
    "version": set(),
    # what is not on a local disk
    "remote": {"errors"},
    # what one observation says of a sample, and how scores become a plan
    "kernels": {"errors"},
    "seeds": {"checks", "errors", "kernels"},
    "scoring": {"arrays", "errors", "kernels"},
    "plan": {"arrays", "checks", "disk", "errors", "kernels", "markup"},
    "selection": {"arrays", "checks", "disk", "errors", "kernels", "plan", "seeds"},
    # the scores while a process holds them, the versions that last, and the two together
    "memory": {"arrays", "checks", "disk", "errors", "kernels", "plan", "scoring"},
    "storage": {"checks", "disk", "errors", "memory", "plan", "remote", "scoring", "version"},
    "tables": {
        *("arrays", "checks", "disk", "errors", "kernels", "memory", "plan", "scoring", "seeds"),
        *("selection", "version"),
    },
    "making": {"errors", "memory", "session", "storage", "tables"},
    "commits": {"checks", "errors", "memory", "plan", "storage"},
    "session": {"checks", "commits", "errors", "memory", "plan", "scoring", "storage"},
    "committing": {"commits", "plan", "session", "storage"},
    "store": {
        "arrays",
        "committing",
        "kernels",
        "making",
        "markup",
        "memory",
        "scoring",
        "session",
        "storage",
        "tables",
    },
    # the walk over a plan
    "walk": {"checks", "errors", "kernels", "markup", "plan", "seeds", "selection", "store"},
    "sampler": {"arrays", "checks", "errors", "plan", "selection", "store", "walk"},
    # shards
    "shards.errors": {"errors"},
    "shards.sources": {"errors", "remote", "shards.errors"},
    "shards.indexing": {
        "checks",
        "disk",
        "errors",
        "kernels",
        "progress",
        "scoring",
        "shards.errors",
        "shards.sources",
        "storage",
    },
    "shards.reading": {
        "checks",
        "errors",
        "kernels",
        "plan",
        "seeds",
        "shards.errors",
        "shards.indexing",
        "shards.sources",
    },
    "shards/": {"shards.errors", "shards.indexing", "shards.reading", "shards.sources"},
    # for users
    "choice": {"checks", "disk", "errors", "progress", "ranking", "selection", "store"},
    "ranking": {"arrays", "checks", "errors", "kernels", "selection", "store"},
    "loggers": {"arrays", "checks", "errors", "plan", "store"},
    "report": {
        *("arrays", "choice", "disk", "errors", "kernels", "plan"),
        *("ranking", "seeds", "selection", "store", "version"),
    },
    "/": {"plan", "sampler", "scoring", "selection", "shards/", "store", "version"},
    # the adapters: nothing of the core knows them
    "torch.ranks": {"checks", "disk", "errors", "memory", "plan", "sampler", "scoring", "store", "walk"},
    "torch.data": {"arrays", "errors", "sampler", "selection", "store", "torch.ranks", "walk"},
    "torch.hook": {"arrays", "checks", "errors", "sampler", "scoring", "seeds", "selection", "store", "torch.data"},
    "torch.tokens": {"arrays", "errors", "sampler", "scoring", "store", "torch.data", "torch.hook"},
    "torch.teacher": {"checks", "disk", "errors", "seeds"},
    "torch.gradients": {"checks", "disk", "errors", "progress", "store", "torch.data", "torch.hook"},
    "torch": {
        "arrays",
        "errors",
        "loggers",
        "progress",
        "sampler",
        "store",
        "torch.data",
        "torch.hook",
        "torch.ranks",
        "walk",
    },
    "torch.transformers": {
        *("errors", "loggers", "sampler", "scoring", "store"),
        *("torch", "torch.data", "torch.hook", "torch.ranks", "torch.tokens"),
    },
    "torch/": {"torch", "torch.data", "torch.gradients", "torch.hook", "torch.ranks", "torch.teacher", "torch.tokens"},
    "webdataset": {
        "checks",
        "errors",
        "sampler",
        "shards.errors",
        "shards.indexing",
        "shards.reading",
        "shards.sources",
        "tables",
        "torch.ranks",
    },
    # contracts: what is new is checked against them, a whole training among it
    "testing": {
        *("arrays", "disk", "errors", "plan", "scoring", "selection", "storage", "store"),
        *("torch.data", "torch.hook", "torch.ranks"),
    },
    # the roof
    "commands.bench": {"errors", "kernels", "sampler", "scoring", "selection", "store", "torch/"},
    "commands.demo": {"/", "errors", "report", "scoring", "selection", "torch", "torch/"},
    "commands": {
        "commands.bench",
        "commands.demo",
        "errors",
        "kernels",
        "progress",
        "ranking",
        "report",
        "sampler",
        "scoring",
        "selection",
        "shards.errors",
        "shards/",
        "store",
        "tables",
        "version",
    },
    "__main__": {"commands"},
}

# What may never be, whatever the table says. Part -> parts that no walk over imports leads to.
NEVER_REACHED: dict[str, set[str]] = {
    "kernels": {"memory", "storage", "store"},
    "plan": {"storage", "store"},
    "selection": {"storage", "store"},
    "tables": {"storage", "session", "store"},
    "memory": {"storage", "session", "store"},
    "shards.sources": {"shards.indexing", "shards.reading"},
    "shards.indexing": {"shards.reading"},
    "torch.ranks": {"torch.data", "torch.hook", "torch.tokens", "torch.gradients", "torch"},
    "torch.data": {"torch.hook", "torch.tokens", "torch.gradients", "torch"},
    "torch.hook": {"torch.tokens", "torch.gradients", "torch"},
    "torch.tokens": {"torch.gradients", "torch"},
    "torch": {"torch.gradients"},
}
FRAMEWORKS = {"torch", "webdataset"}  # the adapters' folders are called as what they adapt
ADAPTERS = {part for part in PARTS if re.split(r"[./]", part)[0] in FRAMEWORKS}
ROOF = {part for part in PARTS if re.split(r"[./]", part)[0] in {"commands", "__main__"}}
# Part -> parts that it may not import itself, though what it imports may.
NEVER_IMPORTED = {part: {"storage"} for part in sorted(ADAPTERS | {"walk", "sampler", "report"})}

# The parts that load a module by a name that is not written out: of Numba's, of a user's, of whichever contestant is meant,
# and all of obstore's anew after a fork.
BY_COMPUTED_NAME = {"commands", "commands.bench", "kernels", "remote"}

# Whoever else's package an import names -> the parts that name it. Everybody may name NumPy.
OTHERS: dict[str, set[str]] = {
    "PIL": {"report"},
    "altair": {"report"},
    "array_api_compat": {"arrays", "scoring"},
    "faiss": {"selection"},  # neighbours for `Spread`, imported when it plans
    "braceexpand": {"shards.indexing"},
    "google_crc32c": {"disk"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "matplotlib": {"commands.bench", "commands.demo", "report"},
    "mlflow": {"loggers", "torch.transformers"},
    "numba": {"kernels"},
    "obstore": {"remote"},
    "platformdirs": {"report"},
    "pyarrow": {"commands", "tables"},
    "pandas": {"tables"},
    "ray": {"tables"},
    "rich": {"commands", "commands.bench", "commands.demo", "progress"},
    "scipy": {"commands.demo"},
    "sklearn": {"commands.demo"},
    "torch": {
        "commands",
        "commands.bench",
        "commands.demo",
        "testing",
        "torch",
        "torch.data",
        "torch.gradients",
        "torch.hook",
        "torch.ranks",
        "torch.teacher",
        "torch.tokens",
        "torch.transformers",
        "torch/",
        "webdataset",
    },
    "typer": {"commands"},
    "vl_convert": {"report"},
    "wandb": {"loggers", "torch.transformers"},
    "webdataset": {"webdataset"},
    "zarr": {"storage"},
    **{framework: {"torch"} for framework in ("accelerate", "lightning")},
    **{framework: {"torch.transformers"} for framework in ("datasets", "transformers", "trl")},
    **{
        contestant: {"commands.bench"}
        for contestant in ("catalyst", "grain", "infobatch", "lhotse", "spdl", "torchdata", "torchsampler")
    },
}

# The same class name twice is one too many, but for what is public in two modules under one name.
NAMED_TWICE = {"adaptivesampler": 2, "samplercallback": 2}

# Private names that files share: LossHook's one attribute beside the criterion's, and torch's.
SHARED_PRIVATE = {"_adaptive_sampler", "_parameters"}


def part_of(module: str) -> str:
    """The part that a module of the package belongs to."""
    inner = module.removeprefix(PACKAGE.name).removeprefix(".")
    if f"{inner}/" in PARTS and PACKAGE.is_door(module):
        return f"{inner}/"
    names = inner.split(".")
    for length in range(len(names), 0, -1):
        if (part := ".".join(names[:length])) in PARTS:
            return part
    raise AssertionError(f"{module} belongs to no part: give it a line in the table.")


def crossings() -> dict[tuple[str, str], list[Import]]:
    """(part, part that it imports) -> the imports that do it."""
    found = defaultdict(list)
    for one in PACKAGE.inside:
        pair = part_of(one.importer), part_of(one.module)
        if pair[0] != pair[1]:
            found[pair].append(one)
    return found


CROSSINGS = crossings()
PART_GRAPH = {part: {b for a, b in CROSSINGS if a == part} for part in PARTS}
FILE_GRAPH = {m: {i.module for i in PACKAGE.inside if i.importer == m} - {m} for m in PACKAGE.files}
part = pytest.mark.parametrize("part", PARTS)


def said(pairs: Iterable[tuple[str, str]]) -> str:
    """Where the imports stand that lead from one part to another, or from one file to another."""
    files = {pair: [i for i in PACKAGE.inside if (i.importer, i.module) == pair] for pair in pairs}
    return "\n".join(str(one) for pair, imports in files.items() for one in imports or CROSSINGS[pair])


# -- who imports whom ---------------------------------------------------------------------------------------------------


@part
def test_a_part_imports_no_part_without_permission(part: str) -> None:
    surplus = PART_GRAPH[part] - PARTS[part]
    assert not surplus, said([(part, other) for other in sorted(surplus)])


@part
def test_a_part_has_no_permission_that_nobody_uses(part: str) -> None:
    unused = PARTS[part] - PART_GRAPH[part]
    assert not unused, f"{part} does not import {sorted(unused)}: take that out of the table."


def test_every_line_of_the_table_is_a_part_that_there_is() -> None:
    assert {part_of(module) for module in PACKAGE.files} == set(PARTS)


def test_no_circle_of_files() -> None:
    found = circles(FILE_GRAPH)
    assert not found, "\n\n".join(said(pairwise(circle)) for circle in found)


def test_no_circle_of_parts() -> None:
    found = circles(PART_GRAPH)
    assert not found, "\n\n".join(said(pairwise(circle)) for circle in found)


@pytest.mark.parametrize("part", NEVER_REACHED)
def test_what_no_part_may_come_to(part: str) -> None:
    wrong = reached(PART_GRAPH, part) & NEVER_REACHED[part]
    ways = [way(PART_GRAPH, part, other) for other in sorted(wrong)]
    assert not wrong, "\n\n".join(f"{found}\n{said(pairwise(found.split(' -> ')))}" for found in ways)


@pytest.mark.parametrize("part", NEVER_IMPORTED)
def test_what_no_part_may_import(part: str) -> None:
    wrong = PART_GRAPH[part] & NEVER_IMPORTED[part]
    assert not wrong, said([(part, other) for other in sorted(wrong)])


def test_nothing_but_the_roof_imports_the_roof() -> None:
    wrong = [(a, b) for a, b in CROSSINGS if b in ROOF and a not in ROOF]
    assert not wrong, said(wrong)


def test_the_core_knows_no_adapter() -> None:
    wrong = [(a, b) for a, b in CROSSINGS if b in ADAPTERS and a not in ADAPTERS | ROOF | {"testing"}]
    assert not wrong, said(wrong)


def test_a_name_is_imported_from_the_file_that_defines_it() -> None:
    """So that an arrow that is drawn is the one that there is. Doors are there to be imported from, by the roof and users."""
    named = [one for one in PACKAGE.inside if one.name]
    wrong = [i for i in named if not PACKAGE.is_door(i.module) and not PACKAGE.defines(i.module, i.name)]
    assert not wrong, "\n".join(map(str, wrong))


def test_a_room_hands_out_only_what_is_its_own() -> None:
    """The __init__ of a folder that is a part is no way around the table to what lies in another part."""
    named = [i for i in PACKAGE.inside if i.name and PACKAGE.is_door(i.module) and not part_of(i.module).endswith("/")]
    wrong = [i for i in named if part_of(PACKAGE.origin(i.module, i.name)) != part_of(i.module)]
    assert not wrong, "\n".join(map(str, wrong))


def test_modules_are_imported_by_from() -> None:
    """`import adaptive_sampler` and then `adaptive_sampler.torch.hook.hook` would be an import that nobody sees."""
    wrong = [i for i in PACKAGE.imports if i.how == "import" and i.module.split(".")[0] == PACKAGE.name]
    assert not wrong, "\n".join(map(str, wrong))


def test_a_module_is_loaded_by_a_name_that_is_written_out() -> None:
    """An f-string, a name with a variable in it, a relative name and `exec` would be imports that nobody sees."""
    of_ours = [i for i in PACKAGE.computed if PACKAGE.name in i.module]
    wrong = of_ours + [i for i in PACKAGE.computed if part_of(i.importer) not in BY_COMPUTED_NAME]
    assert not wrong, "\n".join(map(str, wrong))
    assert {part_of(i.importer) for i in PACKAGE.computed} == BY_COMPUTED_NAME


def test_nobody_but_the_store_takes_what_is_in_storage_from_a_session() -> None:
    wrong = [w for m in PACKAGE.files if part_of(m) != "store" for w in rules.storage_through_a_session(PACKAGE, m)]
    assert not wrong, "\n".join(wrong)


def test_a_private_name_is_used_in_its_file() -> None:
    wrong = rules.private_names_of_others(PACKAGE, SHARED_PRIVATE)
    assert not wrong, "\n".join(wrong)


def test_imports_go_downwards_in_the_picture_of_the_rooms() -> None:
    """In `adaptive_sampler/README.md`. What shares a line may import from it; there the circles are the limit."""
    picture = (ROOT / "README.md").read_text().split("```")[1]
    line = {name: at for at, names in enumerate(map(drawn, picture.splitlines())) for name in names}
    short = {part: part.rstrip("/").rpartition(".")[2] for part in PARTS}
    assert set(short.values()) - {"", "__main__"} <= set(line), "the picture lacks a part"
    wrong = [(a, b) for a, b in CROSSINGS if line.get(short[a], 0) > line.get(short[b], 99)]
    assert not wrong, said(wrong)


def drawn(line: str) -> set[str]:
    """The rooms of a line of the picture, which have a slash, and its files, which stand before the words about them."""
    files = re.findall(r"\w+", line[16:65]) if line[:1].strip() else []
    return {*files, *re.findall(r"(\w+)/", line)}


def test_there_are_python_files_and_guides_only() -> None:
    """A stub, a notebook or a compiled file would import what it likes; a folder without __init__.py says of itself nothing.

    The page of a report is no file of Python: its template, style and script lie in one folder.
    """
    files = [file for file in ROOT.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    page = {ROOT / "report" / "template" / f"page.{kind}" for kind in ("html.jinja", "css", "js")}
    others = {f for f in files if f.suffix != ".py" and f.name not in ("README.md", "py.typed", ".DS_Store")}
    assert others == page
    assert {file.parent for file in files if not (file.parent / "__init__.py").exists()} == set()


# -- other people's packages --------------------------------------------------------------------------------------------

NAMED = {other: {part_of(i.importer) for i in PACKAGE.outside if i.module == other} for other in OTHERS}


def test_a_package_is_named_only_where_the_table_says() -> None:
    wrong = [i for i in PACKAGE.outside if i.module != "numpy" and part_of(i.importer) not in OTHERS.get(i.module, ())]
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("other", OTHERS)
def test_a_package_is_named_wherever_the_table_says(other: str) -> None:
    assert OTHERS[other] - NAMED[other] == set()


def test_the_core_imports_no_framework_before_it_is_called() -> None:
    wrong = [i for i in PACKAGE.outside if i.module in FRAMEWORKS and not i.when_called]
    wrong = [i for i in wrong if part_of(i.importer) not in ADAPTERS | ROOF]
    assert not wrong, "\n".join(map(str, wrong))


# -- kernels, wherever they lie -----------------------------------------------------------------------------------------


KERNELS = [module for module in PACKAGE.files if rules.kernels_of(PACKAGE, module)]


def test_there_are_kernels_to_look_at() -> None:
    assert {part_of(module) for module in KERNELS} >= {"kernels", "commands.bench"}


@pytest.mark.parametrize("module", KERNELS)
def test_a_kernel_calls_only_kernels_of_its_file_or_of_the_kernels_folder(module: str) -> None:
    """The stamp of Numba's cache is made of these: it would not notice that another callee has changed."""
    own = [i for i in PACKAGE.inside if i.importer == module and i.bound]
    foreign = {i.bound for i in own if part_of(i.module) not in ("kernels", "errors")}
    wrong = list(rules.foreign_callees(PACKAGE, module, foreign))
    assert not wrong, "\n".join(wrong)


def test_the_stamp_of_the_cache_reads_every_file_of_the_kernels() -> None:
    """It reads the folder's files, and not those of folders in it."""
    assert {file.parent for m, file in PACKAGE.files.items() if part_of(m) == "kernels"} == {ROOT / "kernels"}


@pytest.mark.parametrize("module", PACKAGE.files)
def test_numba_is_told_how_to_compile_in_one_place(module: str) -> None:
    """And never to compile for several threads: a parallel kernel that ran before a fork ends the forked worker."""
    places = {"adaptive_sampler.kernels.jit", "adaptive_sampler.kernels.private"}  # the other asks what Numba can do
    wrong = [] if module in places else rules.other_ways_to_compile(PACKAGE, module)
    wrong += rules.asks_for_threads(PACKAGE, module)
    assert not wrong, "\n".join(wrong)


# -- one of each --------------------------------------------------------------------------------------------------------


def test_no_class_name_comes_twice() -> None:
    """Nor in capitals where another has small letters, nor as what something else is called where it is imported."""
    twice = {name: where for name, where in rules.classes(PACKAGE).items() if len(where) > 1}
    wrong = {name: where for name, where in twice.items() if len(where) != NAMED_TWICE.get(name)}
    assert not wrong, "\n".join(line for where in wrong.values() for line in where)
    assert set(twice) == set(NAMED_TWICE)


@pytest.mark.parametrize("module", PACKAGE.files)
def test_the_clock_of_a_store_is_written_in_one_room(module: str) -> None:
    """`memory/clock.py` has the fields; whoever counts epochs or batches calls its methods."""
    wrong = [] if part_of(module) == "memory" else rules.clock_writes(PACKAGE, module)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", PACKAGE.files)
def test_a_store_gets_no_attribute_from_outside(module: str) -> None:
    wrong = [] if part_of(module) == "store" else rules.members_given_to_a_store(PACKAGE, module)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", PACKAGE.files)
def test_a_file_can_be_read_at_one_sitting(module: str) -> None:
    length = len(PACKAGE.files[module].read_text().splitlines())
    assert length <= LONGEST_FILE, f"{PACKAGE.files[module].relative_to(ROOT.parent)} has {length} lines"
    for node in ast.walk(PACKAGE.trees[module]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= LONGEST_FUNCTION, f"{rules.said(PACKAGE, module, node)} has {length} lines"
