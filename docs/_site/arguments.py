"""For the site: what a docstring says of its arguments, "`keep`: a fraction …" or "keep: a fraction …", becomes a list."""

import re
from typing import Any

import griffe

NAME = r"`?(\w+)`?"
ENTRY = re.compile(
    rf"(?:^|(?<=[.;] )|(?<=\n)){NAME}((?:, `\w+`)*): ", re.MULTILINE
)  # where a line or a sentence begins


class Arguments(griffe.Extension):
    """Makes an item of each argument, which goes on to the next one, to the end of the paragraph or to what it raises."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a class or a function."""
        if obj.docstring is None:
            return
        names = {parameter.name.lstrip("*") for parameter in getattr(obj, "parameters", [])}
        names |= set(obj.members) if obj.is_class else set()
        paragraphs = obj.docstring.value.split("\n\n")
        obj.docstring.value = "\n\n".join(_listed(paragraph, names) for paragraph in paragraphs)


def _listed(paragraph: str, names: set[str]) -> str:
    """The paragraph, with a list of the entries that it has, if it has any."""
    entries = [entry for entry in ENTRY.finditer(paragraph) if entry[1] in names]
    if not entries or paragraph.lstrip().startswith(("Args:", "Raises:", "Source:", "```")):
        return paragraph
    stops = [entry.start() for entry in entries[1:]] + [len(paragraph)]
    parts = [paragraph[: entries[0].start()].strip()]
    for entry, stop in zip(entries, stops, strict=True):
        item, raises, errors = paragraph[entry.end() : stop].partition("Raises ")
        parts.append(f"- `{entry[1]}`{entry[2]}: " + " ".join(item.split()))
        parts += [raises + " ".join(errors.split())] if raises else []
    return "\n\n".join(part for part in parts if part)
