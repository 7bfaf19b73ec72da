"""The page's charts as Vega-Lite specifications, made with Vega-Altair.

Vega-Altair, because its charts are SVG, which a screen reader and a printer can read and a style sheet can colour; because what
the sliders change is an expression in the chart, computed by Vega, and not a program of ours; and because the script that a page
needs is 0.9 MB. Plotly's is 4.8 MB; Bokeh's 1.3 MB (1.7 MB with its sliders) draws on a canvas, and its sliders need callbacks in
JavaScript. What a chart looks like depends on no data, so each is made once a process; data are put beside it (`datasets`), and
Altair, which would look through every number, never sees them.
"""

from functools import cache
from typing import Any, TypeAlias

import altair as alt

from adaptive_sampler.report.colours import BLUE, GREEN, GREY, ORANGE, SKY, VERMILION

Rows: TypeAlias = list[dict[str, Any]]
Spec: TypeAlias = dict[str, Any]

INK = "currentColor"  # of the page, so that a chart follows when the page turns dark
_HOLLOW: Spec = {"fill": "transparent", "stroke": INK, "strokeWidth": 0.8, "strokeOpacity": 0.75}
_SOLID: Spec = {"fill": BLUE, "stroke": BLUE, "strokeWidth": 0.8}
_CONFIG: Spec = {
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', sans-serif",
    "view": {"stroke": None},
    "axis": {
        **{f"{part}Color": INK for part in ("label", "title", "domain", "tick", "grid")},
        "gridOpacity": 0.13,
        "domainOpacity": 0.5,
        "tickOpacity": 0.5,
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titlePadding": 8,
    },
    "axisX": {"grid": False},
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "orient": "top"},
    "text": {"color": INK, "fontSize": 12},
}


def histogram(name: str, bins: Rows, cuts: list[float], planned: bool) -> Spec:
    """One score's bars, {"lo", "hi", "kept", "all"}: solid what the plan keeps, hollow the rest. `cuts`: of the plan."""
    return _with(_histogram(planned, bool(cuts)), f"Histogram of {name}", bins=bins, cuts=[{"at": cut} for cut in cuts])


def trial_histogram(facts: Spec, bins: Rows) -> Spec:
    """The bars of the score that is chosen on the page: solid what would stay by the sliders.

    `bins`: of all scores, with the ranks at which they begin and end, {"score", "lo", "hi", "first", "last"}. `facts`: as
    `cuts.facts` returns them.
    """
    return _with_sliders(_trial_histogram(), facts, "What would stay, by score", bins=bins)


def trial_classes(facts: Spec, classes: Rows) -> Spec:
    """A bar a class: what would stay of it. `classes`: {"class", "of", "unseen", "low", "high"}, the latter three by score."""
    return _with_sliders(_trial_classes(len(classes)), facts, "What would stay, by class", classes=classes)


def data_map(cells: Rows, words: Rows, planned: bool) -> Spec:
    """Rings for the rows of each cell, {"x", "y", "all", "kept"}, their area in proportion; discs for those that are kept.

    `words`: {"x", "y", "text", "align"}.
    """
    most = max((cell["all"] for cell in cells), default=1)
    cells = [
        {**cell, "kept": cell["kept"] / most, "all": cell["all"] / most, "rows": cell["all"], "stay": cell["kept"]}
        for cell in cells
    ]
    return _with(_data_map(planned), "Data map", cells=cells, words=words)


def agreement(pairs: Rows, number: int) -> Spec:
    """The rank correlation of each pair of scores as a number on a colour: {"one", "other", "spearman"}."""
    return _with(_numbers("one", "other", "spearman", ".2f", "blueorange", 44 * number), "Rank agreement", cells=pairs)


def kept_over_time(cells: Rows, number: int, described: str) -> Spec:
    """What is kept of each class as a number on a colour, from left to right in time: {"when", "class", "share"}."""
    return _with(_numbers("when", "class", "share", ".0%", "blues", 24 * number), described, cells=cells)


def stability(lines: Rows) -> Spec:
    """How far each score of each version agrees with that of now: {"version", "score", "spearman"}."""
    return _with(_stability(), "Stability of the scores over versions", lines=lines)


