"""Vega, Vega-Lite and Vega-Embed as one script that a page holds in itself, kept on disk because making it takes seconds."""

import contextlib
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path

import altair
import vl_convert
from platformdirs import user_cache_path

from adaptive_sampler.disk import write_whole

FOLDER = "ADAPTIVE_SAMPLER_CACHE"  # the variable of the environment that names another folder to keep it in
_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_END = "\n// whole\n"


@cache
def script() -> str:
    """The script, about 0.9 MB: made once a machine and release of the libraries, if a folder of the user's can be written."""
    release = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    folder = os.environ.get(FOLDER) or user_cache_path("adaptive-sampler", appauthor=False)
    kept = Path(folder) / f"vega-{release}-of-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        found = kept.read_text(encoding="utf-8")
        if found.endswith(_END):
            return found
    made = _closed(vl_convert.javascript_bundle(_SNIPPET, release)) + _END
    with contextlib.suppress(OSError):  # no home, or a full disk: each process makes it anew
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, [made.encode()])
    return made


def _closed(source: str) -> str:
    """The source without what would end, or open, an element of the page that it is put into."""
    return source.replace("</script", r"<\/script").replace("<!--", r"<\!--")
