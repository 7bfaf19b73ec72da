"""Every Python block of every page runs, and every relative link leads somewhere."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import ScoreStore

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GUIDES = [
    guide for room in ("adaptive_sampler", "tests", "benchmarks") for guide in sorted((ROOT / room).rglob("README.md"))
]
WITHOUT_CODE = {
    *(ROOT / "docs" / f"{name}.md" for name in ("design", "glossary", "messages", "papers", "frameworks/ray_train")),
    *(ROOT / "docs" / f"{name}.md" for name in ("command_line", "releasing")),
    *(ROOT / "docs" / "api").glob("*.md"),
}
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def given() -> dict[str, Any]:
    """What every page takes for granted that its reader has: data, a model, an optimizer."""
    torch.manual_seed(0)
    images, labels = torch.randn(600, 8, 8), torch.arange(600) % 10
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    return {
        "np": np,
        "torch": torch,
        "nn": torch.nn,
        "DataLoader": torch.utils.data.DataLoader,
        "train_set": torch.utils.data.TensorDataset(images, labels),
        "test_set": torch.utils.data.TensorDataset(images[:100], labels[:100]),
        "labels_of_train_set": labels.numpy(),
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights & Biases and MLflow write to a temporary folder and ask no server; what they begin ends with the page."""
    where = {"WANDB_DIR": str(tmp_path), "MLFLOW_TRACKING_URI": f"file:{tmp_path}/mlruns"}
    offline = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
    for name, value in (
        where | offline | {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    ).items():
        monkeypatch.setenv(name, value)
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@each_page
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tools: None) -> None:
    monkeypatch.chdir(tmp_path)
    text, namespace = page.read_text(), given()
    blocks = list(BLOCK.finditer(text))
    for block in blocks:
        above = text.count("\n", 0, block.start(1))  # so that a traceback shows the page's own line
        exec(compile("\n" * above + block[1], str(page), "exec"), namespace)
    for value in namespace.values():
        if isinstance(value, ScoreStore):
            value.close()


def test_the_first_block_of_the_readme_runs_twice_and_the_scores_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    block = BLOCK.search(PAGES[0].read_text())
    assert block
    seen = []
    for _ in range(2):
        namespace = given()
        exec(compile(block[1], "README.md", "exec"), namespace)
        with namespace["store"] as store:
            seen.append(store.count("el2n").sum())
            assert namespace["sampler"].plan.num_rows == 300
            assert len(store.versions()) == 2
    # 3 epochs on all 600 rows, then 7 on half of each class; the second training does the same again
    assert seen == [3 * 600 + 7 * 300, 2 * (3 * 600 + 7 * 300)]


@pytest.mark.parametrize("page", [*PAGES, *GUIDES], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_heading(page: Path) -> None:
    for target, heading in LINK.findall(page.read_text()):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if heading:
            assert heading[1:] in anchors(file), f"{page.name} links to {target}{heading}, a heading that is not there"


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_message_that_is_explained_is_one_of_ours() -> None:
    page = (ROOT / "docs" / "messages.md").read_text()
    source = "\n".join(file.read_text() for file in (ROOT / "adaptive_sampler").rglob("*.py"))
    explained = re.findall(r"^### `(.*)`$", page, re.MULTILINE)
    assert len(explained) > 10
    assert [message for message in explained if message not in source] == []


def test_there_are_blocks_to_run() -> None:
    assert {page for page in PAGES if not BLOCK.search(page.read_text())} == WITHOUT_CODE
