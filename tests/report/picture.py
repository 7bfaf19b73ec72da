"""Takes the picture of the page that the docs show, of the demo's digits: `python -m tests.report.picture` after `make demo`."""

import sys
from pathlib import Path

from PIL import Image

from benchmarks.helpers.browser import chromium, drawn

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "report.png"
WIDTH, HEIGHT = 1240, 1130


def take(page: Path, picture: Path) -> None:
    """The upper part of the page, as a PNG of few colours, which is a third as large."""
    with chromium() as browser:
        tab = drawn(browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light"), page)
        tab.screenshot(path=str(picture))
    Image.open(picture).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    take(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "demo-output" / "report.html", PICTURE)
