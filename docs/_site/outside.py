"""For the site: README.md is its first page, and what pages link to outside of docs, such as figures, comes along."""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {ROOT / "README.md": "index.md", ROOT / "CHANGELOG.md": "changelog.md"}
SHOWN = {".png", ".svg"}  # a browser shows these; anything else it is given as a text
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside of docs."""
    for path, uri in PAGES.items():
        files.append(File.generated(config, uri, content=path.read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files, **_: Any) -> str:
    """Have each link that leaves docs lead to a copy in the site; one to a folder becomes its name."""
    uri = page.file.src_uri
    here = next((path.parent for path, own in PAGES.items() if own == uri), (ROOT / "docs" / uri).parent)

    def link(match: re.Match[str]) -> str:
        target = (here / match[2]).resolve()
        if target.is_dir():
            return match[1]
        return f"[{match[1]}]({os.path.relpath(_uri(target, config, files), Path(uri).parent)}{match[3] or ''})"

    return LINK.sub(link, markdown)


def _uri(target: Path, config: MkDocsConfig, files: Files) -> str:
    """Where the site has a file of the repository."""
    if target in PAGES:
        return PAGES[target]
    if target.is_relative_to(ROOT / "docs"):
        return target.relative_to(ROOT / "docs").as_posix()
    uri = "sources/" + target.relative_to(ROOT).as_posix() + ("" if target.suffix in SHOWN else ".txt")
    if uri not in files.src_uris:
        files.append(File.generated(config, uri, abs_src_path=str(target)))
    return uri
