"""What every module owes its reader, and what importing the package must not load."""

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
from tests.imports import Package

PACKAGE = Package(Path(adaptive_sampler.__file__).parent)


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
    "obstore",
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
    if module.endswith("planning.ray"):
        pytest.importorskip("ray")
    if "demo" in module:
        pytest.importorskip("torch")
        pytest.importorskip("sklearn")
    if module.endswith(("commands.app", "bench.figures")) or "report" in module.split("."):
        for library in ("altair", "jinja2", "matplotlib", "platformdirs", "typer"):  # of the extra `report`
            pytest.importorskip(library)
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


@pytest.mark.parametrize("module", ["adaptive_sampler", "adaptive_sampler.torch", "adaptive_sampler.choice"])
def test_a_public_method_is_documented(module: str) -> None:
    it = imported(module)
    for name in it.__all__:
        for method, value in vars(getattr(it, name)).items() if inspect.isclass(getattr(it, name)) else ():
            plain = getattr(value, "__func__", getattr(value, "fget", value))
            if not method.startswith("_") and inspect.isfunction(plain):
                assert plain.__doc__, f"{module}.{name}.{method} has no docstring"


def _bound(package: ModuleType) -> Iterator[str]:
    """The public names that an __init__ binds by its imports and definitions, those too that it imports when asked."""
    body = PACKAGE.trees[package.__name__].body
    for node in (*body, *(late for choice in body if isinstance(choice, (ast.If, ast.Try)) for late in choice.body)):
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
