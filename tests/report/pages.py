"""What the tests of the page share: stores to look at, and the browser that looks."""

import html as markup
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Confidence, Entropy, Margin, Variability

N, CLASSES = 300, 4
LABELS = np.arange(N) % CLASSES


def trained(path: Path | None, n: int = N, *, seen: int | None = None, **more: Any) -> ScoreStore:
    """A store of three epochs, each committed; only the first `seen` rows were observed."""
    store = ScoreStore.create(path, n, [EL2N(), Margin(), Confidence(), Variability(), Entropy()], **more)
    rng = np.random.default_rng(0)
    rows = np.arange(n)[:seen]
    for epoch in range(3):
        logits = rng.normal(size=(len(rows), CLASSES)) + (1 + epoch) * np.eye(CLASSES)[rows % CLASSES]
        store.update(rows, epoch=epoch, logits=logits, labels=rows % CLASSES)
        store.commit(f"epoch {epoch}")
    return store


def written(store: ScoreStore, folder: Path, **options: Any) -> str:
    """The text of the store's page."""
    from adaptive_sampler import report

    return report.html(store, folder / "page.html", **options).read_text(encoding="utf-8")


def charts(page: str) -> dict[str, Any]:
    """The specifications of the page's charts, by their places."""
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def words(page: str) -> str:
    """What a person reads: the text of the elements, without the scripts."""
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", markup.unescape(re.sub(r"<[^>]*>", " ", body)))
