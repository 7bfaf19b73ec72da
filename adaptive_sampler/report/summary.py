"""What a store is, in words and numbers: where it comes from, its scores, its versions, and what a plan keeps."""

import json
from datetime import datetime
from typing import Any

import numpy as np

from adaptive_sampler import version
from adaptive_sampler.plan import Plan
from adaptive_sampler.report.ordering import Ordered
from adaptive_sampler.report.plans import kind, parts
from adaptive_sampler.report.samples import shortened
from adaptive_sampler.store import ScoreStore

_LONGEST = 400  # letters of a fact
_VERSIONS = 12  # that are listed


def cards(store: ScoreStore, plan: Plan | None) -> list[tuple[str, str, str]]:
    """The four facts that come first: (name, value, more)."""
    names = store.names
    seen = max((store.observed(name) for name in names), default=0)
    versions = store.versions()
    since = f"newest: {_time(versions[-1].time)}" if versions else "none committed yet"
    kept = ("kept", "–", "no plan is saved yet")
    if plan is not None:
        share = f"{plan.num_rows:,} of {plan.n:,} rows by {kind(plan)}"
        kept = ("kept", f"{plan.num_rows / max(plan.n, 1):.1%}", share)
    return [
        ("rows", f"{len(store):,}", f"{seen:,} observed"),
        ("scores", f"{len(names):,}", ", ".join(names) or "none yet"),
        ("versions", f"{len(versions):,}", since),
        kept,
    ]


def scores(store: ScoreStore, ordered: dict[str, Ordered]) -> list[list[str]]:
    """A line a score: name, observed, times, last epoch, lowest, median, highest, not finite."""
    lines = []
    for name in store.names:
        observed = store.observed(name)
        line = [name, f"{observed:,}", *["–"] * 6]
        if observed:
            seen = store.count(name) > 0
            values = np.sort(store[name][~np.isnan(store[name])]) if name not in ordered else ordered[name].scores
            middle = _median(values)
            line[2:7] = [f"{store.count(name)[seen].mean():.1f}", f"{store.last_seen(name).max()}"] + [
                f"{value:.4g}" for value in (values[0], middle, values[-1])
            ]
            line[7] = f"{np.count_nonzero(~np.isfinite(values)):,}"
        lines.append(line)
    return lines


def _median(ascending: np.ndarray) -> float:
    """As NumPy's: between the two in the middle. Of −inf and inf there is none, NaN."""
    below, above = (float(ascending[at]) for at in ((len(ascending) - 1) // 2, len(ascending) // 2))
    return below if below == above else (below + above) / 2


def provenance(store: ScoreStore) -> list[tuple[str, str]]:
    """Where the store comes from: (name, fact)."""
    about = store.about
    named = [name or "unnamed" for name in about["runs"]]
    found = [
        ("store", str(store.path)),
        ("id", about["uuid"]),
        ("made", f"{_time(about['created'])} by adaptive-sampler {about['package']}"),
        ("training runs", f"{len(named)}: {', '.join(named)}"),
        ("fingerprint of the data", about["fingerprint"] or "none"),
        ("keys", "each row has one" if store.session.keys is not None else "none: rows are positions"),
        ("columns", ", ".join(f"{name} ({what})" for name, what in about["columns"].items()) or "none"),
        ("metadata", json.dumps(about["metadata"], ensure_ascii=False) if about["metadata"] else "none"),
        ("this page", f"{_time(datetime.now().timestamp())} by adaptive-sampler {version.installed()}"),
    ]
    return [(name, shortened(fact, _LONGEST)) for name, fact in found]


def versions(store: ScoreStore) -> list[list[str]]:
    """A line for each of the newest versions: number, when, pinned, note."""
    newest = store.versions()[::-1][:_VERSIONS]
    return [[str(v.version), _time(v.time), "pinned" if v.pinned else "", shortened(v.note, _LONGEST)] for v in newest]


def planned(plan: Plan) -> list[tuple[str, str]]:
    """What a plan does: (name, fact)."""
    policy = " & ".join(_called(part) for part in parts(plan))
    visits = f"{plan.num_rows:,} of {plan.n:,}, visited {plan.num_samples:,} times in an epoch"
    made = f"commit {plan.made_from.commit} and {plan.made_from.updates:,} updates since"
    weights = "differ from row to row" if plan.weighted else "1 for every row"
    found = [
        ("policy", policy),
        ("rows", visits),
        ("loss weights", weights),
        ("epoch and seed", f"{plan.epoch}, {plan.seed}"),
        ("made from", made),
        ("id", plan.id),
    ]
    return [(name, shortened(fact, _LONGEST)) for name, fact in found]


def _called(part: Any) -> str:
    given = {name: value for name, value in part.items() if name not in ("kind", "parts") and value is not None}
    return f"{part['kind']}({', '.join(f'{name}={_value(value)}' for name, value in given.items())})"


def _value(value: Any) -> str:
    return "…" if isinstance(value, dict) else repr(value)


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
