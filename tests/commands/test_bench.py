"""The benchmark runs every contestant that it can, says why it leaves one out, and looks at a user's own sampler first."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rich")

from rich.console import Console

from adaptive_sampler.commands.bench import arena, command, files, floors
from adaptive_sampler.commands.bench.arena import Out, Turns, compete, compete_in_one
from adaptive_sampler.commands.bench.base import Case, Contestant, Package
from adaptive_sampler.commands.bench.contest import Contests
from adaptive_sampler.commands.bench.contestants import own
from adaptive_sampler.errors import InvalidValue

HERE = "tests.commands.test_bench"
ABSENT = Package("no_such_package_of_anybody", "no-such-package")


# -- samplers and contestants that the tests name as "module:function" ------------------------------------------------


class Walk:
    """What `epoch` yields, anew each time."""

    def __init__(self, epoch: Callable[[], Any]) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        return iter(self.epoch())


def shuffled(n: int) -> Walk:
    return Walk(lambda: np.random.default_rng().permutation(n).tolist())


def arrays(n: int) -> Walk:
    return Walk(lambda: np.array_split(np.random.default_rng().permutation(n), 7))


def lists(n: int, batch_size: int) -> Walk:
    return Walk(lambda: [list(range(i, min(i + batch_size, n))) for i in range(0, n, batch_size)])


def scalars(n: int) -> Walk:
    return Walk(lambda: np.arange(n))


def seeded(n: int, seed: int = 0) -> Walk:
    assert seed == 0, "only a parameter named batch_size is given one"
    return shuffled(n)


def every_other(n: int) -> Walk:
    return Walk(lambda: range(0, n, 2))


def drawn(n: int) -> Walk:
    return Walk(lambda: np.random.default_rng().integers(0, n, n))


def once(n: int) -> Any:
    return (i for i in range(n))


def too_few(n: int) -> Walk:
    return Walk(lambda: range(n - 7))


def outside(n: int) -> Walk:
    return Walk(lambda: range(1, n + 1))


def words(n: int) -> Walk:
    return Walk(lambda: ["a"] * n)


def fractions(n: int) -> Walk:
    return Walk(lambda: np.arange(n) / 2)


def endless(n: int) -> Walk:
    return Walk(lambda: iter(lambda: 0, 1))


def nothing(n: int) -> None:
    return None


def without_rows() -> Walk:
    return Walk(list)


def breaking(n: int) -> Walk:
    return Walk(lambda: ({}["lost"] for _ in range(n)))


def naps(n: int, seconds: float) -> Callable[[], None]:
    return lambda: time.sleep(seconds)


def says(n: int, seconds: float) -> Callable[[], float]:
    return lambda: seconds


def holds(n: int, mib: int) -> Callable[[], None]:
    return lambda: np.ones(mib << 20, np.uint8).sum() and None  # touched, so that it is really there


class Keeps:
    """Holds from the first turn on what each turn works on."""

    def __init__(self, n: int) -> None:
        self.kept: Any = None

    def __call__(self) -> None:
        if self.kept is None:
            self.kept = np.ones(64 << 20, np.uint8)


def fails(n: int) -> Callable[[], None]:
    raise ValueError(f"cannot exceed {n}\nand a second line")


def fails_later(n: int) -> Callable[[], None]:
    return lambda: fails(n)  # type: ignore[return-value]


def dies(n: int) -> Callable[[], None]:
    return lambda: os._exit(9)


# -- the arena --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> dict[str, Turns | Out]:
    """One contest of many kinds of contestants."""
    return compete(
        {
            "short": (f"{HERE}:naps", (1, 0.001)),
            "long": (f"{HERE}:naps", (1, 0.02)),
            "large": (f"{HERE}:holds", (1, 64)),
            "keeps": (f"{HERE}:Keeps", (1,)),
            "fails": (f"{HERE}:fails", (1,)),
            "fails later": (f"{HERE}:fails_later", (1,)),
            "dies": (f"{HERE}:dies", (1,)),
        },
        rounds=3,
    )


def test_a_contestant_has_its_own_seconds(found: dict[str, Any]) -> None:
    assert found["long"].seconds > found["short"].seconds >= 0.001
    assert len(found["long"].each) == len(found["short"].each) == 3


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of a turn")
def test_a_contestant_has_its_own_memory(found: dict[str, Any]) -> None:
    assert 60 << 20 < found["large"].memory < 80 << 20
    assert found["short"].memory < 8 << 20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of a turn")
def test_what_a_turn_leaves_behind_counts_as_its_memory(found: dict[str, Any]) -> None:
    assert 60 << 20 < found["keeps"].memory < 80 << 20


def test_one_that_raises_is_out_with_the_first_line_of_its_error(found: dict[str, Any]) -> None:
    assert found["fails"] == Out("ValueError: cannot exceed 1")
    assert found["fails later"] == Out("ValueError: cannot exceed 1")


def test_one_that_dies_is_out_and_the_others_go_on(found: dict[str, Any]) -> None:
    assert found["dies"] == Out("its process ended: killed, perhaps for want of memory")


def test_one_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "PATIENCE", 4.0)
    assert compete({"stuck": (f"{HERE}:naps", (1, 1e6))}, 1) == {"stuck": Out("stopped after 4 s")}


def test_a_slow_contestant_gets_fewer_turns_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "BUDGET", 0.0)
    turns = compete({"slow": (f"{HERE}:naps", (1, 0.01))}, 5)["slow"]
    assert isinstance(turns, Turns)
    assert len(turns.each) == 1


def test_a_ratio_is_the_median_over_the_rounds_that_both_took() -> None:
    ours, theirs = Turns((1.0, 2.0, 1.0, 9.0), 0, 0), Turns((4.0, 6.0, 8.0), 0, 0)  # 4, 3 and 8 times
    assert theirs.times(ours) == 4.0
    assert Turns((4.0,), 0, 0).times(ours) == 4.0


def test_a_turn_may_say_itself_how_long_it_took() -> None:
    turns: Any = compete({"says": (f"{HERE}:says", (1, 5.0))}, 2)["says"]
    assert turns.each == (5.0, 5.0)


def test_in_one_process_each_has_its_own_seconds_and_nobody_memory() -> None:
    found: Any = compete_in_one({"short": (f"{HERE}:naps", (1, 0.001)), "long": (f"{HERE}:naps", (1, 0.02))}, 3)
    assert found["long"].seconds > found["short"].seconds >= 0.001
    assert [(turns.memory, len(turns.each)) for turns in found.values()] == [(None, 3)] * 2


# -- who is left out --------------------------------------------------------------------------------------------------


def contests(*sizes: int, contestant: Contestant, rounds: int = 1) -> list[dict[str, Any]]:
    """The rows of `contestant` at these sizes, against an easy one."""
    ours = Contestant("ours", "numpy:argsort", (0,))
    case, held = Case("sort", (ours, contestant)), Contests(rounds, lambda _: None)
    return [row for n in sizes for row in held.hold(case, n, {}) if row["contestant"] != "ours"]


def test_a_package_that_is_missing_is_named_with_what_installs_it() -> None:
    [row] = contests(1000, contestant=Contestant("theirs", "nobody:runs", (), ABSENT))
    assert (row["s"], row["note"]) == ("", "not installed (pip install no-such-package)")


def test_where_ours_lacks_a_package_nobody_runs() -> None:
    ours = Contestant("ours", "nobody:runs", (), ABSENT)
    rows = Contests(1, lambda _: None).hold(Case("case", (ours, Contestant("other", "numpy:argsort", (0,)))), 1000, {})
    assert [row["s"] for row in rows] == ["", ""]
    assert rows[1]["note"] == "not run: ours needs what is not installed"


def test_a_size_that_would_take_minutes_is_skipped_by_what_a_smaller_one_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive_sampler.commands.bench.contest.TOO_LONG", 1e-9)
    small, large = contests(100_000, 200_000, contestant=Contestant("theirs", "numpy:argsort", (0,)))
    assert small["note"] == ""
    assert re.fullmatch(r"skipped: 0 s a turn, by its \S+ s at n = 100,000", large["note"])


@pytest.mark.parametrize(("grows", "note"), [(True, "skipped: 100 s a turn, by its 10 s at n = 100,000"), (False, "")])
def test_work_that_does_not_grow_is_not_skipped_for_its_size(grows: bool, note: str) -> None:
    theirs = Contestant("theirs", "numpy:argsort", (0,))
    case = Case("sort", (Contestant("ours", "numpy:argsort", (0,)), theirs), grows=grows)
    held = Contests(1, lambda _: None, {(case.name, theirs.name): (100_000, Turns((10.0,), 0, 0))})
    assert held._left_out(case, theirs, 1_000_000) == note


def test_a_size_that_would_need_too_much_memory_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive_sampler.commands.bench.contest.MOST_BYTES", -1)
    _, large = contests(100_000, 200_000, contestant=Contestant("theirs", "numpy:argsort", (0,)))
    assert large["note"] == "skipped: 0 GiB, by what it held at n = 100,000"


def test_a_size_too_small_to_tell_rules_no_larger_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adaptive_sampler.commands.bench.contest.TOO_LONG", 1e-9)
    _, large = contests(1000, 10_000, contestant=Contestant("theirs", "numpy:argsort", (0,)))
    assert large["s"] > 0


def test_the_ratio_says_how_many_times_as_long_as_ours() -> None:
    ours = Contestant("ours", "numpy:argsort", (0,))
    rows = Contests(1, lambda _: None).hold(Case("sort", (ours, Contestant("other", "numpy:argsort", (0,)))), 1000, {})
    assert rows[0]["ratio"] == 1
    assert rows[1]["ratio"] == rows[1]["s"] / rows[0]["s"]  # of one round


def test_where_a_ratio_is_claimed_there_are_three_times_as_many_rounds() -> None:
    ours, other = (Contestant(name, "numpy:argsort", (0,), least=0.1) for name in ("ours", "other"))
    for least_from, rounds in ((1000, 6), (1001, 2)):
        held = Contests(2, lambda _: None).hold(Case("sort", (ours, other), least_from=least_from), 1000, {})
        assert {row["rounds"] for row in held} == {rounds}


# -- a user's own sampler ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "kind"),
    [
        ("shuffled", own.EPOCH),
        ("arrays", own.EPOCH),
        ("lists", own.EPOCH),
        ("scalars", own.EPOCH),
        ("seeded", own.EPOCH),
        ("every_other", own.HALF),
        ("drawn", own.DRAWS),
    ],
)
def test_what_a_sampler_yields_says_where_it_competes(factory: str, kind: str) -> None:
    assert own.kind(f"{HERE}:{factory}") == kind


@pytest.mark.parametrize(
    ("spec", "got"),
    [
        (f"{HERE}:once", "yielded nothing in its second epoch"),
        (f"{HERE}:too_few", "yielded 993 rows, 993 different ones, for n=1000"),
        (f"{HERE}:outside", "yielded row 1000 for n=1000: rows are 0 … 999"),
        (f"{HERE}:words", "yielded 'a', a str and no row"),
        (f"{HERE}:fractions", "a float64 and no row"),
        (f"{HERE}:endless", "goes on after 2,001 rows of n=1000"),
        (f"{HERE}:nothing", "returned None, which cannot be iterated"),
        (f"{HERE}:absent", "has no attribute 'absent'"),
        (f"{HERE}:without_rows", "TypeError: without_rows() takes 0 positional arguments but 1 was given"),
        (f"{HERE}:breaking", f"KeyError: 'lost' ({__file__}, line "),
        ("no_such_module:factory", "No module named 'no_such_module'"),
        ("shuffled", "write module:factory"),
    ],
)
def test_a_sampler_that_fits_nowhere_is_refused_by_what_it_yields(spec: str, got: str) -> None:
    with pytest.raises(InvalidValue, match=re.escape(got)):
        own.kind(spec)


def test_a_sampler_of_ones_own_competes_where_it_fits() -> None:
    console = Console(quiet=True)
    spec = f"{HERE}:every_other"
    settings = command.BenchSettings((1000,), ("half kept, lists", "plan: keep"), 1, (spec,))
    rows = command.run(settings, console)["rows"]
    assert [row["case"] for row in rows if row["contestant"] == spec and row["s"]] == ["half kept, lists of 256"]


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
