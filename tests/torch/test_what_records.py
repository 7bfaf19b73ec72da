"""The table of the calls that record names each of them, as found in the sources, and no other."""

import ast
import inspect
import re
from itertools import repeat
from pathlib import Path

import pytest

import adaptive_sampler
from adaptive_sampler import ScoreStore
from adaptive_sampler import torch as adapter
from adaptive_sampler.torch import L2RWLoss, LossHook, TokenLossHook
from tests.imports import Package
from tests.rules import last_name

transformers = pytest.importorskip("adaptive_sampler.torch.transformers")

ROOT = Path(adaptive_sampler.__file__).parent
TABLE = (ROOT.parent / "docs/loop.md").read_text().split("## Which call records what")[1].split("\n## ")[0]
CALLED = {"hook": "LossHook", "token_hook": "TokenLossHook", "store": "ScoreStore", "l2rw": "L2RWLoss"}
CALLED |= {"trainer": "AdaptiveTrainerMixin"}
PUBLIC = {"ScoreStore", "AdaptiveTrainerMixin", *adapter.__all__}
# What sources call by a name of its own -> its class
KNOWN = {"session": "Session", "recorder": "Recorder", "store": "ScoreStore", "hook": "LossHook"}
KNOWN |= {"_recording": "Way", "reading": "Readout", "own": "_Private"}
# A hook's `recorder` is one of the first two; a trainer's `_recording` one of the next, and what that reads one of the last.
KINDS = {
    "CriterionRecorder": "Recorder",
    "DocumentRecorder": "Recorder",
    "Forward": "Way",
    "Held": "Way",
    "Means": "Way",
}
KINDS |= {"SampleLogits": "Readout", "TokenLogits": "Readout", "FusedTokens": "Readout", "Observed": "Readout"}
FOLDS = {("Session", "fold_matrix"), ("Session", "fold_merged")}  # the two ways into the scores

Called = tuple[str, str]  # a method's class and name; a function's module and name


def functions() -> dict[Called, set[Called]]:
    """Every function of the package, and what it calls of the same module, of its own class, and of what is `KNOWN`."""
    found: dict[Called, set[Called]] = {}
    for module, tree in Package(ROOT).trees.items():
        for node in tree.body:
            owner = KINDS.get(node.name, node.name) if isinstance(node, ast.ClassDef) else module
            for part in node.body if isinstance(node, ast.ClassDef) else [node]:
                if isinstance(part, ast.FunctionDef):
                    found.setdefault((owner, part.name), set()).update(
                        map(_called, ast.walk(part), repeat((module, owner)))
                    )
    return found


def _called(node: ast.AST, within: Called) -> Called:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return within[0], node.func.id
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        receiver = last_name(node.func.value)
        return within[1] if receiver == "self" else KNOWN.get(receiver, ""), node.func.attr
    return "", ""


def recording() -> set[Called]:
    """(class or "", name) of every public function of the package that takes values in and folds them.

    `flush` folds only what another call has recorded before.
    """
    found, calls = set(FOLDS), functions()
    while more := {f for f, called in calls.items() if called & found and f[1] != "flush"} - found:
        found |= more
    public = {(owner if owner in PUBLIC else "", name) for owner, name in found if {owner, name} & PUBLIC}
    called = {(owner, {"forward": "__call__"}.get(name, name)) for owner, name in public}
    return {(owner, name) for owner, name in called if not name.startswith("_") or name == "__call__"}


def told() -> set[Called]:
    """The same, of the table's first column."""
    calls = re.findall(r"^\| `(?:(\w+)\.)?(\w+)\(", TABLE, re.MULTILINE)
    return {
        (CALLED[name], "__call__") if name in CALLED else (CALLED[owner] if owner else "", name)
        for owner, name in calls
    }


def test_the_table_names_every_public_call_that_records_and_no_other() -> None:
    assert told() == recording()


def test_the_calls_that_the_table_excludes_are_the_hooks_other_methods() -> None:
    methods = {name for name in LossHook.NAMES if inspect.isfunction(getattr(LossHook, name, None))}
    of_hook = {name for owner, name in told() if owner == "LossHook"}
    assert set(re.findall(r"hook\.(\w+)", TABLE.split("Nothing else records.")[1])) == methods - of_hook


@pytest.mark.parametrize("line", [line for line in TABLE.splitlines() if line.startswith("| `")])
def test_a_line_of_the_table_says_of_rows_and_arguments_what_the_signature_says(line: str) -> None:
    owner, name, given = re.match(r"\| `(?:(\w+)\.)?(\w+)\(([^)]*)\)", line).groups()  # type: ignore[union-attr]  # a line of the table
    classes = {"hook": LossHook, "token_hook": TokenLossHook, "store": ScoreStore, "l2rw": L2RWLoss}
    classes |= {"trainer": transformers.AdaptiveTrainerMixin}
    called = {"token_hook": "forward"}.get(name, "__call__") if name in classes else name
    function = getattr(classes.get(name) or classes.get(owner, adapter), called)
    parameters = list(inspect.signature(function).parameters)
    if name not in ("hook", "select"):  # what these are called with is the criterion's
        assert {part.strip("* ") for part in given.split(",")} <= set(parameters)
    if "`rows=`" in line and name != "hook":
        assert "rows" in parameters
