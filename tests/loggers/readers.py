"""Read back what TensorBoard, Weights & Biases and MLflow wrote, from their files."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEAD = 1 << 15, 7  # of a .wandb file, a log as LevelDB writes it


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) of each event that TensorBoard finds in a folder."""
    events = _events(folder)
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def histograms_of(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """Tag -> (step, histogram) of each event that TensorBoard finds in a folder."""
    events = _events(folder)
    return {tag: [(e.step, e.histogram_value) for e in events.Histograms(tag)] for tag in events.Tags()["histograms"]}


def _events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
    events.Reload()
    return events


def history_of(folder: Path) -> list[dict[str, Any]]:
    """The entries of the history of the one offline run in a folder."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # waits for its service, which may still write the file when the run has finished
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    found = []
    for data in _records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            found.append(_entry(record.history.item))
    return found


def _entry(items: Any) -> dict[str, Any]:
    """An entry, in which the parts of a histogram are one dict."""
    entry: dict[str, Any] = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        at = entry
        for name in outer:
            at = at.setdefault(name, {})
        at[last] = json.loads(item.value_json)
    return entry


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a log: each in one piece or in several, which end where a block of 32 KiB does."""
    at, whole = _HEAD, b""
    while at < len(data):
        if (room := _BLOCK - at % _BLOCK) < _HEAD:
            at += room
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + _HEAD])
        whole += data[at + _HEAD : at + _HEAD + length]
        at += _HEAD + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield whole
            whole = b""
