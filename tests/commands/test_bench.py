"""The benchmark runs what is asked for: its arguments, the kernels beside their limits, and the command as a user types it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rich")

from adaptive_sampler.commands.bench import command, files, floors
from adaptive_sampler.errors import InvalidValue
from tests.commands.contestants import HERE

# -- what is asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "sizes"), [(["10_000"], (10_000,)), (["1e7"], (10**7,)), (["1e5,1e6", "2000"], (10**5, 10**6, 2000))]
)
def test_sizes_are_written_as_people_write_them(texts: list[str], sizes: tuple[int, ...]) -> None:
    assert command.sizes(texts) == sizes


@pytest.mark.parametrize("text", ["many", "0", "-5", "1e3.5", "1000.5", "nan", "inf", "1e30", "", "1e5,"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="a whole number of rows, 1000 or more"):
        command.sizes([text])


def test_a_case_is_chosen_by_a_part_of_its_name() -> None:
    cases, kernels = command.chosen(["SHUFFLED", "kernel: shuffle"])
    assert [case.name for case in cases] == ["shuffled epoch, lists of 256"]
    assert kernels == ["shuffle"]


def test_an_unknown_case_lists_those_there_are() -> None:
    with pytest.raises(InvalidValue, match=r"no case is called that(.|\n)*shuffled epoch, lists of 256"):
        command.chosen(["juggling"])


# -- kernels beside the machine's memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("floor", floors.FLOORS, ids=lambda floor: floor.name)
def test_a_kernel_far_from_its_limit_says_why_and_another_says_nothing(
    floor: floors.Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "LOW", np.inf)
    row = floor.measure(5000, 1)
    assert row["share of it"] > 0
    assert row["why"] == floor.why
    monkeypatch.setattr(floors, "LOW", 0)
    assert floor.measure(5000, 1)["why"] == ""


# -- as a user types it -----------------------------------------------------------------------------------------------


def typed(*arguments: str, hidden: str = "") -> subprocess.CompletedProcess[str]:
    """`adaptive-sampler bench …` in a fresh process in which the package `hidden` is not installed."""
    pytest.importorskip("typer")
    code = (
        f"import sys; sys.argv = ['adaptive-sampler', 'bench', *{arguments!r}]\n"
        f"if {hidden!r}: sys.modules[{hidden!r}] = None\n"
        "from adaptive_sampler.__main__ import main; main()"
    )
    env = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=550)


def test_the_command_lists_cases_and_who_competes() -> None:
    shown = typed("--list", "--case", "shuffled").stdout.splitlines()
    assert shown[:2] == ["shuffled epoch, lists of 256", "  ours"]
    assert any("torch RandomSampler" in line for line in shown)


def test_the_command_writes_rows_tables_and_a_figure_where_it_is_told(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = "--case", "plan: keep", "--n", "1e3,2e3", "--rounds", "1", "--output", str(tmp_path)
    done = typed(*arguments)
    assert done.returncode == 0, done.stderr
    names = {"rows.jsonl", "about.json", "table.md", "figure.png"}
    assert {file.name for file in tmp_path.iterdir()} == names
    assert all(name in done.stdout for name in (*names, "np.argsort"))
    assert [(row["contestant"], row["n"]) for row in files.read(tmp_path)["rows"]] == [
        (name, n) for n in (1000, 2000) for name in ("ours", "np.argpartition", "np.argsort")
    ]


def test_the_command_writes_nothing_where_it_is_not_told(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("t")  # a short path, for a socket's may have 107 bytes
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.chdir(folder)
    done = typed("--quick", "--case", "plan: keep")
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--case", "juggling"], "no case is called that"),
        (["--n", "many"], "a whole number of rows"),
        (["--sampler", f"{HERE}:outside"], "yielded row 1000"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_not_a_traceback(arguments: list[str], said: str) -> None:
    done = typed(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_without_matplotlib_the_extra_is_named_before_anything_runs(tmp_path: Path) -> None:
    done = typed("--quick", "--output", str(tmp_path), hidden="matplotlib")
    assert done.returncode == 1
    assert done.stderr.strip() == 'The figures need matplotlib: pip install "adaptive-sampler[report]"'
