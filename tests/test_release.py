"""What a release promises: the lowest versions and the Pythons are those that are tested, and PyPI gets no link to nowhere."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
LOWEST = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "constraints-lowest.txt").read_text(), re.MULTILINE))
WHERE = ["dependencies", "cloud", "tables", "report"]  # as `make lowest` has it
LINK = re.compile(r"\]\((?!https?:)")


def promised(where: str) -> dict[str, str]:
    """The lower bounds of the core, or of an extra: name to version."""
    project = PROJECT["project"]
    requirements = project[where] if where in project else project["optional-dependencies"][where]
    bounds = {requirement: re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement) for requirement in requirements}
    assert None not in bounds.values(), f"of these one says no lowest version, as name>=version: {requirements}"
    return {bound[1]: bound[2] for bound in bounds.values() if bound}


@pytest.mark.parametrize("where", WHERE)
def test_the_lowest_versions_that_are_tested_are_those_that_are_allowed(where: str) -> None:
    def padded(version: str) -> list[str]:
        return [*version.split("."), "0", "0"][:3]

    tested = {name: padded(LOWEST.get(name, "missing in constraints-lowest.txt")) for name in promised(where)}
    assert tested == {name: padded(version) for name, version in promised(where).items()}


def test_the_extras_of_the_lowest_versions_are_those_that_make_installs() -> None:
    assert f"EXTRAS={','.join(WHERE[1:])}\n" in (ROOT / "Makefile").read_text()


def test_the_pythons_that_are_promised_are_tried() -> None:
    tried = re.findall(
        r"python(3\.\d+)", re.findall(r"^PYTHONS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0]
    )
    said = [c.split(" :: ")[-1] for c in PROJECT["project"]["classifiers"] if "Python :: 3." in c]
    assert len(said) > 1
    assert set(said) <= set(tried)
    assert PROJECT["project"]["requires-python"] == f">={said[0]}"


def test_the_citation_has_the_version() -> None:
    assert f"\nversion: {PROJECT['project']['version']}\n" in (ROOT / "CITATION.cff").read_text()


def on_pypi(text: str) -> str:
    """What hatch-fancy-pypi-readme makes of the README, by the rules in pyproject.toml."""
    rules = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    (fragment,) = rules["fragments"]
    text = text.split(fragment["end-before"])[0]
    for rule in rules["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    return text


def test_on_pypi_the_readme_has_no_link_into_the_repository() -> None:
    assert LINK.search(README)
    assert LINK.findall(on_pypi(README)) == []


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("see [the loop](docs/loop.md#watch), and", "see the loop, and"),
        ("[a\nb](docs/loop.md)", "a\nb"),
        ("![the report](docs/report.png)\n\nText", "Text"),
        ("<!-- a\nnote -->\nText", "Text"),
        ("see [NumPy](https://numpy.org)", "see [NumPy](https://numpy.org)"),
        ("Text\n\n## Pages\n\n[one](docs/one.md)", "Text\n"),
    ],
)
def test_on_pypi_a_link_is_its_text(text: str, there: str) -> None:
    assert on_pypi(text) == there


def test_on_pypi_the_code_is_the_same() -> None:
    block = re.compile(r"^```python\n.*?^```$", re.MULTILINE | re.DOTALL)
    assert block.findall(on_pypi(README)) == block.findall(README) != []
