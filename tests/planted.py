"""A small package that breaks no rule, and whatever a test plants in it."""

from pathlib import Path

from tests.imports import Package

CLEAN = {
    "__init__": "",
    "low": "import os\nVALUE = 1\n",
    "middle": "from planted.low import VALUE\n",
    "room.__init__": "",
    "room.high": "from planted import low\nfrom planted.middle import VALUE as RENAMED\n",
}


def planted(folder: Path, **changed: str) -> Package:
    """The clean package with some modules changed or added; two underscores for a dot."""
    given = {name.replace("__", ".").replace("..init.", ".__init__"): text for name, text in changed.items()}
    for module, source in (CLEAN | given).items():
        file = folder / "planted" / Path(*module.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return Package(folder / "planted")
