"""Streams: the same training from WebDataset shards. Do the bytes that are read fall with the share that is kept?

60,000 raw images lie in six tar shards, 2.5 kB per sample with its headers. The rows with the highest loss are kept. The
first epoch trains on everything, and each later epoch is planned anew.
"""

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import webdataset as wds
from torch import Tensor, nn

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.scoring import Loss
from adaptive_sampler.selection import Prune
from adaptive_sampler.shards import ShardIndex
from adaptive_sampler.torch import LossHook
from adaptive_sampler.webdataset import PlannedShards
from benchmarks.evidence.runs import Question, Records, Run, Trial, colours, draw, shown, spread, values
from benchmarks.evidence.training import BATCH, Images, Training, accuracy, network, normalised
from benchmarks.harness import Row

EPOCHS, SHARDS, MAX_AGE = 6, 6, 3
KEEP = (1.0, 0.7, 0.5, 0.3)
ABOUT = (
    "Six epochs, from tar shards and from memory, by the same policy: the given share of highest loss, after an epoch on "
    "everything. Megabytes read in the last epoch, test accuracy in %. Mean ± standard error."
)


def runs(trial: Trial) -> Iterator[Run]:
    """Yield the runs of one seed: each share, streamed and from memory."""
    for keep in KEEP:
        for source in ("shards", "memory"):
            yield {"keep": keep, "from": source}, partial(trained, trial, keep, source == "shards")


@dataclass
class Epochs:
    """A stream's loader that notes, at the end of each epoch, how many bytes the epoch has read."""

    shards: PlannedShards
    loader: Any
    read: list[int]

    def __iter__(self) -> Iterator[Any]:
        yield from self.loader
        self.read.append(self.shards.counts.bytes_read)

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Set the loader's epoch."""
        self.loader.set_epoch(epoch)


def trained(trial: Trial, keep: float, streamed: bool) -> Row:
    """Train -> accuracy, samples and seconds; of a streamed training also the bytes that each epoch read."""
    data = trial.data.train
    store = ScoreStore.create(None, len(data), [Loss()])
    sampler = AdaptiveSampler(store, Prune(keep, "loss", max_age=MAX_AGE), seed=trial.seed, warmup_epochs=1)
    stream = None
    if streamed:
        index = shards_of(trial, data)
        planned = PlannedShards(index, sampler)
        stream = Epochs(planned, planned.loader(batch_size=BATCH, collate_fn=collated), [])
    hook = LossHook(nn.CrossEntropyLoss(), store, sampler=sampler)
    training = Training(data, sampler, network(trial.seed), trial.epochs, hook, stream)
    start = time.process_time()
    training.fit()
    seconds = time.process_time() - start
    found: Row = {"samples": training.samples, "seconds": seconds}
    if stream is not None:
        found |= {"bytes": stream.read}
    return found | {"accuracy": accuracy(training.model, trial.data.test)}


def shards_of(trial: Trial, data: Images) -> ShardIndex:
    """The index of the images as tar shards. The shards are written at the first call."""
    folder = trial.folder / "shards"
    if not (folder / "index").exists():
        folder.mkdir(exist_ok=True)
        for number, rows in enumerate(np.array_split(np.arange(len(data)), SHARDS)):
            with wds.TarWriter(str(folder / f"{number}.tar"), mtime=0) as writer:
                for row in rows.tolist():
                    pixels, label = data.images[row].numpy().tobytes(), int(data.labels[row])
                    writer.write({"__key__": f"{row:06d}", "bin": pixels, "cls": label})
    return ShardIndex.build(f"{folder}/{{0..{SHARDS - 1}}}.tar", folder / "index")


def collated(samples: list[Row]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Raw samples -> (rows, (images, labels)), decoded as a whole batch."""
    pixels = torch.frombuffer(bytearray(b"".join(s["bin"] for s in samples)), dtype=torch.uint8).view(-1, 28, 28)
    labels = torch.tensor([int(s["cls"]) for s in samples])
    return torch.tensor([s["__index__"] for s in samples]), (normalised(pixels), labels)


def megabytes(records: Records, keep: float) -> np.ndarray:
    """(seeds,) megabytes read in the last epoch."""
    read: np.ndarray = values(records, "bytes", keep=keep, **{"from": "shards"})[:, -1] / 1e6
    return read


def table(records: Records) -> list[Row]:
    """A row for each share."""
    rows: list[Row] = []
    for keep in KEEP:
        row: Row = {"kept": f"{keep:.0%}", "MB read": shown(megabytes(records, keep), digits=1)}
        row["of everything, %"] = shown(100 * megabytes(records, keep) / megabytes(records, 1.0), digits=1)
        for source in ("shards", "memory"):
            row[f"accuracy, {source}"] = shown(values(records, keep=keep, **{"from": source}))
            row[f"seconds, {source}"] = shown(values(records, "seconds", keep=keep, **{"from": source}), digits=1)
        rows.append(row)
    return rows


def findings(records: Records) -> list[str]:
    """Whether the bytes fall with the share, and whether a stream is as good as memory."""
    said = []
    for keep in KEEP[1:]:
        read = 100 * megabytes(records, keep) / megabytes(records, 1.0)
        met = "met" if abs(spread(read)[0] - 100 * keep) <= 1 else "not met"
        said.append(
            f"{keep:.0%} kept: {shown(read, digits=1)} % of the bytes are read; fall with the share (within 1 point): {met}."
        )
    for keep in KEEP:
        ours, memory = (values(records, keep=keep, **{"from": source}) for source in ("shards", "memory"))
        said.append(
            f"{keep:.0%} kept: accuracy from shards {shown(ours - memory, signed=True)} points from that from memory."
        )
    return said


def figure(records: Records, file: Any) -> None:
    """Draw the bytes read in the last epoch, and the accuracy, against the share kept."""

    def lines(left: Any, right: Any) -> None:
        kept = [100 * keep for keep in KEEP]
        means, errors = zip(*(spread(megabytes(records, keep)) for keep in KEEP), strict=True)
        left.errorbar(kept, means, errors, color=colours()[5], marker="o", capsize=3)
        for source, colour in (("shards", colours()[5]), ("memory", colours()[0])):
            means, errors = zip(*(spread(values(records, keep=k, **{"from": source})) for k in KEEP), strict=True)
            right.errorbar(kept, means, errors, color=colour, marker="o", capsize=3, label=source)
        left.set(xlabel="share kept in %", ylabel="MB read in the last epoch", ylim=(0, None))
        right.set(xlabel="share kept in %", ylabel="test accuracy in %")
        right.legend(fontsize=8, loc="upper left")

    draw(file, lines, panels=2)


QUESTION = Question("streams", "From WebDataset shards", ABOUT, runs, table, findings, figure, epochs=EPOCHS)

if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=ResourceWarning)  # WebDataset leaves its shards open
    QUESTION.main()
