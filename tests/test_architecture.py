"""The architecture: which part may import which, what no import may load, and what every part owes its reader.

The tables below are the layout of the package as a rule, and they are exact: a permission that nobody uses fails as an
import without permission does. A new line in them is a decision; make it on purpose. `tests/imports.py` reads the sources;
`tests/test_imports.py` plants faults and sees them found.
"""

import ast
import importlib
import inspect
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

import adaptive_sampler
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
    "seeds": {"errors"},
    "arrays": {"errors"},
    "disk": set(),
    "progress": set(),
    # what one observation says of a sample, and how scores become a plan
    "kernels": {"errors"},
    "scoring": {"arrays", "errors", "kernels"},
    "plan": {"disk", "errors", "kernels"},
    "selection": {"arrays", "checks", "disk", "errors", "kernels", "plan", "seeds"},
    # the scores while a process holds them, the versions that last, and the two together
    "memory": {"arrays", "checks", "disk", "errors", "kernels", "plan", "scoring"},
    "storage": {"checks", "disk", "errors", "memory", "plan", "scoring"},
    "export": {"disk", "errors", "plan"},
    "session": {"checks", "errors", "memory", "plan", "scoring", "storage"},
    "store": {"arrays", "errors", "export", "plan", "scoring", "session", "storage"},
    # the walk over a plan
    "walk": {"checks", "errors", "kernels", "plan", "seeds", "selection", "store"},
    "sampler": {"arrays", "checks", "errors", "plan", "selection", "store", "walk"},
    # shards
    "shards.errors": {"errors"},
    "shards.sources": {"errors", "shards.errors"},
    "shards.indexing": {"disk", "errors", "kernels", "progress", "shards.errors", "shards.sources"},
    "shards.reading": {"errors", "kernels", "plan", "seeds", "shards.errors", "shards.indexing", "shards.sources"},
    "shards/": {"shards.errors", "shards.indexing", "shards.reading", "shards.sources"},
    # for users
    "testing": {"arrays", "errors", "plan", "scoring", "selection", "storage", "store"},
    "report": {"errors", "plan", "store"},
    "/": {"plan", "sampler", "scoring", "selection", "shards/", "store"},
    # the adapters: nothing of the core knows them
    "torch.ranks": {"checks", "disk", "errors", "memory", "plan", "sampler", "scoring", "store", "walk"},
    "torch.data": {"arrays", "errors", "sampler", "selection", "store", "torch.ranks", "walk"},
    "torch.hook": {"arrays", "errors", "sampler", "scoring", "store", "torch.data"},
    "torch.gradients": {"checks", "disk", "errors", "progress", "store", "torch.data", "torch.hook"},
    "torch": {"errors", "progress", "sampler", "store", "torch.data", "torch.hook", "torch.ranks", "walk"},
    "torch/": {"torch", "torch.data", "torch.gradients", "torch.hook", "torch.ranks"},
    "webdataset": {"errors", "sampler", "shards.errors", "shards.indexing", "shards.reading", "shards.sources"},
    # the roof
    "commands.bench": {"errors", "kernels", "sampler", "scoring", "selection", "store", "torch/"},
    "commands.demo": {"/", "errors", "report", "scoring", "selection", "torch", "torch/"},
    "commands": {"commands.bench", "commands.demo", "errors", "report", "store"},
    "__main__": {"commands"},
}

# What may never be, whatever the table says. Part -> parts that no walk over imports leads to.
NEVER_REACHED: dict[str, set[str]] = {
    "kernels": {"memory", "storage", "store"},
    "plan": {"storage", "store"},
    "selection": {"storage", "store"},
    "export": {"storage", "store"},
    "memory": {"storage", "session", "store"},
    "shards.sources": {"shards.indexing", "shards.reading"},
    "shards.indexing": {"shards.reading"},
    "torch.ranks": {"torch.data", "torch.hook", "torch.gradients", "torch"},
    "torch.data": {"torch.hook", "torch.gradients", "torch"},
    "torch.hook": {"torch.gradients", "torch"},
    "torch": {"torch.gradients"},
}
# Part -> parts that it may not import itself, though what it imports may.
NEVER_IMPORTED: dict[str, set[str]] = {
    **{part: {"storage"} for part in ("torch", "torch.data", "torch.gradients", "torch.hook", "torch.ranks")},
    "webdataset": {"storage"},
    "walk": {"storage"},
    "sampler": {"storage"},
    "report": {"storage"},
}
FRAMEWORKS = {"torch", "webdataset"}  # the adapters' folders are called as what they adapt
ROOF = {"commands", "commands.bench", "commands.demo", "__main__"}

