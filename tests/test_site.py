"""The documentation as a site: it builds without a warning, has every public name, and asks no other host for anything."""

import importlib
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed (the extra dev brings it)")
pytest.importorskip("material", reason="mkdocs-material is not installed (the extra dev brings it)")
ROOT = Path(__file__).resolve().parents[1]
ROOMS = [
    "",
    "choice",
    "loggers",
    "ranking",
    "report",
    "scoring",
    "selection",
    "shards",
    "tables",
    "testing",
    "torch",
    "webdataset",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def described(site: Path) -> set[str]:
    """The names that the site describes, of its inventory: four lines of head, then one a name, compressed."""
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_described(room: str, described: set[str]) -> None:
    name = f"adaptive_sampler.{room}".rstrip(".")
    public = {f"{name}.{member}" for member in importlib.import_module(name).__all__}
    rooms = {f"adaptive_sampler.{room}" for room in ROOMS}
    # what a room has of another one, such as an error or a sampler, may be described there
    missing = {
        one for one in public - described - rooms if not any(d.endswith("." + one.split(".")[-1]) for d in described)
    }
    assert missing == set()


def test_what_a_store_inherits_is_described(described: set[str]) -> None:
    assert {"adaptive_sampler.ScoreStore.commit", "adaptive_sampler.ScoreStore.versions"} <= described


def test_every_page_is_in_the_navigation(site: Path) -> None:
    """So a reader finds it. Strict building refuses a page that is in docs and not in the navigation."""
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    start = (site / "index.html").read_text()
    assert {page for page in pages if f'href="{page.as_posix()}"' not in start} == set()


def test_arguments_are_a_list(site: Path) -> None:
    page = (site / "api" / "selection.html").read_text()
    assert re.search(r"<li>\s*(<p>)?<code>keep</code>: a fraction f", page)


def test_figures_and_sources_that_pages_link_to_come_along(site: Path) -> None:
    assert (site / "sources" / "benchmarks" / "results" / "evidence" / "data_diet.png").stat().st_size > 10_000
    assert (site / "sources" / "benchmarks" / "evidence" / "data_diet.py.txt").exists()


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    loaded = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"(https?:[^\"]*)\"")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    assert {found for page in pages for found in loaded.findall(page.read_text())} == set()
