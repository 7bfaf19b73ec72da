"""Reads from a package's sources which module imports which, for the test of the architecture."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

# What finds or loads a module by its name. As attributes exec and eval are other things, as in `model.eval()`.
LOADERS = {"import_module", "__import__", "find_spec", "resolve_name", "run_module", "run_path"}
LOADERS |= {"spec_from_file_location", "SourceFileLoader"}
RUNNERS = {"exec", "eval"}


@dataclass(frozen=True)
class Import:
    """One import of a module, printed as file:line: …. `name`: what is imported from it, "" for the module itself.

    `how`: "from", for `from … import`; "import"; "text", for a string that is a module's name; "attribute", for what is
    read from a module that was imported, as in `store.opening`. `bound`: what the importing file calls it.
    """

    file: Path
    line: int
    importer: str
    module: str
    name: str = ""
    when_called: bool = False  # inside a function, or only for type checkers
    how: str = "from"
    bound: str = ""

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

    def at(self, module: str, node: ast.AST) -> str:
        """Where a node stands: file:line."""
        return f"{self.files[module].relative_to(self.root.parent)}:{getattr(node, 'lineno', 1)}"

    def is_door(self, module: str) -> bool:
        """Whether a module is the __init__ of a folder."""
        return self.files[module].name == "__init__.py"

    @cached_property
    def imports(self) -> list[Import]:
        """All imports: at the top, in functions, for type checkers, by a name that is a string, and through attributes."""
        return [found for module in self.files for one in (self._of, self._through) for found in one(module)]

    @cached_property
    def inside(self) -> list[Import]:
        """The imports of the package's own modules, each with the name of the module whose file it leads to."""
        own = [i for i in self.imports if i.module.split(".")[0] == self.name]
        return [self._resolved(i) for i in own]

    @cached_property
    def outside(self) -> list[Import]:
        """The imports of third-party packages, each with the name of the top-level package."""
        others = [i for i in self.imports if i.module.split(".")[0] not in {self.name, *sys.stdlib_module_names}]
        return [replace(i, module=i.module.split(".")[0], name="") for i in others]

    @cached_property
    def computed(self) -> list[Import]:
        """Where a module is loaded by a name that is not written there as a string, so that nobody can see which.

        `module`: the source of it.
        """
        found = [(module, node) for module, tree in self.trees.items() for node, text in _loads(tree) if not text]
        return [
            self._import(module, node, f"by a computed name: {ast.unparse(node)}", "", True) for module, node in found
        ]

    def _import(self, module: str, node: ast.AST, other: str, name: str, late: bool, how: str = "from") -> Import:
        file = self.files[module].relative_to(self.root.parent)
        return Import(file, getattr(node, "lineno", 1), module, other, name, late, how)

    def _of(self, module: str) -> Iterator[Import]:
        for node, late in _walk(self.trees[module].body, late=False):
            if isinstance(node, ast.Import):
                yield from (self._import(module, node, a.name, "", late, "import") for a in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.at(module, node)}: a relative import. Write the whole name."
                assert node.names[0].name != "*", f"{self.at(module, node)}: a star. Name what is imported."
                for a in node.names:
                    found = self._import(module, node, str(node.module), a.name, late)
                    yield replace(found, bound=a.asname or a.name)
            elif isinstance(node, ast.Constant) and (named := self._named(node.value)):
                # for importlib, here or in a function that gets the string
                yield self._import(module, node, named, "", True, "text")
        for node, text in _loads(self.trees[module]):
            if text == self.name or (text and text.split(".")[0] != self.name):
                yield self._import(module, node, text, "", True, "text")

    def _named(self, text: object) -> str:
        """The module that a text such as package.module, package.module.Name or package.module:name leads to, or ""."""
        if not isinstance(text, str) or not re.fullmatch(rf"{self.name}(\.\w+)+(:[\w.]+)?", text):
            return ""
        found = text.partition(":")[0]
        while found not in self.files:
            found = found.rpartition(".")[0]
        return found if found != self.name else ""

    def _resolved(self, found: Import) -> Import:
        whole = f"{found.module}.{found.name}"
        if found.name and whole in self.files:
            return replace(found, module=whole, name="")
        assert found.module in self.files, f"{found}, which is no module of the package"
        return found

    # -- names that a file has of others ------------------------------------------------------------------------------

    @cached_property
    def _brought(self) -> dict[str, dict[str, tuple[str, str]]]:
        """Module -> name in it -> (module of the package, name there) that it is imported from."""
        found: dict[str, dict[str, tuple[str, str]]] = {module: {} for module in self.files}
        for module, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == self.name:
                    found[module] |= {a.asname or a.name: (str(node.module), a.name) for a in node.names}
        return found

    def _through(self, module: str) -> Iterator[Import]:
        """What a file reads from the modules that it has imported, where those only imported it themselves."""
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Attribute) and (base := self.denotes(module, node.value)):
                if inner := self._inner(base, node.attr):
                    yield self._import(module, node, inner, "", True, "attribute")
                elif node.attr in self._brought[base] and not self.is_door(base):
                    yield self._import(module, node, *self._brought[base][node.attr], True, "attribute")

    def denotes(self, module: str, node: ast.AST) -> str:
        """The module of the package that an expression is, as `store` and `store.opening` are; "" if it is none."""
        if isinstance(node, ast.Name):
            return self._inner(module, node.id)
        if isinstance(node, ast.Attribute) and (base := self.denotes(module, node.value)):
            return self._inner(base, node.attr)
        return ""

    def _inner(self, module: str, name: str) -> str:
        """The module that `name` is in a module: one that it imported, or a file of its folder."""
        whole = ".".join(self._brought[module].get(name, (module, name)))
        return whole if whole in self.files else ""

    def defines(self, module: str, name: str) -> bool:
        """Whether a module makes `name` itself, and does not only pass on what it imported, or give it another name."""
        return any(name in self._made(module, statement) for statement in _top(self.trees[module].body))

    def _made(self, module: str, statement: ast.AST) -> set[str]:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return {statement.name}
        value = getattr(statement, "value", None)
        while isinstance(value, ast.Attribute):
            value = value.value
        if isinstance(value, ast.Name) and value.id in self._brought[module]:
            return set()
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        return {n.id for t in targets if t for n in ast.walk(t) if isinstance(n, ast.Name)}

    def origin(self, module: str, name: str) -> str:
        """The module that `name` comes from, over however many that pass it on."""
        while name in self._brought[module] and not self.defines(module, name):
            module, name = self._brought[module][name]
            if f"{module}.{name}" in self.files:
                return f"{module}.{name}"
        return module


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


