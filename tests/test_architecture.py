"""The architecture: which part may import which, what no import may load, and what every part owes its reader.

The table below is the layout of the package as a rule. A new line in it is a decision; make it on purpose.
"""

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import adaptive_sampler

PACKAGE = Path(adaptive_sampler.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 340, 60  # lines

# A part is a top-level folder or file. Part -> the other parts of the package that it may import.
PARTS: dict[str, set[str]] = {
    "errors": set(),
    "seeds": {"errors"},
    "arrays": {"errors"},
    "kernels": {"errors"},
    "scoring": {"arrays", "errors", "kernels"},
    "plan": {"errors", "kernels", "storage"},
    "storage": {"arrays", "errors", "kernels", "plan", "scoring"},
    "selection": {"arrays", "errors", "kernels", "plan", "seeds", "storage"},
    "export": {"errors", "plan", "store"},
    "store": {"arrays", "errors", "export", "plan", "scoring", "storage"},
    "order": {"errors", "kernels"},
    "walk": {"errors"},
    "epochs": {"errors", "order", "plan", "seeds"},
    "planner": {"epochs", "errors", "plan", "selection", "store"},
    "resume": {"errors", "store"},
    "rows": {"epochs", "errors", "plan", "store"},
    "turn": {"epochs", "walk"},
    "sampler": {
        "arrays",
        "epochs",
        "errors",
        "plan",
        "planner",
        "resume",
        "rows",
        "selection",
        "store",
        "turn",
        "walk",
    },
    "shards": {"arrays", "errors", "kernels", "order", "plan", "seeds", "storage"},
    "testing": {"arrays", "errors", "plan", "sampler", "scoring", "selection", "storage", "store"},
    "report": {"errors", "plan", "store"},
    "bench": {"errors", "kernels", "sampler", "scoring", "selection", "store", "torch"},
    "cli": {"bench", "errors", "report", "store", "torch"},
    "__main__": {"cli"},
    "__init__": {"plan", "sampler", "scoring", "selection", "shards", "store"},
    # The adapters may use all of the core; nothing of the core may use them but the command line, inside a command.
    "torch": {
        "__init__",
        "arrays",
        "epochs",
        "errors",
        "plan",
        "planner",
        "report",
        "sampler",
        "scoring",
        "seeds",
        "selection",
        "storage",
        "store",
        "walk",
    },
    "webdataset": {"__init__", "errors", "plan", "sampler", "selection", "shards", "store", "torch"},
}

# Whoever else's package an import names -> the parts that may name it.
OTHERS: dict[str, set[str]] = {
    "array_api_compat": {"arrays", "scoring"},
    "braceexpand": {"shards"},
    "fsspec": {"shards"},
    "google_crc32c": {"storage"},
    "llvmlite": {"kernels"},  # comes with numba
    "matplotlib": {"bench", "report", "torch"},  # torch/demo draws
    "numba": {"kernels", "shards"},
    "numpy": set(PARTS),
    "rich": {"bench", "cli", "shards", "torch", "webdataset"},
    "scipy": {"torch"},  # torch/demo
    "sklearn": {"torch"},  # torch/demo
    "torch": {"bench", "cli", "torch", "webdataset"},
    "typer": {"cli"},
    "webdataset": {"webdataset"},
    "zarr": {"shards", "storage"},
    "accelerate": {"torch"},
    "composer": {"torch"},
    "lightning": {"torch"},
    "ray": {"torch"},
    **{name: {"bench"} for name in ("catalyst", "grain", "infobatch", "lhotse", "spdl", "torchdata", "torchsampler")},
    "transformers": {"torch"},
}

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


def name_of(file: Path) -> str:
    """The module's dotted name below the package; "" for the package itself."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def imports(node: ast.AST) -> Iterator[str]:
    """Every dotted name that is imported anywhere below `node`."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)


def at_top(file: Path) -> Iterator[str]:
    """What importing the module imports: not what a function imports when called, nor what only a type checker reads."""

    def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for statement in body:
            if isinstance(statement, ast.Try):
                yield from statements(statement.body)
            elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
                continue
            elif not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                yield statement

    for statement in statements(tree(file).body):
        yield from imports(statement)


def split(names: Iterator[str]) -> tuple[set[str], set[str]]:
    """-> (parts of the package, packages of others)."""
    ours, others = set(), set()
    for name in names:
        top, *rest = name.split(".")
        if top == "adaptive_sampler":
            ours.add(rest[0] if rest and rest[0] in PARTS else "__init__")
        elif top not in sys.stdlib_module_names:
            others.add(top)
    return ours, others


each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: name_of(file) or "adaptive_sampler")
modules = [f"adaptive_sampler.{name_of(file)}".rstrip(".") for file in FILES if part_of(file) not in ("__main__",)]