# Whoever else's package an import names -> the parts that name it. Everybody may name NumPy.
OTHERS: dict[str, set[str]] = {
    "array_api_compat": {"arrays", "scoring"},
    "braceexpand": {"shards.indexing"},
    "fsspec": {"shards.sources"},
    "google_crc32c": {"disk"},
    "matplotlib": {"commands.bench", "commands.demo", "report"},
    "numba": {"kernels"},
    "rich": {"commands", "commands.bench", "commands.demo", "progress"},
    "scipy": {"commands.demo"},
    "sklearn": {"commands.demo"},
    "torch": {
        "commands",
        "commands.bench",
        "commands.demo",
        "torch",
        "torch.data",
        "torch.gradients",
        "torch.hook",
        "torch.ranks",
        "torch/",
        "webdataset",
    },
    "typer": {"commands"},
    "webdataset": {"webdataset"},
    "zarr": {"shards.indexing", "storage"},
    **{framework: {"torch"} for framework in ("accelerate", "lightning", "transformers")},
    **{
        contestant: {"commands.bench"}
        for contestant in ("catalyst", "grain", "infobatch", "lhotse", "spdl", "torchdata", "torchsampler")
    },
}

# The same class name twice is one too many, but for what is public in two modules under one name.
NAMED_TWICE = {"AdaptiveSampler", "SamplerCallback"}


def part_of(module: str) -> str:
    """The part that a module of the package belongs to."""
    inner = module.removeprefix(PACKAGE.name).removeprefix(".")
    if f"{inner}/" in PARTS and PACKAGE.files[module].name == "__init__.py":
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


def said(pairs: list[tuple[str, str]]) -> str:
    """Where the imports stand that lead from one part to another."""
    return "\n".join(str(one) for pair in pairs for one in CROSSINGS[pair])


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
    assert circles(FILE_GRAPH) == []


def test_no_circle_of_parts() -> None:
    found = circles(PART_GRAPH)
    assert not found, "\n".join(said(list(pairwise(circle))) for circle in found)


@pytest.mark.parametrize("part", NEVER_REACHED)
def test_what_no_part_may_come_to(part: str) -> None:
    wrong = reached(PART_GRAPH, part) & NEVER_REACHED[part]
    assert not wrong, "\n".join(way(PART_GRAPH, part, other) for other in sorted(wrong))


@pytest.mark.parametrize("part", NEVER_IMPORTED)
def test_what_no_part_may_import(part: str) -> None:
    wrong = PART_GRAPH[part] & NEVER_IMPORTED[part]
    assert not wrong, said([(part, other) for other in sorted(wrong)])


def test_nothing_but_the_roof_imports_the_roof() -> None:
    wrong = [(a, b) for a, b in CROSSINGS if b in ROOF and a not in ROOF]
    assert not wrong, said(wrong)


def test_the_core_knows_no_adapter() -> None:
    adapters = {part for part in PARTS if part.rstrip("/").split(".")[0] in FRAMEWORKS}
    wrong = [(a, b) for a, b in CROSSINGS if b in adapters and a not in adapters | ROOF]
    assert not wrong, said(wrong)


