"""An epoch is over when its loop is over: any batch is a point to resume from, an epoch's last one and its end too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.utils.data import DataLoader
from torchdata.nodes import Batcher, Loader, Mapper, SamplerWrapper
from torchdata.stateful_dataloader import StatefulDataLoader

from adaptive_sampler import ScoreStore
from adaptive_sampler.selection import RandomPrune
from adaptive_sampler.torch import DistributedAdaptiveSampler, IndexedDataset, LossHook
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from tests.torch.training import data, new_store, tee

N, SIZE, EPOCHS = 46, 8, 3
Rows = list[list[int]]


class Run:
    """A process's loader over a plan of its own for each epoch; `walk` is a pass, as rows of each batch."""

    def __init__(
        self, store: ScoreStore, make: Callable[..., Any], *, ours: bool, drop_last: bool, ranks: int = 1
    ) -> None:
        self.sampler: Any = AdaptiveSampler(store, RandomPrune(0.8), seed=4)  # 37 rows: neither whole nor half batches
        self.inner = self.sampler
        if ranks > 1:
            self.sampler = DistributedAdaptiveSampler(self.sampler, num_replicas=ranks, rank=ranks - 1)
        dataset = IndexedDataset(data(N), store)
        drawn: dict[str, Any] = {"sampler": self.sampler, "batch_size": SIZE, "drop_last": drop_last}
        if ours:
            drawn = {"batch_sampler": self.sampler.batches(SIZE, drop_last=drop_last)}
        self.loader = make(dataset, **drawn)
        self.hook = LossHook(nn.CrossEntropyLoss(), store)
        self.stateful = hasattr(self.loader, "state_dict")

    def walk(self, epoch: int, told: bool, watched: bool) -> Any:
        """Yields each batch's rows while the loop holds that batch."""
        if told:
            self.sampler.set_epoch(epoch)
        note: Rows = []
        loader = tee(self.loader, note)
        for _ in self.hook.watch(loader) if watched else loader:
            if watched:
                self.hook.forget()
            yield note[-1]

    def state(self, watched: bool) -> str:
        if self.stateful:
            return json.dumps(self.loader.state_dict())
        delivered = {"delivered": self.hook.delivered} if watched else {}
        return json.dumps(self.sampler.state_dict(**delivered))

    def load(self, state: str) -> None:
        (self.loader if self.stateful else self.sampler).load_state_dict(json.loads(state))


def nodes(dataset: Any, restart: bool, *, sampler: Any, batch_size: int, drop_last: bool) -> Any:
    """torchdata's nodes, in one thread."""
    from torch.utils.data import default_collate

    batches = Batcher(Mapper(SamplerWrapper(sampler), dataset.__getitem__), batch_size, drop_last)
    return Loader(Mapper(batches, default_collate), restart_on_stop_iteration=restart)


LOADERS = {
    "plain": (DataLoader, {}),
    "plain, 2 workers": (DataLoader, {"num_workers": 2}),
    "plain, persistent": (DataLoader, {"num_workers": 1, "persistent_workers": True}),
    "stateful": (StatefulDataLoader, {}),
    "stateful, 1 worker": (StatefulDataLoader, {"num_workers": 1}),
    "stateful, 3 workers": (StatefulDataLoader, {"num_workers": 3}),
    "stateful, persistent": (StatefulDataLoader, {"num_workers": 1, "persistent_workers": True}),
    "stateful, every 4": (StatefulDataLoader, {"num_workers": 1, "snapshot_every_n_steps": 4}),
}
# loader, our batches, drop_last, ranks, set_epoch told, watched
CASES = [
    ("plain", False, False, 1, False, True),
    ("plain", False, True, 1, True, True),
    ("plain", True, True, 1, False, True),
    ("plain", False, True, 2, False, True),
    ("plain", False, False, 2, True, True),
    ("plain", False, False, 1, False, False),
    ("plain", False, True, 1, True, False),
    ("plain", False, True, 2, False, False),
    ("plain", True, False, 1, False, False),
    ("plain, 2 workers", False, True, 1, False, True),
    ("plain, 2 workers", True, False, 1, True, True),
    ("plain, persistent", False, True, 1, True, True),
    ("stateful", False, False, 1, False, True),
    ("stateful", False, True, 1, True, False),
    ("stateful", True, True, 1, False, False),
    ("stateful", False, True, 2, False, True),
    ("stateful, 1 worker", False, True, 1, False, True),
    ("stateful, 3 workers", True, True, 1, True, True),
    ("stateful, 3 workers", False, False, 1, False, False),
    ("stateful, persistent", False, True, 1, False, True),
    ("stateful, every 4", False, True, 1, False, True),
]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # on two cores
@pytest.mark.parametrize(("kind", "ours", "drop_last", "ranks", "told", "watched"), CASES)
def test_every_batch_of_every_epoch_and_every_end_is_a_point_to_resume_from(
    place: Path, kind: str, ours: bool, drop_last: bool, ranks: int, told: bool, watched: bool
) -> None:
    make, settings = LOADERS[kind]
    shape = {"ours": ours, "drop_last": drop_last, "ranks": ranks}
    store = new_store(place)

    def run() -> Run:
        return Run(store, lambda dataset, **drawn: make(dataset, **drawn, **settings), **shape)

    whole, points = [], []
    training = run()
    for epoch in range(EPOCHS):
        batches: Rows = []
        for rows in training.walk(epoch, told, watched):
            batches.append(rows)
            points.append((epoch, len(batches), training.state(watched)))
        whole.append(batches)
        points.append((epoch + 1, 0, training.state(watched)))
    assert {len(batches) for batches in whole} == {len(whole[0])}
    step = 1 if settings.get("num_workers", 0) == 0 else 2
    ends = [i for i, (_, done, _) in enumerate(points) if done in (0, len(whole[0]))]
    for epoch, done, state in [points[i] for i in sorted({*ends, *range(0, len(points), step)})]:
        again = run()
        again.load(state)
        rest = [list(again.walk(number, told, watched)) for number in range(epoch, EPOCHS)]
        expected = [part[done:] if number == epoch else part for number, part in enumerate(whole)][epoch:]
        assert rest == expected, f"resumed after batch {done} of epoch {epoch}"


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_nodes_go_through_each_epoch_once_wherever_they_resume(place: Path, drop_last: bool, restart: bool) -> None:
    """Their loader begins the next epoch by itself where nothing is left, and counts epochs for our sampler."""
    store = new_store(place)

    def run() -> Run:
        return Run(store, lambda dataset, **drawn: nodes(dataset, restart, **drawn), ours=False, drop_last=drop_last)

    training, whole, points = run(), [], []
    for epoch in range(EPOCHS):
        for rows in training.walk(epoch, told=False, watched=True):
            whole.append(rows)
            points.append((len(whole), training.state(watched=True)))
        points.append((len(whole), training.state(watched=True)))
    for done, state in points:
        again, rest = run(), []
        again.load(state)
        while len(rest) < len(whole) - done:
            rest += again.walk(0, told=False, watched=True)
        assert rest[: len(whole) - done] == whole[done:], f"resumed after batch {done}"
