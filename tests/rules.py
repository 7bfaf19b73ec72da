"""Finds in a package's sources what breaks a rule that is not one of imports, for the test of the architecture.

What is found is said as file:line: source.
"""

import ast
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator

from tests.imports import Package

COMPILERS = {"njit", "jit", "vectorize", "guvectorize", "stencil", "cfunc", "prange"}
NOT_NUMBAS = {"torch", "np"}  # torch.jit, np.vectorize
DECORATORS = {"kernel", "instructions", "intrinsic"}  # by which a function becomes one that Numba compiles
CLOCK = {"_epoch", "_delivered"}  # the fields of memory/clock.py
CLASS_MAKERS = {"NamedTuple", "namedtuple", "TypedDict", "NewType", "Enum", "make_dataclass"}
DEFINED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def said(package: Package, module: str, node: ast.AST) -> str:
    """Where a node stands and its source, of a class or function the name alone."""
    return f"{package.at(module, node)}: {node.name if isinstance(node, DEFINED) else ast.unparse(node)}"


def last_name(node: ast.AST) -> str:
    """The name of `name`, of `thing.name`, and of a call of either; "" of anything else."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _where(package: Package, module: str, holds: Callable[[ast.AST], bool]) -> list[str]:
    return [said(package, module, node) for node in ast.walk(package.trees[module]) if holds(node)]


def _is_set(node: ast.AST) -> bool:
    """Whether it is an attribute that is set or deleted: by =, +=, in a tuple, by for or with."""
    return isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)


def _is_one(tree: ast.Module, node: ast.AST, names: set[str]) -> bool:
    """Whether an expression ends in one of the names, or is what this file calls one that does, or a `ScoreStore`."""
    called = {
        last_name(target)
        for given in ast.walk(tree)
        if isinstance(given, ast.Assign) and isinstance(given.value, ast.Attribute) and given.value.attr in names
        for target in given.targets
    }
    arguments = [a for a in ast.walk(tree) if isinstance(a, ast.arg) and a.annotation and "store" in names]
    called |= {a.arg for a in arguments if a.annotation and "ScoreStore" in ast.unparse(a.annotation)}
    return last_name(node) in names | called - {""} and not isinstance(node, ast.Call)


# -- kernels ------------------------------------------------------------------------------------------------------------


def kernels_of(package: Package, module: str) -> list[ast.FunctionDef]:
    """The functions of a module that Numba compiles, by a decorator or by a call: `compiled = kernel(function)`."""
    nodes = list(ast.walk(package.trees[module]))
    calls = [node for node in nodes if isinstance(node, ast.Call) and last_name(node) in COMPILERS | {"kernel"}]
    passed = {last_name(given) for call in calls for given in call.args}
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    by = COMPILERS | DECORATORS
    return [f for f in functions if f.name in passed or by & {last_name(d) for d in f.decorator_list}]


def other_ways_to_compile(package: Package, module: str) -> list[str]:
    """Where Numba's decorators are used, and ours but as `@kernel` or `kernel(function)`, of a function of the same file."""
    tree = package.trees[module]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    fine = [decorator for f in functions for decorator in f.decorator_list]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) == 1]
    fine += [call.func for call in calls if last_name(call.args[0]) in {f.name for f in functions}]
    ours = {i.bound for i in package.imports if i.importer == module and i.module == f"{package.name}.kernels.jit"}

    def holds(node: ast.AST) -> bool:
        if isinstance(node, ast.alias):
            return node.name in COMPILERS or (node.name in DECORATORS | {"Kernel"} and node.asname is not None)
        if isinstance(node, ast.Attribute) and node.attr in COMPILERS:
            return last_name(node.value) not in NOT_NUMBAS
        name = node.id if isinstance(node, ast.Name) else ""
        return name in ours and (name == "Kernel" or (name == "kernel" and node not in fine))

    return _where(package, module, holds)


def asks_for_threads(package: Package, module: str) -> list[str]:
    """Where `parallel` is a keyword or a string."""
    return _where(package, module, lambda node: "parallel" in (getattr(node, "arg", ""), getattr(node, "value", "")))


