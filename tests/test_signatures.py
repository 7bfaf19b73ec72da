"""What `help` shows of a public call: its real signature, and a word on every argument."""

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from adaptive_sampler import ScoreStore

MODULES = ["adaptive_sampler", "adaptive_sampler.scoring", "adaptive_sampler.selection", "adaptive_sampler.shards"]
MODULES += ["adaptive_sampler.tables", "adaptive_sampler.choice", "adaptive_sampler.loggers"]
MODULES += ["adaptive_sampler.ranking"]
# Of the adapters those whose package is here: a wheel is tested without them too.
MODULES += [f"adaptive_sampler.{name}" for name in ("torch", "webdataset") if find_spec(name)]
# What every score has, told by scoring.base; what protocols are made with; what a store is made by: create and open
ELSEWHERE = {"name", "fold", "args", "kwargs", "opened", "mode", "self", "store"}


def public() -> dict[str, Callable[..., Any]]:
    """Every public function and class by module and name, but for errors; and what makes a store or takes tables."""
    makers = ("create", "open", "from_table", "merge", "fold_table", "export", "to_arrow", "to_pandas")
    found = {f"ScoreStore.{name}": getattr(ScoreStore, name) for name in makers}
    for module in MODULES:
        part = import_module(module)
        for name in part.__all__:
            member = getattr(part, name)
            if callable(member) and not (inspect.isclass(member) and issubclass(member, Exception)):
                found[f"{module.removeprefix('adaptive_sampler.')}.{name}"] = member
    return found


CALLS = public()


@pytest.mark.parametrize("name", CALLS)
def test_help_says_a_word_on_every_argument(name: str) -> None:
    call = CALLS[name]
    text = (call.__doc__ or "") + ((call.__init__.__doc__ or "") if inspect.isclass(call) else "")  # type: ignore[misc]  # of this very class
    silent = [p for p in inspect.signature(call).parameters if p not in ELSEWHERE and not re.search(rf"\b{p}\b", text)]
    assert not silent


@pytest.mark.parametrize("name", [name for name in CALLS if name.endswith("Sampler")])
def test_a_samplers_signature_hides_no_keyword_behind_stars(name: str) -> None:
    kinds = {p.kind for p in inspect.signature(CALLS[name]).parameters.values()}
    assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
