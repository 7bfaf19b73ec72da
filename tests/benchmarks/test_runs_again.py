"""Runs of the evidence are resumed from the results, are done again if that is asked for, and are told beside what was recorded."""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from benchmarks.evidence.repeat import each_run, figures, fits, means, named
from benchmarks.evidence.runs import answer, arguments, recorded, results, same_material, setting_of, together, whole
from benchmarks.evidence.window_settings import QUESTION
from benchmarks.harness import RESULTS

ARGUMENTS = ("--quick", "--runs", "{}/runs", "--out", "{}")


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one question was answered at its smallest size."""
    folder = tmp_path_factory.mktemp("answered")
    asked(folder)
    return folder


@pytest.fixture
def folder(answered: Path, tmp_path: Path) -> Path:
    """A copy of it, without the scores: of runs and results."""
    return Path(shutil.copytree(answered, tmp_path / "folder", ignore=shutil.ignore_patterns("*.zarr")))


def asked(folder: Path, *options: str) -> None:
    """Run the command of one question."""
    given = [argument.format(folder) for argument in ARGUMENTS]
    answer(QUESTION, arguments(QUESTION.about).parse_args([*given, *options]))


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines(keepends=True)


KEPT, LIVE = Path("evidence/window_settings.jsonl"), Path("runs/quick/window_settings.jsonl")


def test_what_the_results_have_is_not_done_again_where_no_run_was_ever_made(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "runs")
    before = content(folder)
    asked(folder)
    assert "window_settings: nothing is missing" in capsys.readouterr().out
    assert content(folder) == before


def test_a_run_that_is_missing_is_made_up_for_and_the_others_are_not_done_again(folder: Path) -> None:
    before = lines(folder / KEPT)
    for file in (KEPT, LIVE):
        (folder / file).write_text("".join(lines(folder / file)[:-1]))
    asked(folder)
    after = lines(folder / KEPT)
    assert after[:-1] == before[:-1]
    again, first = (json.loads(line) for line in (after[-1], before[-1]))
    assert again["found"] == first["found"]


def test_all_runs_are_done_anew_if_that_is_asked_for(folder: Path) -> None:
    shutil.rmtree(folder / "runs")
    kept = recorded(folder / KEPT)
    (folder / KEPT).write_text("".join(json.dumps(r | {"commit": "an old one"}) + "\n" for r in kept))
    asked(folder, "--anew")
    after = recorded(folder / KEPT)
    assert [setting_of(r) for r in after] == [setting_of(r) for r in kept]
    assert not any(r["commit"] == "an old one" for r in after)


def test_a_run_says_commit_processor_and_versions(folder: Path) -> None:
    for record in recorded(folder / KEPT):
        assert {"commit", "cpu", "versions"} <= record.keys()
        assert record["versions"].keys() == {"python", "numpy", "torch"}


def test_a_recorded_run_is_repeated_equal_and_nothing_is_changed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(folder)
    asked(folder, "--repeat", "kept=0.50", "skipped=0.3")
    accuracies = [line.split() for line in capsys.readouterr().out.splitlines() if " accuracy " in line]
    assert len(accuracies) == 3  # two seeds, and their mean
    assert all(told[-1] == "none" for told in accuracies[:2])
    assert content(folder) == before


def test_one_seed_is_repeated_if_that_is_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked(folder, "--repeat", "kept=full", "epochs=2", "--seed", "1")
    assert len([line for line in capsys.readouterr().out.splitlines() if " accuracy " in line]) == 1


def test_the_settings_that_there_are_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked(folder, "--repeat")
    assert "kept=0.75 skipped=0.05 epochs=3\n" in capsys.readouterr().out


def test_a_setting_that_is_not_recorded_is_refused_with_those_that_are(folder: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"no recorded run is of kept=0.7. There are\n(?s:.*)kept=0.75 skipped=0.05 epochs=3"
    ):
        asked(folder, "--repeat", "kept=0.7")


def test_a_run_of_other_texts_than_the_seed_s_other_runs_is_refused() -> None:
    known = [{"seed": 0, "kept": "everything", "text": "Python 3.11.7"}]
    with pytest.raises(
        SystemExit, match=r"window_settings: text is 'Python 3.12.0' here, and 'Python 3.11.7' in the seed's other"
    ):
        same_material(QUESTION, {"kept": "random half", "text": "Python 3.12.0"}, known)
    same_material(QUESTION, {"kept": "random half", "text": "Python 3.11.7"}, known)


def test_quick_results_never_take_the_place_of_those_that_are_kept(tmp_path: Path) -> None:
    given = argparse.Namespace(quick=True, runs=tmp_path, out=RESULTS)
    assert results(given) == tmp_path / "quick" / "evidence"
    assert results(argparse.Namespace(quick=False, runs=tmp_path, out=RESULTS)) == RESULTS / "evidence"


def test_of_a_run_in_two_files_the_later_one_counts_in_the_place_of_the_earlier() -> None:
    kept = [{"seed": 0, "by": by, "found": 1} for by in ("a", "b")]
    later = [{"seed": 0, "by": by, "found": 2} for by in ("c", "a")]
    assert [(r["by"], r["found"]) for r in together(kept, later)] == [("a", 2), ("b", 1), ("c", 2)]


def test_another_version_of_what_a_run_is_made_with_is_not_another_run() -> None:
    assert setting_of({"seed": 0, "from": "folds", "cleanlab": "2.9.0"}) == setting_of(
        {"seed": 0, "from": "folds", "cleanlab": None}
    )


def test_a_seed_with_a_run_missing_is_left_out_of_the_table() -> None:
    records = [{"seed": seed, "of": 2} for seed in (0, 0, 1)]
    assert whole(records) == records[:2]


def test_a_seed_that_was_whole_before_its_question_had_more_runs_is_not_whole() -> None:
    more = [{"seed": 0, "of": 3}]
    assert whole([{"seed": 0, "of": 2}, {"seed": 0, "of": 2}]) != []
    assert whole([{"seed": 0, "of": 2}, *more]) == []
    assert len(whole([{"seed": 0, "of": 2}, {"seed": 0, "of": 2}, *more])) == 3


@pytest.mark.parametrize(
    ("asked_for", "fit"),
    [("noise=0", True), ("noise=0.00", True), ("noise=0.1", False), ("by=el2n", True), ("keep=1", False)],
)
def test_a_setting_is_asked_for_by_some_of_its_values(asked_for: str, fit: bool) -> None:
    assert fits({"seed": 0, "noise": 0.0, "by": "el2n"}, [asked_for]) is fit


def test_a_setting_is_told_as_a_shell_takes_it() -> None:
    record = {"seed": 3, "method": "hard, not suspect", "pace": 2.0, "found": {}, "of": 1, "texts": "abc"}
    assert named(record) == "'method=hard, not suspect' pace=2.0"


@pytest.mark.parametrize("file", sorted((RESULTS / "evidence").glob("*.jsonl")), ids=lambda file: file.stem)
def test_every_kind_of_figure_that_is_kept_can_be_told_beside_its_like(file: Path) -> None:
    runs = [r for r in recorded(file) if r["seed"] == 0]
    assert {row["difference"] for row in each_run(runs, runs)} == {"none"}
    assert means(runs, runs) == []  # of one seed


def test_figures_within_figures_have_a_name_each() -> None:
    flat = figures({"accuracy": 90.0, "loss": {"recall": [1, 2]}, "curve": [[1, 2], [3, 4]], "chosen": "JTT"})
    assert flat["chosen"] == "JTT"
    assert {k: v.tolist() for k, v in flat.items() if isinstance(v, np.ndarray)} == {
        "accuracy": [90.0],
        "loss, recall": [1.0, 2.0],
        "curve": [1.0, 2.0, 3.0, 4.0],
    }


def test_both_figures_are_told_with_their_largest_difference_and_the_means_over_the_seeds() -> None:
    mine, again = (
        [
            {"seed": s, "by": "a", "found": {"accuracy": 90.0 + s + more, "all": [1.0, 2.0 - more], "chosen": "b"}}
            for s in (0, 1)
        ]
        for more in (0.0, 0.5)
    )
    told = {
        (row["seed"], row["figure"]): (row["recorded"], row["repeated"], row["difference"])
        for row in each_run(mine, again)
    }
    assert told[0, "accuracy"] == ("90", "90.5", "+0.5")
    assert told[1, "all"] == ("1.5", "1.25", "-0.5")
    assert told[1, "chosen"] == ("b", "b", "none")
    rows = {row["mean of"]: row for row in means(mine, again)}
    assert rows["accuracy"]["difference"] == "+0.5 ± 0"
    assert rows["accuracy"]["recorded"] == "90.5 ± 0.5"
