"""What an error says of a key that comes more than once: as another sample, or because parts of one lie apart."""

from typing import NamedTuple

from adaptive_sampler.shards.errors import DuplicateKey


class Keyed(NamedTuple):
    """A sample with a key that another has too: its row, its shard's URL and its part names."""

    row: int
    url: str
    parts: tuple[str, ...]


def repeated_key(key: str, first: Keyed, second: Keyed, count: int) -> DuplicateKey:
    """The error for `count` rows whose key came before, of which `second` is the first; `first` has it, too."""
    together = first.url == second.url
    if together and key.endswith("/") and first.parts[:1] and first.parts[0].startswith("_"):
        return DuplicateKey(
            f"{second.url}: files like {key + '.' + first.parts[0]!r} lie among the samples, and {count} rows repeat a key: "
            "macOS writes such a file beside each other one (AppleDouble). Pack with COPYFILE_DISABLE=1 in the "
            "environment, or with tar --exclude='._*'; a handler that returns True takes these files for samples."
        )
    if together and not set(first.parts) & set(second.parts):
        return DuplicateKey(
            f"{second.url}: parts of sample {key!r} lie apart: {', '.join(first.parts)} (row {first.row}) and "
            f"{', '.join(second.parts)} (row {second.row}), with members of other samples between; {count} rows are "
            "such pieces, or repeat a key. Pack with tar --sort=name (GNU tar), because only adjacent members form a sample; a "
            "handler that returns True keeps every piece as a sample."
        )
    return DuplicateKey(
        f"key {key!r} names row {first.row} in {first.url} and row {second.row} in {second.url}; {count} rows repeat a key. "
        "Write the shards with distinct keys; a handler that returns True keeps all samples, told apart by their rows only."
    )
