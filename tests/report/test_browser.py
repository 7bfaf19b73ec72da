"""Chromium opens the page, and a person at its keyboard finds what is true; nothing that a store holds is run."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.selection import Prune, Window
from benchmarks.helpers.browser import CHROMIUM, chromium, drawn
from tests.report.pages import CLASSES, LABELS, N, trained

pytest.importorskip("matplotlib")
pytest.importorskip("altair")
pytest.importorskip("vl_convert")
pytest.importorskip("platformdirs")
pytest.importorskip("playwright", reason="Playwright is not installed (the extra dev brings it)")
if not CHROMIUM.exists():
    pytest.skip(f"{CHROMIUM} is not there (apt-get install chromium)", allow_module_level=True)

from adaptive_sampler import report

EVIL = "<img src=x onerror=\"document.title='run'\"></script><script>document.title='run'</script><!--"
NAMES = np.array([EVIL, "cat", "dog", "{{ 7 * 7 }}"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def store() -> ScoreStore:
    keys = [f"{EVIL} {row}" for row in range(N)]
    return trained(None, seen=N - 20, keys=keys, metadata={"about": EVIL})


@pytest.fixture(scope="module")
def file(store: ScoreStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = np.random.default_rng(0).random((N, 8, 8))
    data = [image if row % 2 else f"{EVIL} {row}" for row, image in enumerate(images)]
    plan = Prune(0.5, "margin").plan(store, epoch=0, seed=0)
    path = tmp_path_factory.mktemp("page") / "page.html"
    return report.html(store, path, dataset=data, plan=plan, labels=NAMES[LABELS], title=f"title {EVIL}")


@pytest.fixture(scope="module")
def told() -> dict[str, list[str]]:
    """What the open page asked for, and what it wrote to the console."""
    return {"requests": [], "console": []}


@pytest.fixture(scope="module")
def opened(browser: Any, file: Path, told: dict[str, list[str]]) -> Any:
    page = browser.new_page(color_scheme="light")
    page.on("request", lambda request: told["requests"].append(request.url))
    page.on("console", lambda message: told["console"].append(message.text))
    page.on("pageerror", lambda error: told["console"].append(str(error)))
    return drawn(page, file)


def moved(page: Any, slider: str, key: str, times: int) -> None:
    page.focus(slider)
    for _ in range(times):
        page.keyboard.press(key)


def by_class(page: Any) -> list[int]:
    """How many rows of each class stay, as the words beside the bars say."""
    words = page.locator("#trial-classes text").all_text_contents()
    return [int(found[1]) for word in words if (found := re.fullmatch(r"([\d,]+) of [\d,]+ \(\d+%\)", word))]


def test_the_page_opens_without_an_error_and_asks_nobody_for_anything(
    opened: Any, told: dict[str, list[str]], file: Path
) -> None:
    assert told == {"requests": [file.as_uri()], "console": []}
    assert opened.locator(".chart svg").count() == opened.locator(".chart").count() > 9


def test_the_sliders_begin_at_the_plan(opened: Any) -> None:
    opened.reload()
    drawn(opened, Path(opened.url.removeprefix("file://")))
    assert opened.inner_text("#stays") == "150 of 300 rows stay (50.0%), 150 go"
    assert opened.inner_text("#code") == "Prune(keep=0.50, by='margin')"


def test_a_slider_that_is_moved_by_keyboard_tells_what_its_policy_would_keep(opened: Any, store: ScoreStore) -> None:
    opened.select_option("#by", "el2n")
    moved(opened, "#offset", "Home", 1)
    moved(opened, "#offset", "ArrowRight", 10)
    moved(opened, "#keep", "ArrowLeft", 7)
    scores = store["el2n"]
    unseen = np.isnan(scores)
    ranking = np.argsort(scores[~unseen], kind="stable")  # no two are equal
    kept = np.flatnonzero(~unseen)[ranking[30 : 30 + round(0.43 * N) - unseen.sum()]]
    counts = np.bincount(LABELS[np.r_[kept, np.flatnonzero(unseen)]], minlength=CLASSES)
    assert (
        opened.inner_text("#stays")
        == f"{counts.sum()} of 300 rows stay ({counts.sum() / N:.1%}), {N - counts.sum()} go"
    )
    assert by_class(opened) == counts[np.argsort(NAMES)].tolist()
    assert opened.inner_text("#code") == "Window(keep=0.43, offset=0.10, by='el2n')"
    plan = Window(0.43, 0.1, "el2n").plan(store, epoch=0, seed=0)
    assert plan.num_rows == counts.sum()


def test_a_share_and_an_offset_never_reach_past_the_last_row(opened: Any) -> None:
    moved(opened, "#keep", "End", 1)
    assert opened.inner_text("#stays") == "300 of 300 rows stay (100.0%), 0 go"


def test_every_control_is_reached_by_the_tabulator_and_has_a_name(opened: Any) -> None:
    opened.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(40):
        opened.keyboard.press("Tab")
        reached.add(opened.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"theme-auto", "by", "keep", "offset", "export", "SUMMARY"} <= reached
    for control in ("#by", "#keep", "#offset"):
        assert opened.evaluate("s => document.querySelector(s).labels[0].innerText", control).strip()
    assert opened.get_attribute("#stays", "aria-live") == "polite"
    named = opened.locator("[role=graphics-document]")
    assert named.count() == opened.locator(".chart").count()
    assert all(named.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))"))


def test_what_looks_like_html_in_labels_keys_and_texts_is_shown_and_not_run(opened: Any) -> None:
    assert opened.title().startswith("title <img src=x onerror=")
    assert opened.locator("img[src=x]").count() == 0
    assert opened.locator("h1").inner_text() == f"title {EVIL}"
    assert any(EVIL[:10] in words for words in opened.locator("#trial-classes text").all_text_contents())
    text = opened.locator("#samples details[open] blockquote").first.inner_text()
    assert re.fullmatch(re.escape(EVIL) + r" \d+", text)
    assert EVIL[:60] in opened.locator("#samples details[open] .tile").first.inner_text()
    assert "{{ 7 * 7 }}" in opened.locator("main").inner_text()


def test_even_a_script_that_got_into_the_page_would_not_run(browser: Any, file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(
        text.replace(
            "<main>", "<main><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
        )
    )
    page = drawn(browser.new_page(), tmp_path / "page.html")
    assert page.title() != "run"


def test_the_page_is_dark_where_the_system_is_or_the_person_says_so(browser: Any, file: Path) -> None:
    def brightness(page: Any) -> tuple[float, float]:
        """That of the paper, and of the letters in a chart."""
        rgb = "s => getComputedStyle(document.querySelector(s[0]))[s[1]]"
        paper, ink = (
            page.evaluate(rgb, where)
            for where in (["body", "backgroundColor"], [".chart .role-axis-label text", "fill"])
        )
        return tuple(sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 765 for colour in (paper, ink))  # type: ignore[return-value]

    page = drawn(browser.new_page(color_scheme="dark"), file)
    paper, ink = brightness(page)
    assert paper < 0.2 < 0.8 < ink
    page.focus("#theme-auto")
    page.keyboard.press("ArrowRight")
    assert page.is_checked("#theme-light")
    paper, ink = brightness(page)
    assert ink < 0.2 < 0.8 < paper


def test_a_narrow_screen_scrolls_in_one_direction_only(browser: Any, file: Path) -> None:
    page = drawn(browser.new_page(viewport={"width": 360, "height": 740}), file)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_suspects_are_saved_as_a_file(opened: Any) -> None:
    with opened.expect_download() as download:
        opened.locator("#export").press("Enter")
    assert download.value.suggested_filename == "suspects.csv"
    assert Path(download.value.path()).read_text().startswith("row,key,label,")