def test_a_name_is_imported_from_the_file_that_defines_it() -> None:
    """So that an arrow that is drawn is the one that there is. Doors are there to be imported from, by the roof and users."""
    wrong = [
        one
        for one in PACKAGE.inside
        if one.name and PACKAGE.files[one.module].name != "__init__.py" and not PACKAGE.defines(one.module, one.name)
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_modules_are_imported_by_from() -> None:
    """`import adaptive_sampler` and then `adaptive_sampler.torch.hook.hook` would be an import that nobody sees."""
    wrong = [i for i in PACKAGE.imports if i.module.split(".")[0] == PACKAGE.name and not i.name and not i.when_called]
    assert not wrong, "\n".join(map(str, wrong))


# -- other people's packages --------------------------------------------------------------------------------------------

NAMED = {other: {part_of(i.importer) for i in PACKAGE.outside if i.module == other} for other in OTHERS}


def test_a_package_is_named_only_where_the_table_says() -> None:
    wrong = [i for i in PACKAGE.outside if i.module != "numpy" and part_of(i.importer) not in OTHERS.get(i.module, ())]
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("other", OTHERS)
def test_a_package_is_named_wherever_the_table_says(other: str) -> None:
    assert OTHERS[other] - NAMED[other] == set()


def test_the_core_imports_no_framework_before_it_is_called() -> None:
    adapters = {part for part in PARTS if part.rstrip("/").split(".")[0] in FRAMEWORKS}
    wrong = [i for i in PACKAGE.outside if i.module in FRAMEWORKS and not i.when_called]
    wrong = [i for i in wrong if part_of(i.importer) not in adapters | ROOF]
    assert not wrong, "\n".join(map(str, wrong))


# -- kernels, wherever they lie -----------------------------------------------------------------------------------------


def kernels_of(module: str) -> list[ast.FunctionDef]:
    """The functions of a module that Numba compiles."""
    functions = [node for node in ast.walk(PACKAGE.trees[module]) if isinstance(node, ast.FunctionDef)]
    return [f for f in functions if any(_compiles(ast.unparse(decorator)) for decorator in f.decorator_list)]


def _compiles(decorator: str) -> bool:
    name = decorator.partition("(")[0].rpartition(".")[2]
    return "kernel" in name or name in {"njit", "jit", "vectorize", "guvectorize", "stencil", "cfunc", "intrinsic"}


KERNELS = [module for module in PACKAGE.files if kernels_of(module)]


def test_there_are_kernels_to_look_at() -> None:
    assert {part_of(module) for module in KERNELS} >= {"kernels", "commands.bench"}


@pytest.mark.parametrize("module", KERNELS)
def test_a_kernel_calls_only_kernels_of_its_file_or_of_the_kernels_folder(module: str) -> None:
    """The stamp of Numba's cache is made of these: it would not notice that another callee has changed."""
    foreign = {
        i.name or i.module.rpartition(".")[2]
        for i in PACKAGE.inside
        if i.importer == module and part_of(i.module) not in ("kernels", "errors")
    }
    for kernel in kernels_of(module):
        used = {name.id for name in ast.walk(kernel) if isinstance(name, ast.Name)}
        assert used.isdisjoint(foreign), f"{module}: {kernel.name} uses {sorted(used & foreign)}"


@pytest.mark.parametrize("module", PACKAGE.files)
def test_numba_is_told_how_to_compile_in_one_place(module: str) -> None:
    """And never to compile for several threads: a parallel kernel that ran before a fork ends the forked worker."""
    decorated = [ast.unparse(d) for f in kernels_of(module) for d in f.decorator_list]
    allowed = {"kernel", "inlined_kernel", "intrinsic"}
    assert {d.partition("(")[0] for d in decorated if _compiles(d)} <= allowed, f"{module}: {decorated}"
    words = {k.arg for node in ast.walk(PACKAGE.trees[module]) if isinstance(node, ast.Call) for k in node.keywords}
    assert "parallel" not in words, f"{module} passes parallel="


# -- one of each --------------------------------------------------------------------------------------------------------


def test_no_class_name_comes_twice() -> None:
    where = defaultdict(list)
    for module, tree in PACKAGE.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(module)
    twice = {name: modules for name, modules in where.items() if len(modules) > 1}
    assert set(twice) == NAMED_TWICE, twice


def test_the_clock_of_a_store_is_written_in_one_room() -> None:
    """`memory/clock.py` has the fields; whoever counts epochs or batches calls its methods."""
    for module, tree in PACKAGE.trees.items():
        for node in ast.walk(tree):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            written = [ast.unparse(t) for t in targets if isinstance(t, ast.Attribute) and isinstance(node, ast.stmt)]
            wrong = [
                w
                for w in written
                if w.split(".")[-1] in ("_epoch", "_delivered", "epoch", "delivered") and "clock" in w
            ]
            wrong += [w for w in written if w.endswith(("store.epoch", "store.delivered"))]
            assert not wrong or part_of(module) == "memory", f"{module}:{node.lineno}: {wrong}"


# -- what no import may load --------------------------------------------------------------------------------------------

# Numba itself loads scipy where that is installed.
NOT_AT_IMPORT = {
    "torch",
    "numba",
    "zarr",
    "webdataset",
    "matplotlib",
    "rich",
    "typer",
    "sklearn",
    "jax",
    "fsspec",
    "pandas",
}


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, adaptive_sampler; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert NOT_AT_IMPORT.isdisjoint(loaded.split())


def test_the_core_works_where_no_framework_is_installed() -> None:
    code = """
import sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ("torch", "webdataset", "jax", "matplotlib", "rich", "typer", "sklearn"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent)
import numpy as np
from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import EL2N
from adaptive_sampler.selection import Prune
with ScoreStore.create(None, 10, [EL2N()]) as store:
    sampler = AdaptiveSampler(store, Prune(0.5, "el2n"))
    store.update(np.arange(10), logits=np.eye(10), labels=np.arange(10)[::-1])
    store.commit()
    assert len(list(sampler)) == len(sampler) == 5
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["torch", "webdataset"])
def test_an_adapter_names_the_extra_that_it_needs(name: str) -> None:
    code = f"import sys; sys.modules['torch'] = sys.modules[{name!r}] = None; import adaptive_sampler.{name}"
    stderr = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert f'pip install "adaptive-sampler[{name}]"' in stderr.splitlines()[-1]


# -- what a module owes its reader ---------------------------------------------------------------------------------------


def imported(module: str) -> ModuleType:
    """The module, or a skip where what it adapts is not installed."""
    for framework in ("torch", "webdataset"):
        if module.startswith(f"adaptive_sampler.{framework}"):
            pytest.importorskip(framework)
    if "demo" in module:
        pytest.importorskip("sklearn")
    if module.endswith(("commands.app", ".report", "bench.figures")):
        pytest.importorskip("typer")
        pytest.importorskip("matplotlib")
    return importlib.import_module(module)


@pytest.mark.parametrize("module", [module for module in PACKAGE.files if not module.endswith("__main__")])
def test_a_module_says_what_it_is_for(module: str) -> None:
    assert (imported(module).__doc__ or "").strip()


def public_modules() -> list[str]:
    return [module for module, file in PACKAGE.files.items() if "__all__" in file.read_text()]


@pytest.mark.parametrize("module", public_modules())
def test_all_is_exact_sorted_and_documented(module: str) -> None:
    it = imported(module)
    names: list[str] = it.__all__
    assert names == sorted(set(names), key=lambda name: (not name.isupper(), name[0].islower(), name))
    if it.__file__ and it.__file__.endswith("__init__.py"):
        assert set(names) == set(_bound(it)), "__all__ names what the package binds, and nothing else"
    for name in names:
        thing = getattr(it, name)
        documented = thing.__doc__ if isinstance(thing, ModuleType) else _own_doc(thing)
        assert documented, f"{module}.{name} has no docstring"


@pytest.mark.parametrize("module", ["adaptive_sampler", "adaptive_sampler.torch"])
def test_a_public_method_is_documented(module: str) -> None:
    it = imported(module)
    for name in it.__all__:
        for method, value in vars(getattr(it, name)).items() if inspect.isclass(getattr(it, name)) else ():
            plain = getattr(value, "__func__", getattr(value, "fget", value))
            if not method.startswith("_") and inspect.isfunction(plain):
                assert plain.__doc__, f"{module}.{name}.{method} has no docstring"


@pytest.mark.parametrize("module", PACKAGE.files)
def test_a_file_can_be_read_at_one_sitting(module: str) -> None:
    assert len(PACKAGE.files[module].read_text().splitlines()) <= LONGEST_FILE
    for node in ast.walk(PACKAGE.trees[module]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or (node.end_lineno or 0) - body[0].lineno < LONGEST_FUNCTION, node.name


def _bound(package: ModuleType) -> Iterator[str]:
    """The public names that an __init__ binds by its imports and definitions, those too that it imports when asked."""
    body = PACKAGE.trees[package.__name__].body
    for node in (*body, *(late for choice in body if isinstance(choice, ast.If) for late in choice.body)):
        if isinstance(node, ast.ImportFrom):
            yield from (a.asname or a.name for a in node.names if not (a.asname or a.name).startswith("_"))
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name


def _own_doc(thing: object) -> str | None:
    """A docstring somebody wrote: not the signature that a dataclass makes up, nor one inherited."""
    if not inspect.isclass(thing):
        return thing.__doc__
    doc = vars(thing).get("__doc__")
    return None if doc and doc.startswith(f"{thing.__name__}(") else doc