@cache
def _histogram(planned: bool, cut: bool) -> Spec:
    tips = [alt.Tooltip("lo:Q", title="from"), alt.Tooltip("hi:Q", title="to"), alt.Tooltip("all:Q", title="rows")]
    base = alt.Chart(alt.NamedData("bins")).encode(
        x=alt.X("lo:Q", title=None, scale=alt.Scale(zero=False, nice=False)),
        x2="hi:Q",
        tooltip=[*tips, *[alt.Tooltip("kept:Q", title="kept")] * planned],
    )
    bars = base.mark_rect(**(_HOLLOW if planned else _SOLID))
    layers = [
        bars.encode(y=alt.Y("all:Q", title="rows"), y2=alt.datum(0)),
        base.mark_rect(**_SOLID).encode(y=alt.Y("kept:Q"), y2=alt.datum(0)),
    ]
    if cut:  # without a line its axis has no extent, of which Vega warns
        rule = alt.Chart(alt.NamedData("cuts")).mark_rule(color=VERMILION, strokeDash=[5, 3], strokeWidth=2)
        layers.append(rule.encode(x="at:Q", tooltip=alt.Tooltip("at:Q", title="the plan's cut")))
    return _sized(alt.layer(*layers), 150)


@cache
def _trial_histogram() -> Spec:
    tips = {"lo": "from", "hi": "to", "all": "rows", "stay": "would stay"}
    base = (
        alt.Chart(alt.NamedData("bins"))
        .transform_filter("datum.score == by")
        .transform_calculate(
            stay="max(0, min(datum.last, stop) - max(datum.first, start))", all="datum.last - datum.first"
        )
        .encode(
            x=alt.X("lo:Q", title=None, scale=alt.Scale(zero=False, nice=False)),
            x2="hi:Q",
            tooltip=[alt.Tooltip(f"{name}:Q", title=title) for name, title in tips.items()],
        )
    )
    chart = alt.layer(
        base.mark_rect(**_HOLLOW).encode(y=alt.Y("all:Q", title="rows"), y2=alt.datum(0)),
        base.mark_rect(**_SOLID).encode(y="stay:Q", y2=alt.datum(0)),
    )
    return _sized(chart, 240)


@cache
def _trial_classes(number: int) -> Spec:
    stay = "datum.unseen[by] + (offset + keep == 100 ? datum.high[by][100] - datum.top[by][keep]"
    stay += " : max(0, datum.high[by][offset + keep] - datum.low[by][offset]))"
    base = (
        alt.Chart(alt.NamedData("classes"))
        .transform_calculate(stay=stay)
        .transform_calculate(
            share="datum.stay / datum.of",
            told="format(datum.stay, ',') + ' of ' + format(datum.of, ',') + ' (' + format(datum.share, '.0%') + ')'",
        )
        .encode(y=alt.Y("class:N", title=None, sort=None, axis=alt.Axis(labelLimit=160, ticks=False, domain=False)))
    )
    scale = alt.Scale(domain=[0, 1.5], nice=False)
    axis = alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format="%", orient="top", domain=False)
    bars: Spec = {"height": {"band": 0.66}}
    chart = alt.layer(
        base.mark_bar(**bars, **_HOLLOW).encode(x=alt.datum(0), x2=alt.datum(1)),
        base.mark_bar(**bars, **_SOLID).encode(x=alt.X("share:Q", scale=scale, axis=axis, title=None)),
        base.mark_text(align="left", dx=8).encode(x=alt.datum(1), text="told:N"),
    )
    return _sized(chart, 24 * number)


@cache
def _data_map(planned: bool) -> Spec:
    tips = [alt.Tooltip("rows:Q", title="rows")] + [alt.Tooltip("stay:Q", title="kept")] * planned
    base = alt.Chart(alt.NamedData("cells")).encode(
        x=alt.X(
            "x:Q", title="variability: deviation of p(label)", axis=alt.Axis(grid=True), scale=alt.Scale(nice=False)
        ),
        y=alt.Y("y:Q", title="confidence: mean p(label)", scale=alt.Scale(nice=False, padding=12)),
        tooltip=tips,
    )
    size: Spec = {"scale": alt.Scale(type="sqrt", domain=[0, 1], range=[0, 240]), "legend": None}
    named = alt.Chart(alt.NamedData("words"))
    chart = alt.layer(
        base.mark_circle(opacity=1, **(_HOLLOW if planned else _SOLID)).encode(size=alt.Size("all:Q", **size)),
        base.mark_circle(opacity=1, **_SOLID).encode(size=alt.Size("kept:Q", **size)),
        named.mark_text(opacity=0.8, fontStyle="italic", fontSize=13, align=alt.ExprRef("datum.align")).encode(
            x="x:Q", y="y:Q", text="text:N"
        ),
    )
    return _sized(chart, 380)


