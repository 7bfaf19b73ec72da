"""Reads from a package's sources which module imports which, for the test of the architecture."""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import of a module, printed as file:line: …. `name`: what is imported from it, "" for the module itself."""

    file: Path
    line: int
    importer: str
    module: str
    name: str = ""
    when_called: bool = False  # inside a function, or only for type checkers

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.importer} imports {self.module}{'.' + self.name if self.name else ''}"


class Package:
    """The package whose folder is `root`. `files`: dotted module name -> file, a folder's name -> its __init__.py."""

    def __init__(self, root: Path) -> None:
        self.root, self.name = root, root.name
        self.files = {self._dotted(file): file for file in sorted(root.rglob("*.py"))}
        self.trees = {module: ast.parse(file.read_text()) for module, file in self.files.items()}

    def _dotted(self, file: Path) -> str:
        dotted = ".".join((self.name, *file.relative_to(self.root).with_suffix("").parts))
        return dotted.removesuffix(".__init__")

    @cached_property
    def imports(self) -> list[Import]:
        """All imports: at the top, in functions, for type checkers, and strings that are a module's full name."""
        return [found for module in self.files for found in self._of(module)]

    @cached_property
    def inside(self) -> list[Import]:
        """The imports of the package's own modules, each with the name of the module whose file it leads to."""
        own = [i for i in self.imports if i.module.split(".")[0] == self.name]
        return [self._resolved(i) for i in own]

    @cached_property
    def outside(self) -> list[Import]:
        """The imports of third-party packages, each with the name of the top-level package."""
        others = [i for i in self.imports if i.module.split(".")[0] not in {self.name, *sys.stdlib_module_names}]
        return [Import(i.file, i.line, i.importer, i.module.split(".")[0], "", i.when_called) for i in others]

    def _of(self, module: str) -> Iterator[Import]:
        file = self.files[module].relative_to(self.root.parent)
        for node, late in _walk(self.trees[module].body, late=False):
            if isinstance(node, ast.Import):
                yield from (Import(file, node.lineno, module, a.name, "", late) for a in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}:{node.lineno}: a relative import. Write the whole name."
                yield from (Import(file, node.lineno, module, str(node.module), a.name, late) for a in node.names)
            elif isinstance(node, ast.Constant) and node.value in self.files and node.value != self.name:
                yield Import(
                    file, node.lineno, module, str(node.value), "", True
                )  # for importlib, here or in a function that gets the string
            elif isinstance(node, ast.JoinedStr | ast.BinOp) and f"{self.name}." in ast.unparse(node):
                computed = _called_with(self.trees[module], node)
                assert not computed, (
                    f"{file}:{node.lineno}: a module is imported by a name that is computed. Write it out."
                )

    def _resolved(self, found: Import) -> Import:
        whole = f"{found.module}.{found.name}"
        if found.name and whole in self.files:
            return Import(found.file, found.line, found.importer, whole, "", found.when_called)
        assert found.module in self.files, f"{found}, which is no module of the package"
        return found

    def defines(self, module: str, name: str) -> bool:
        """Whether a module defines `name` itself, and does not import it from another module of the package."""
        imported = {a.asname or a.name for node in ast.walk(self.trees[module]) for a in _aliases(node, self.name)}
        return name not in imported


def _walk(body: list[ast.stmt], late: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it runs late: not when the module is imported."""
    for statement in body:
        yield from _below(statement, late)


def _below(node: ast.AST, late: bool) -> Iterator[tuple[ast.AST, bool]]:
    yield node, late
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        late = True
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        late = True
    for child in ast.iter_child_nodes(node):
        yield from _below(child, late)


def _called_with(tree: ast.Module, argument: ast.AST) -> bool:
    """Whether `argument` is passed to a function that imports by name, such as import_module."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and argument in node.args]
    return any(ast.unparse(call.func).rpartition(".")[2] in ("import_module", "__import__") for call in calls)


def _aliases(node: ast.AST, package: str) -> list[ast.alias]:
    inside = isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == package
    return node.names if inside and isinstance(node, ast.ImportFrom) else []


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Each set of nodes that reach one another, as a walk a -> b -> … -> a; empty if the graph has no circle."""
    found, seen = [], set[str]()
    for start in sorted(graph):
        if start not in seen and (walk := _way(graph, start, start)):
            found.append(walk)
            seen |= set(walk)
    return found


def reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Every node that can be reached from `start` in one step or more."""
    found, ahead = set[str](), [start]
    while ahead:
        for following in graph.get(ahead.pop(), set()):
            if following not in found:
                found.add(following)
                ahead.append(following)
    return found


def _way(graph: Mapping[str, set[str]], start: str, goal: str) -> list[str]:
    """The shortest walk of at least one step from `start` to `goal`; empty if there is none."""
    ways = [[start]]
    seen = set[str]()
    while ways:
        way = ways.pop(0)
        for following in sorted(graph.get(way[-1], set())):
            if following == goal:
                return [*way, goal]
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []


def way(graph: Mapping[str, set[str]], start: str, goal: str) -> str:
    """The shortest walk from `start` to `goal`, as text; "" if there is none."""
    return " -> ".join(_way(graph, start, goal))
