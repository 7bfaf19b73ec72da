"""What users see of a store is small, written down, and the same as what is written down."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from adaptive_sampler import ScoreStore, store
from adaptive_sampler.scoring import Loss

DESIGN = Path(__file__).resolve().parents[1] / "docs" / "design.md"
MEMBERS = {
    *("create", "open", "from_table", "merge", "close"),
    *("update", "fold", "fold_table", "add", "grow", "begin_run", "commit", "drop_versions"),
    *("values", "count", "last_seen", "observed", "names", "scores"),
    *("columns", "rows", "key", "identity"),
    *("plan", "export", "to_arrow", "to_pandas", "made_from"),
    *("path", "epoch", "version", "versions", "about", "session"),
}


@pytest.fixture
def members() -> set[str]:
    """Of an instance too, with what its __init__ sets."""
    with ScoreStore.create(None, 2, [Loss()]) as store:
        return {name for name in dir(store) if not name.startswith("_")}


def test_a_store_shows_its_users_these_members_and_no_other(members: set[str]) -> None:
    assert members == MEMBERS


def test_a_store_gets_no_other_member_later() -> None:
    """From a method that sets an attribute, or from __getattr__, which dir does not tell of."""
    tree = ast.parse(inspect.getsource(store))
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    given = {a.attr for a in attributes if isinstance(a.ctx, ast.Store) and ast.unparse(a.value) == "self"}
    assert {name for name in given if not name.startswith("_")} <= MEMBERS
    assert not {"__getattr__", "__getattribute__"} & set(vars(ScoreStore))


def test_a_store_shows_its_users_no_more_than_thirty_four_members(members: set[str]) -> None:
    """Thirty-two, and the two by which a notebook takes its scores, which every library of tables names so."""
    assert len(members) <= 34


def test_the_members_of_a_store_are_listed_in_the_design(members: set[str]) -> None:
    section = DESIGN.read_text().split("## What users see of a store")[1].split("\n## ")[0]
    table = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    assert set(re.findall(r"`(\w+)`", table)) == members