@cache
def _numbers(x: str, y: str, value: str, style: str, scheme: Any, height: int) -> Spec:
    """A table of numbers, each on a colour that says the same."""
    low, dark = (-1, 0.6) if scheme == "blueorange" else (0, 0.55)
    base = (
        alt.Chart(alt.NamedData("cells"))
        .transform_calculate(told=f"isValid(datum.{value}) ? format(datum.{value}, '{style}') : '–'")
        .encode(
            x=alt.X(
                f"{x}:O", title=None, sort=None, axis=alt.Axis(labelAngle=-30, orient="top", ticks=False, domain=False)
            ),
            y=alt.Y(f"{y}:O", title=None, sort=None, axis=alt.Axis(ticks=False, domain=False, labelLimit=160)),
            tooltip=[alt.Tooltip(f"{x}:N"), alt.Tooltip(f"{y}:N"), alt.Tooltip("told:N", title=value)],
        )
    )
    there, on_dark = f"isValid(datum.{value})", f"abs(datum.{value}) > {dark}"
    colour = alt.Color(f"{value}:Q", scale=alt.Scale(domain=[low, 1], scheme=scheme), legend=None)
    ink = f"!{there} ? '{INK}' : {on_dark} ? 'white' : 'black'"
    chart = alt.layer(
        base.transform_filter(there).mark_rect(stroke="white", strokeOpacity=0.4).encode(color=colour),
        base.mark_text(color=alt.ExprRef(ink)).encode(text="told:N"),
    )
    return _sized(chart, height)


@cache
def _stability() -> Spec:
    same: Spec = {"sort": None, "legend": alt.Legend(columns=3, title=None)}
    base = alt.Chart(alt.NamedData("lines")).encode(
        x=alt.X("version:O", title="version", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("spearman:Q", title="rank correlation with now", scale=alt.Scale(domainMax=1, zero=False)),
        color=alt.Color("score:N", scale=alt.Scale(range=[BLUE, VERMILION, GREEN, ORANGE, SKY, GREY]), **same),
        strokeDash=alt.StrokeDash("score:N", **same),
        tooltip=[alt.Tooltip("score:N"), alt.Tooltip("version:O"), alt.Tooltip("spearman:Q", format=".3f")],
    )
    points = base.mark_point(size=70, filled=True, opacity=1).encode(shape=alt.Shape("score:N", **same))
    return _sized(alt.layer(base.mark_line(strokeWidth=2), points), 260)


# What the sliders choose, and what follows from it, name -> expression: Vega listens to the page's controls and computes these. The
# words among them `page.js` writes where the page has a place for them.
_CALCULATED = {
    "keep": "toNumber(keep_at)",
    "offset": "min(toNumber(offset_at), 100 - keep)",
    "start": "offset + keep == 100 ? facts.scores[by].top[keep] : facts.scores[by].low[offset]",
    "stop": "max(start, facts.scores[by].high[offset + keep])",
    "stays": "facts.scores[by].unseen + stop - start",
    "said_keep": "keep + ' %'",
    "said_offset": "offset + ' %'",
    "said_stays": "format(stays, ',') + ' of ' + format(facts.n, ',') + ' rows stay (' + format(stays / facts.n, '.1%')"
    " + '), ' + format(facts.n - stays, ',') + ' go'",
    "said_range": "stop > start ? facts.scores[by].at[offset] + ' to ' + facts.scores[by].to[offset + keep] : 'none'",
    "said_code": "(offset + keep == 100 ? 'Prune(keep=' : 'Window(keep=') + format(keep / 100, '.2f')"
    " + (offset + keep == 100 ? '' : ', offset=' + format(offset / 100, '.2f')) + ', by=' + facts.scores[by].quoted + ')'",
}


def _with_sliders(chart: Spec, facts: Spec, described: str, **datasets: Rows) -> Spec:
    begin = {
        "by": (facts["by"], "change"),
        "keep_at": (str(facts["keep"]), "input"),
        "offset_at": (str(facts["offset"]), "input"),
    }
    params: Rows = [{"name": "facts", "value": facts}]
    for name, (value, event) in begin.items():
        params.append(
            {"name": name, "value": value, "bind": {"element": f"#{name.removesuffix('_at')}", "event": event}}
        )
    params += [{"name": name, "expr": expression} for name, expression in _CALCULATED.items()]
    return {**_with(chart, described, **datasets), "params": params}


def _with(chart: Spec, described: str, **datasets: Rows) -> Spec:
    return {**chart, "description": described, "datasets": datasets}


def _sized(chart: alt.LayerChart | alt.FacetChart, height: int) -> Spec:
    """The specification of a chart as wide as its place on the page."""
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    found: Spec = chart.properties(width="container", height=height, autosize=fit).to_dict(validate=False)
    return {**found, "config": _CONFIG}
