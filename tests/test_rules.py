"""The finder of broken rules sees what is planted: each fault in a small package of its own."""

from pathlib import Path

import pytest

import adaptive_sampler
from tests import rules
from tests.imports import Package
from tests.planted import planted

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

# -- kernels ------------------------------------------------------------------------------------------------------------

JIT = "def kernel(function): ...\nclass Kernel: ...\n"
KERNEL = "from planted.kernels.jit import kernel\n"


@pytest.mark.parametrize(
    "source",
    [
        "from numba import njit\n",
        "from numba import njit as fast\n",
        "import numba as nb\nf = nb.njit(len)\n",
        "from planted.kernels.jit import kernel as compiled\n",
        "from planted.kernels.jit import Kernel\ndef f(): ...\ng = Kernel(f)\n",
        KERNEL + "def f(): ...\ng = list(map(kernel, [f]))\n",
        KERNEL + "compiled = kernel\n",
        KERNEL + "from planted.low import VALUE\ng = kernel(VALUE)\n",
        KERNEL + "g = kernel(lambda x: x)\n",
    ],
)
def test_another_way_to_compile_is_found(tmp_path: Path, source: str) -> None:
    assert rules.other_ways_to_compile(planted(tmp_path, kernels__jit=JIT, middle=source), "planted.middle")


@pytest.mark.parametrize(
    "source",
    [
        KERNEL + "@kernel\ndef f(x): ...\n",
        KERNEL + "def f(x): ...\ng = kernel(f)\n",
        "import torch\nimport numpy as np\ntorch.jit.script, np.vectorize\n",
        "for kernel in 1, 2:\n    print(kernel)\n",
    ],
)
def test_the_one_way_to_compile_is_fine(tmp_path: Path, source: str) -> None:
    assert rules.other_ways_to_compile(planted(tmp_path, kernels__jit=JIT, middle=source), "planted.middle") == []


@pytest.mark.parametrize("source", ["njit(parallel=True)", "njit(**{'parallel': True})", "njit(**dict(parallel=True))"])
def test_a_wish_for_threads_is_found(tmp_path: Path, source: str) -> None:
    assert rules.asks_for_threads(planted(tmp_path, low=f"{source}\n"), "planted.low")


@pytest.mark.parametrize(
    ("source", "foreign"),
    [
        ("from planted.low import VALUE\n@kernel\ndef f(x):\n    return VALUE\n", "VALUE"),
        ("from planted.low import VALUE as v\n@kernel\ndef f(x):\n    return v\n", "v"),
        ("from planted import low as v\n@kernel\ndef f(x):\n    return v.VALUE\n", "v"),
        ("from planted.low import VALUE\nv = VALUE + 1\n@kernel\ndef f(x):\n    return v\n", "v"),
        ("from planted.low import VALUE\ndef f(x):\n    return VALUE\ng = kernel(f)\n", "VALUE"),
    ],
    ids=["name", "another name", "module", "made of it", "call"],
)
def test_what_a_kernel_has_of_others_is_found(tmp_path: Path, source: str, foreign: str) -> None:
    package = planted(tmp_path, kernels__jit=JIT, middle=KERNEL + source)
    named = {i.bound for i in package.imports if i.importer == "planted.middle" and i.module != "planted.kernels.jit"}
    (found,) = rules.foreign_callees(package, "planted.middle", named)
    assert found.startswith("planted/middle.py:")
    assert found.endswith(f": the kernel f uses {foreign}")


# -- names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "class Thing: ...\n",
        "def f():\n    class Thing: ...\n",
        "class THING: ...\n",
        "Thing = NamedTuple('Thing', [('n', int)])\n",
        "from planted.low import Other as Thing\n",
    ],
    ids=["top", "function", "capitals", "NamedTuple", "another name"],
)
def test_a_class_name_that_comes_twice_is_found(tmp_path: Path, source: str) -> None:
    package = planted(tmp_path, low="class Thing: ...\nclass Other: ...\n", middle=source)
    first, second = rules.classes(package)["thing"]
    assert first == "planted/low.py:1: Thing"
    assert second.startswith("planted/middle.py:")