def _top(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The statements that run at import, those below an if, a try, a with or a loop too."""
    for statement in body:
        if isinstance(statement, ast.stmt | ast.ExceptHandler):
            yield statement
            if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _top(ast.iter_child_nodes(statement))


def _loads(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Each use of what finds or loads a module by its name, and that name, "" if it is not written there."""
    above = {below: node for node in ast.walk(tree) for below in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(_hides(a, node.module) for a in node.names):
            yield node, ""
        elif isinstance(node, ast.Name) and node.id in LOADERS | RUNNERS:
            yield above[node], "" if node.id in RUNNERS else _given(above[node])
        elif isinstance(node, ast.Attribute) and (
            node.attr in LOADERS or (node.attr == "modules" and ast.unparse(node) == "sys.modules")
        ):
            user = above[node]
            user = above[user] if isinstance(user, ast.Attribute) else user  # sys.modules.get(…)
            yield user, _given(user)


def _hides(imported: ast.alias, module: str | None) -> bool:
    """Whether a loader, or sys.modules, is imported under a name that does not tell that it is one."""
    return bool(imported.asname and imported.name in LOADERS) or (module, imported.name) == ("sys", "modules")


def _given(user: ast.AST) -> str:
    """The name that a loader, or sys.modules, is asked for: f("name"), modules.get("name"), modules["name"]."""
    asked = user.args[:1] if isinstance(user, ast.Call) and not user.keywords else []
    asked += [user.slice] if isinstance(user, ast.Subscript) else [user.left] if isinstance(user, ast.Compare) else []
    texts = [a.value for a in asked if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return texts[0].partition(":")[0] if texts and not texts[0].startswith(".") else ""


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
