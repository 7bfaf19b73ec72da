"""Debian's Chromium, driven by Playwright: without a window, a network or anything that it would fetch by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
_STILL = ("--disable-background-networking", "--disable-component-update", "--disable-sync")


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser of Playwright's."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*_FLAGS, *_STILL])
        yield browser
        browser.close()


def drawn(page: Any, path: Path) -> Any:
    """The page of this file in a tab, once its charts are there."""
    page.goto(path.absolute().as_uri())
    page.wait_for_selector("html[data-drawn=yes]")
    return page