@pytest.mark.parametrize(
    "source",
    [
        "from planted.low import _own\n",
        "from planted import low\nlow._own\n",
        "def f(thing):\n    thing.it._kept = 1\n",
    ],
    ids=["import", "module", "object"],
)
def test_a_private_name_of_another_file_is_found(tmp_path: Path, source: str) -> None:
    low = "_own = 1\nclass Thing:\n    def __init__(self):\n        self._kept = 1\n"
    package = planted(tmp_path, low=low, middle=source, room__high="")
    assert len(rules.private_names_of_others(package, ())) == 1
    assert len(rules.private_names_of_others(package, {"_kept"})) == ("_kept" not in source)


def test_a_private_name_of_a_class_of_the_file_or_of_somebody_else_is_fine(tmp_path: Path) -> None:
    low = "class Thing:\n    def __eq__(self, other):\n        self._kept = 1\n        return other._kept, torch._C\n"
    assert rules.private_names_of_others(planted(tmp_path, low=low), ()) == []


# -- the store -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "store.session.clock._epoch = 3",
        "store.session.clock._epoch += 3",
        "store.session.clock._epoch, n = 3, 4",
        "c = store.session.clock; c._delivered = 3",
        "for store.session.clock._epoch in range(3): ...",
        "setattr(store.session.clock, '_epoch', 3)",
        "vars(store.session.clock)['_epoch'] = 3",
        "store.session.clock.__dict__.update(_epoch=3)",
        "store.session.clock = other",
        "self.store.epoch = 3",
        "kept = self.store; kept.epoch = 3",
        "def f(kept: ScoreStore | None): kept.epoch = 3",
        "class Late(Clock): ...",
    ],
)
def test_a_write_to_the_clock_is_found(tmp_path: Path, source: str) -> None:
    (found,) = rules.clock_writes(planted(tmp_path, low=f"{source}\n"), "planted.low")
    assert found.startswith("planted/low.py:1: ")


@pytest.mark.parametrize(
    "source", ["self._epoch = 3", "link.epoch = 3", "self.clock = Clock(3)", "store.session.clock.show(store.epoch)"]
)
def test_a_write_to_something_else_is_none_to_the_clock(tmp_path: Path, source: str) -> None:
    assert rules.clock_writes(planted(tmp_path, low=f"{source}\n"), "planted.low") == []


@pytest.mark.parametrize(
    "source",
    ["ScoreStore.extra = 1", "setattr(ScoreStore, 'extra', 1)", "self.store.extra = 1", "s = self.store; s.extra = 1"],
)
def test_a_member_given_to_a_store_is_found(tmp_path: Path, source: str) -> None:
    assert len(rules.members_given_to_a_store(planted(tmp_path, low=f"{source}\n"), "planted.low")) == 1


def test_a_store_given_to_another_object_is_none_of_its_members(tmp_path: Path) -> None:
    source = "self.store = store\nstore.session.rehearsal = True\nsetattr(self.criterion, name, store)\n"
    assert rules.members_given_to_a_store(planted(tmp_path, low=source), "planted.low") == []


@pytest.mark.parametrize(
    "source", ["store.session.files.repository", "s = store.session; s.files", "self.session.drained.files"]
)
def test_storage_taken_from_a_session_is_found(tmp_path: Path, source: str) -> None:
    assert len(rules.storage_through_a_session(planted(tmp_path, low=f"{source}\n"), "planted.low")) == 1


# -- figures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", ["axes.legend()", "plt.legend(fontsize=8)", "panels[1].legend(loc='best')", "axes.legend(loc=0)"]
)
def test_a_legend_without_a_place_is_found(tmp_path: Path, source: str) -> None:
    (found,) = rules.legends_without_a_place(planted(tmp_path, low=f"{source}\n"), "planted.low")
    assert found.startswith("planted/low.py:1: ")


@pytest.mark.parametrize("source", ["axes.legend(loc='upper left')", "axes.get_legend()", "_legend(page)"])
def test_a_legend_with_a_place_and_what_is_no_legend_are_fine(tmp_path: Path, source: str) -> None:
    assert rules.legends_without_a_place(planted(tmp_path, low=f"{source}\n"), "planted.low") == []


@pytest.mark.parametrize("folder", [Path(adaptive_sampler.__file__).parent, BENCHMARKS], ids=lambda folder: folder.name)
def test_no_legend_of_ours_is_without_a_place(folder: Path) -> None:
    package = Package(folder)
    wrong = [where for module in package.files for where in rules.legends_without_a_place(package, module)]
    assert not wrong, "give each a fixed place, loc=:\n" + "\n".join(wrong)
