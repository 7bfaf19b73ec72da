"""Lays the page out: a template that escapes whatever it is given, and a policy that lets nothing run but our two scripts.

The policy (Content-Security-Policy) forbids every request, and scripts of other text than ours: even a label that found a way
around the template would not run. Vega's expressions run in its interpreter (`ast`), because the policy forbids `eval` too.
"""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from adaptive_sampler.report import bundle, summary
from adaptive_sampler.report.content import Content

_TEMPLATE = Path(__file__).parent / "template"


def render(content: Content, title: str) -> str:
    """The text of the page."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATE), autoescape=True, undefined=StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    scripts = [bundle.script(), _own("page.js")] if content.specs else []
    store, plan = content.store, content.plan
    return environment.get_template("page.html.jinja").render(
        title=title,
        policy=_policy(scripts),
        scripts=[Markup(script) for script in scripts],
        style=Markup(_own("page.css")),
        cards=summary.cards(store, plan),
        scores=summary.scores(store, content.ordered),
        provenance=summary.provenance(store),
        versions=summary.versions(store),
        planned=summary.planned(plan) if plan else [],
        page=content,
    )


def _own(name: str) -> str:
    return (_TEMPLATE / name).read_text(encoding="utf-8")


def _policy(scripts: list[str]) -> str:
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts]
    run = " ".join(hashes) or "'none'"
    return f"default-src 'none'; script-src {run}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
