"""The demo runs at its smallest size, leaves what it says, and is honest in how it compares."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("typer")
pytest.importorskip("matplotlib")

from rich.console import Console
from typer.testing import CliRunner

from adaptive_sampler import ScoreStore
from adaptive_sampler.commands.app import app
from adaptive_sampler.commands.demo import DemoSettings, run
from adaptive_sampler.commands.demo.data import load, with_cue, with_wrong_labels
from adaptive_sampler.commands.demo.experiments import KEEP, OFFSETS, UPSAMPLE, Result
from adaptive_sampler.commands.demo.outcome import lines, verdicts
from adaptive_sampler.errors import InvalidValue


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def printed(output: Path) -> str:
    environment = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner().invoke(app, ["demo", "--quick", "--output", str(output)], env=environment)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def results(output: Path, printed: str) -> list[Result]:
    return [Result(**result) for result in json.loads((output / "results.json").read_text())]


def test_every_method_is_reported_for_every_seed(results: list[Result]) -> None:
    methods = {(result.question, result.method) for result in results}
    assert len(methods) == 11
    assert len(results) == 2 * len(methods)
    assert {(result.question, result.method, result.seed) for result in results} == {
        (*m, s) for m in methods for s in (0, 1)
    }


def test_the_table_has_a_line_for_every_method(printed: str, results: list[Result]) -> None:
    assert all(any(line.strip().startswith(result.method) for line in printed.splitlines()) for result in results)
    assert printed.count("±") > 11


def test_the_output_says_where_store_and_figure_are(printed: str, output: Path) -> None:
    assert str(output / "demo.png") in printed
    assert str(output / "seed-0" / "wrong-labels") in printed
    assert (output / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_the_output_has_three_lines_for_ones_own_loop(printed: str) -> None:
    code = [line.split(" = ")[0] for line in printed.strip().splitlines()[-5:-2]]
    assert code == ["store", "sampler", "criterion"]


def test_the_output_ends_with_the_page_whose_samples_are_the_digits(printed: str, output: Path) -> None:
    assert printed.strip().endswith(f"in a browser: {output / 'report.html'}")
    page = (output / "report.html").read_text()
    assert page.count("data:image/png;base64,") > 20
    assert "Prune(keep=0.8, by=&#39;margin&#39;" in page


def test_the_page_is_opened_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("adaptive_sampler.commands.demo.run", lambda settings, console: None)
    result = CliRunner().invoke(app, ["demo", "--quick", "--open", "--output", str(tmp_path)])
    assert result.exit_code == 0
    assert opened == [(tmp_path / "report.html").as_uri()]


def test_the_scores_are_the_mean_of_the_early_runs(output: Path, printed: str) -> None:
    with ScoreStore.open(output / "seed-0" / "clean", mode="r") as store:
        assert (store.count("el2n") == 5).all()
        assert [name for name in store.about["runs"] if name] == [f"early run {run}" for run in range(5)]


def test_the_second_stage_of_jtt_leaves_the_mistakes_of_the_first(output: Path, printed: str) -> None:
    with ScoreStore.open(output / "seed-0" / "cue", mode="r") as store:
        assert [(version.version, version.note) for version in store.versions()] == [(1, "mistakes of the first stage")]
        assert (store.count("error") == 1).all()  # observed once, after the first stage
        assert 0 < store["error"].sum() < len(store)


def test_half_the_samples_take_half_the_steps_unless_steps_are_equal(results: list[Result]) -> None:
    steps = {result.method: result.steps for result in results if result.question == "clean labels"}
    half = -(-round(KEEP * 200) // 32)
    assert steps["full set"] == 3 * -(-200 // 32)
    assert steps["half by EL2N"] == steps["random half"] == 3 * half
    assert steps["half by EL2N, equal steps"] == steps["random half, equal steps"] == steps["full set"]


def test_what_is_chosen_is_one_of_what_was_tried(results: list[Result]) -> None:
    chosen = {(r.method, r.choice) for r in results if r.choice is not None}
    allowed = {("half in a window of EL2N", offset) for offset in OFFSETS} | {("JTT", factor) for factor in UPSAMPLE}
    assert chosen
    assert chosen <= allowed


def test_a_run_repeats_to_the_last_digit(tmp_path: Path, results: list[Result]) -> None:
    settings = DemoSettings(output=tmp_path, seeds=1, epochs=3, samples=200)
    assert run(settings, Console(quiet=True)) == [result for result in results if result.seed == 0]


def test_train_validation_and_test_share_no_image() -> None:
    data = load("digits", None, None, seed=3)
    parts = [{image.tobytes() for image in part.images} for part in (data.train, data.validation, data.test)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 1797


def test_a_wrong_label_is_always_another_class() -> None:
    train = load("digits", None, None, seed=0).train
    noisy = with_wrong_labels(train, 0.2, seed=0)
    assert int((noisy.labels != train.labels).sum()) == round(0.2 * len(train))
    assert set(noisy.labels) == set(range(10))


def test_the_cue_tells_the_class_as_often_as_it_should() -> None:
    cued = with_cue(load("digits", None, None, seed=0).train, 0.95, seed=0)
    bright = cued.images[:, 0, 0] == 1
    assert (bright == cued.labels).mean() == pytest.approx(0.95, abs=0.02)
    assert cued.groups is not None
    assert (cued.groups == 2 * cued.labels + bright).all()


def result(method: str, seed: int, accuracy: float) -> Result:
    return Result("q", method, seed, 1, accuracy)


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ([3, 4, 5], "better"),
        ([-3, -4, -5], "worse"),
        ([3, -4, 5], "no clear difference"),
        ([0, 0, 0], "no clear difference"),
    ],
)
def test_a_difference_is_called_clear_only_where_its_interval_leaves_out_zero(
    differences: list[int], word: str
) -> None:
    results = [result("full set", seed, 90) for seed in range(3)]
    results += [result("JTT", seed, 90 + difference) for seed, difference in enumerate(differences)]
    assert f"JTT − full set: {word}, " in verdicts(results)[0]


def test_one_seed_is_said_to_tell_nothing() -> None:
    assert "one seed tells nothing" in verdicts([result("full set", 0, 90), result("JTT", 0, 99)])[0]


def test_a_line_is_mean_and_standard_deviation_over_seeds() -> None:
    line = lines([result("full set", seed, accuracy) for seed, accuracy in enumerate([90, 92, 94])])[0]
    assert line.accuracy == (92, 2)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_fashion_mnist_is_read_from_its_idx_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, n in (("train", 90), ("t10k", 30)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 28, 28), np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", rng.integers(0, 10, n, np.uint8))
    data = load("fashion-mnist", tmp_path, 40, seed=0)
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 20, 30)
    assert data.train.images.shape == (40, 28, 28)
    assert 0.9 < data.train.images.max() <= 1


def test_missing_fashion_mnist_is_said_with_the_command_that_installs_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="apt-get install dataset-fashion-mnist"):
        load("fashion-mnist", tmp_path, None, seed=0)
