"""Takes the picture of the page that the docs show, of the demo's digits: `python -m tests.report.picture` after `make demo`."""

import sys
from pathlib import Path

from PIL import Image

from benchmarks.helpers.browser import chromium, drawn

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "report.png"
WIDTH, HEIGHT = 1240, 1290
PARTS = "nav, #scores, .pair, #suspects, #store, footer { display: none } #samples > p { display: none }"


def take(page: Path, picture: Path) -> None:
    """What the sliders show and the samples under it: the parts between the two are left out."""
    with chromium() as browser:
        tab = drawn(browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light"), page)
        tab.add_style_tag(content=PARTS)
        tab.screenshot(path=str(picture))
    Image.open(picture).convert("RGB").save(picture, optimize=True)


if __name__ == "__main__":
    take(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "demo-output" / "report.html", PICTURE)