def foreign_callees(package: Package, module: str, foreign: Collection[str]) -> Iterator[str]:
    """Where kernels use one of the names `foreign`, what is made of these at the top, or something by its module's name."""
    names = set(foreign)
    for statement in package.trees[module].body:
        if isinstance(statement, ast.Assign) and names & {last_name(n) for n in ast.walk(statement.value)}:
            names |= {last_name(n) for target in statement.targets for n in ast.walk(target)} - {""}
    for kernel in kernels_of(package, module):
        for node in (node for statement in kernel.body for node in ast.walk(statement)):
            if isinstance(node, ast.Name) and (node.id in names or package.denotes(module, node)):
                yield f"{package.at(module, node)}: the kernel {kernel.name} uses {node.id}"


# -- names ---------------------------------------------------------------------------------------------------------------


def classes(package: Package) -> dict[str, list[str]]:
    """Name of a class in small letters -> where it is defined, or where something else is imported as that."""
    found = defaultdict(list)
    for module, tree in package.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name.lower()].append(said(package, module, node))
            elif isinstance(node, ast.Call) and last_name(node) in CLASS_MAKERS:
                names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
                found[str(*names).lower()].extend(said(package, module, node) for _ in names)
    for one in package.inside:
        if one.name != one.bound and one.bound[:1].isupper() and one.bound.lower() in found:
            found[one.bound.lower()].append(f"{one} as {one.bound}")
    return found


def private_names_of_others(package: Package, known: Collection[str]) -> list[str]:
    """Where a file uses `_name` of a module, or of an object, though only a class of another file has a `_name`."""
    own = {module: set(_private_members(tree)) for module, tree in package.trees.items()}
    members = set().union(*own.values()) - set(known)
    found = [str(i) for i in package.inside if i.name.startswith("_")]
    for module in package.files:

        def holds(node: ast.AST, module: str = module) -> bool:
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.endswith("__"):
                return False
            others = node.attr in members - own[module] and last_name(node.value) not in ("self", "cls")
            return others or package.denotes(module, node.value) != ""

        found += _where(package, module, holds)
    return found


def _private_members(tree: ast.Module) -> Iterator[str]:
    """The attributes that the classes of a file give to themselves."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_set(node) and last_name(node.value) == "self":
            yield node.attr
        elif isinstance(node, ast.ClassDef):
            yield from (s.name for s in node.body if isinstance(s, DEFINED))
            yield from (last_name(s.target) for s in node.body if isinstance(s, ast.AnnAssign))


# -- the store -----------------------------------------------------------------------------------------------------------


def clock_writes(package: Package, module: str) -> list[str]:
    """Where a clock's fields or a store's epoch are set, in whatever way, and where a clock is replaced or made anew."""
    tree = package.trees[module]

    def holds(node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute):
            of_one = node.attr in ("epoch", "delivered") and _is_one(tree, node.value, {"store", "clock"})
            others = node.attr in CLOCK | {"clock"} and last_name(node.value) != "self"
            return _is_set(node) and (of_one or others)
        if isinstance(node, ast.ClassDef):
            return "Clock" in map(last_name, node.bases)
        named = getattr(node, "arg", getattr(node, "value", None))  # a keyword or a string
        return isinstance(named, str) and named in CLOCK

    return _where(package, module, holds)


def members_given_to_a_store(package: Package, module: str) -> list[str]:
    """Where an attribute of a store, or of its class, is set from outside."""
    tree = package.trees[module]

    def holds(node: ast.AST) -> bool:
        by_name = isinstance(node, ast.Call) and last_name(node) in ("setattr", "delattr") and len(node.args) > 1
        owner = node.args[0] if by_name else node.value if _is_set(node) else None  # type: ignore[attr-defined]
        return owner is not None and _is_one(tree, owner, {"store", "ScoreStore"})

    return _where(package, module, holds)


def storage_through_a_session(package: Package, module: str) -> list[str]:
    """Where the files of a store are reached through its session."""
    tree = package.trees[module]
    return _where(
        package,
        module,
        lambda node: (
            isinstance(node, ast.Attribute)
            and node.attr == "files"
            and _is_one(tree, node.value, {"session", "drained"})
        ),
    )


# -- figures -------------------------------------------------------------------------------------------------------------


def legends_without_a_place(package: Package, module: str) -> list[str]:
    """Where a legend has no `loc`, or "best": matplotlib then tries all places, and warns where that takes a second."""

    def holds(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call) or last_name(node) != "legend":
            return False
        places = [ast.unparse(given.value) for given in node.keywords if given.arg == "loc"]
        return places in ([], ["'best'"], ["0"])

    return _where(package, module, holds)
