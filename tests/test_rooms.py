"""The READMEs of the rooms name every file that is there, and no other; a large room has one."""

import re
from collections import Counter
from pathlib import Path

import pytest

import adaptive_sampler

ROOT = Path(adaptive_sampler.__file__).parent
REPOSITORY = Path(__file__).resolve().parents[1]
LARGE = 5  # modules; above that a stranger needs a guide
GUIDES = sorted(guide for guide in ROOT.rglob("README.md") if guide.parent != ROOT)
ELSEWHERE = [REPOSITORY / "tests" / "README.md", REPOSITORY / "benchmarks" / "README.md"]


def modules(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("*.py") if file.name != "__init__.py"}


def covered(guide: Path) -> set[Path]:
    """The folders that a guide speaks of: its own, and those below that have none of their own."""
    below = {file.parent for file in guide.parent.rglob("*.py")}
    own = {other.parent for other in GUIDES if other != guide and guide.parent in other.parents}
    return {folder for folder in below if not any(folder == o or o in folder.parents for o in own)}


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.parent.name)
def test_a_guide_names_every_file_of_its_room_and_no_other(guide: Path) -> None:
    named = set(re.findall(r"`(\w+\.py)`", guide.read_text())) - {"__init__.py"}
    there = set().union(*(modules(folder) for folder in covered(guide) if "contestants" not in folder.name))
    assert named == there


def test_a_large_room_has_a_guide() -> None:
    guided = {folder for guide in GUIDES for folder in covered(guide)}
    large = {file.parent for file in ROOT.rglob("*.py") if len(modules(file.parent)) > LARGE}
    assert large - guided - {ROOT} == set()


def test_the_map_names_every_room_and_every_file_at_the_top() -> None:
    text = (ROOT / "README.md").read_text()
    rooms = {file.parent.name for file in ROOT.rglob("*.py") if file.parent != ROOT} - {"contestants"}
    missing = {name for name in rooms if not re.search(rf"\b{name}/", text)}
    top = {file.stem for file in ROOT.glob("*.py")} - {"__init__", "__main__"}
    assert missing | {name for name in top if not re.search(rf"\b{name}\b", text)} == set()


def test_a_room_whose_name_another_has_is_drawn_too() -> None:
    drawn = Counter(re.findall(r"(\w+)/", (ROOT / "README.md").read_text().split("```")[1]))
    rooms = Counter(folder.name for folder in {file.parent for file in ROOT.rglob("*.py")} - {ROOT})
    assert rooms - drawn - Counter(["contestants"]) == Counter()


def test_the_map_names_no_room_and_no_file_that_is_not_there() -> None:
    text = (ROOT / "README.md").read_text()
    rooms = {folder.name for folder in ROOT.rglob("*") if folder.is_dir()}
    drawn = set(re.findall(r"(\w+)/", text.split("```")[1]))
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`(?!\])", text))  # but for links, which the test of the pages follows
    lost = {name for name in named if not (ROOT / name).exists() and not list(ROOT.rglob(name))}
    assert (drawn - rooms) | lost == set()
