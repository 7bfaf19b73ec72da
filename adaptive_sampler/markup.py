"""How objects show themselves in a notebook: a small table of facts, in which every text is text."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

_LONGEST = 200  # characters of a text; the rest is left out
_MOST = 50  # lines of a table; of more, the rest is counted
_LEFT = ' style="text-align: left"'  # notebooks put cells at the right


def card(
    title: str, facts: Mapping[str, object], head: Sequence[str] = (), lines: Iterable[Sequence[object]] = ()
) -> str:
    """`title`, the `facts`, name -> value, and below them a table with the names of its columns, `head`, and its `lines`.

    What is in them is escaped, so that a key or a path with HTML in it is shown and not run.
    """
    rows = [f"<tr><th{_LEFT}>{_text(name)}</th><td{_LEFT}>{_text(value)}</td></tr>" for name, value in facts.items()]
    shown = [f"<p><b>{_text(title)}</b></p><table>{''.join(rows)}</table>"]
    body = [f"<tr>{''.join(f'<td{_LEFT}>{_text(cell)}</td>' for cell in line)}</tr>" for line in lines]
    if body:
        names = "".join(f"<th{_LEFT}>{_text(name)}</th>" for name in head)
        shown.append(f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(body[:_MOST])}</tbody></table>")
    if len(body) > _MOST:
        shown.append(f"<p>and {len(body) - _MOST:,} more</p>")
    return f"<div>{''.join(shown)}</div>"


def share(part: int, whole: int) -> str:
    """A count and what share of the whole it is, such as "300 of 600 (50.0 %)"."""
    return f"{part:,} of {whole:,}" + (f" ({100 * part / whole:.1f} %)" if whole else "")


def _text(value: object) -> str:
    text = str(value)
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …")