def imported(module: str) -> ModuleType:
    """The module, or a skip where what it adapts is not installed."""
    for framework in ("torch", "webdataset"):
        if module.startswith(f"adaptive_sampler.{framework}"):
            pytest.importorskip(framework)
    if "demo" in module:
        pytest.importorskip("sklearn")
    if module in (
        "adaptive_sampler.commands.app",
        "adaptive_sampler.report",
        "adaptive_sampler.commands.bench.figures",
    ):
        pytest.importorskip("typer")
        pytest.importorskip("matplotlib")
    return importlib.import_module(module)


@each_file
def test_a_part_imports_the_parts_that_the_table_allows(file: Path) -> None:
    part = part_of(file)
    ours, _ = split(imports(tree(file)))
    assert part in PARTS, f"{part} is new: give it a line in the table"
    assert ours <= PARTS[part] | {part}


@each_file
def test_a_part_imports_the_packages_that_the_table_allows(file: Path) -> None:
    _, others = split(imports(tree(file)))
    assert others <= set(OTHERS), "a package that no line of the table names"
    assert {other for other in others if part_of(file) not in OTHERS[other]} == set()


@each_file
def test_the_core_imports_no_adapter_before_a_command_asks_for_it(file: Path) -> None:
    if part_of(file) not in ("torch", "webdataset"):
        ours, others = split(at_top(file))
        assert ours.isdisjoint({"torch", "webdataset"})
        assert others.isdisjoint({"torch", "webdataset"})


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*kernels*/*.py")), ids=name_of)
def test_a_kernel_calls_no_kernel_of_another_file(file: Path) -> None:
    """Numba's cache does not notice when a callee in another file changes. What llvm.py has can only mean one thing."""
    foreign = set()
    for node in ast.walk(tree(file)):
        shared = (node.module or "").endswith((".jit", ".llvm")) if isinstance(node, ast.ImportFrom) else True
        if not shared and "kernels" in (node.module or ""):
            foreign |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef) and any("kernel" in ast.unparse(d) for d in node.decorator_list):
            used = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
            assert used.isdisjoint(foreign), f"{node.name} uses {used & foreign}"


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
    if not split(at_top(PACKAGE / name / "__init__.py"))[1]:
        pytest.skip(f"adaptive_sampler.{name} is empty yet")
    code = f"import sys; sys.modules['torch'] = sys.modules[{name!r}] = None; import adaptive_sampler.{name}"
    stderr = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert f'pip install "adaptive-sampler[{name}]"' in stderr.splitlines()[-1]


@pytest.mark.parametrize("module", modules)
def test_a_module_says_what_it_is_for(module: str) -> None:
    assert (imported(module).__doc__ or "").strip()


def public_modules() -> list[str]:
    return [
        m
        for m, file in ((f"adaptive_sampler.{name_of(f)}".rstrip("."), f) for f in FILES)
        if "__all__" in file.read_text()
    ]


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


@each_file
def test_a_file_can_be_read_at_one_sitting(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= LONGEST_FILE
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or (node.end_lineno or 0) - body[0].lineno < LONGEST_FUNCTION, node.name


def _bound(package: ModuleType) -> Iterator[str]:
    """The public names that an __init__ binds by its imports and definitions, those too that it imports when asked."""
    body = tree(Path(package.__file__ or "")).body
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
