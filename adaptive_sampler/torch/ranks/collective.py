"""The one door to torch's collectives: if a rank is gone, every other one raises an error that names it."""

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from adaptive_sampler.errors import RankLost

_LONGEST_NAP = 0.05  # seconds between two looks at a collective that takes its time
_LATE = 0.1  # of the time that a collective took on a GPU, as much later at most is its end seen
_PATIENCE = 5.0  # seconds in which ranks that live and wait answer a roll call, if the group's timeout leaves as many
_TIMELY = (
    0.9  # of the group's timeout, after which a roll is called: before torch acts, which under NCCL ends the process
)
_KEY = "adaptive_sampler/lost"


class Gathering:
    """The arrays of all ranks, (ranks, …), which must have the same shape, on their way while the caller goes on."""

    def __init__(self, values: Any, group: Any) -> None:
        """Begin. Raises as `arrived` does."""
        group = dist.group.WORLD if group is None else group
        on_gpu = dist.get_backend(group) == "nccl"
        device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        self._ours = torch.as_tensor(np.asarray(values)).to(device).contiguous()  # kept, as it is still to be read
        self._gathered = torch.empty((group.size(), *self._ours.shape), dtype=self._ours.dtype, device=device)
        self._roll = _Roll(group, device)
        with self._naming():
            self._work = dist.all_gather([*self._gathered], self._ours, group, async_op=True)

    def arrived(self) -> torch.Tensor:
        """Wait for the arrays -> them on the CPU. Raises `RankLost` if a rank has died, or does not come within the group's
        timeout."""
        with self._naming():
            self._roll.wait(self._work)
        return self._gathered.cpu()

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Raise `RankLost`, which names the rank, from what torch raises."""
        try:
            yield
        except RuntimeError as error:  # so are all errors of gloo, of NCCL and of torch's stores
            raise RankLost(
                f"{self._roll.call()}, so this rank cannot go on. What was committed is whole: start the processes again, as "
                "many as you like, and open the last commit (distributed_store with exist_ok=True) or a checkpoint's (version=)."
            ) from error


def gather(values: Any, group: Any) -> torch.Tensor:
    """(ranks, …) on the CPU: the arrays of all ranks, which must have the same shape. Raises as `Gathering.arrived` does."""
    return Gathering(values, group).arrived()


def gather_texts(text: str, group: Any) -> list[str]:
    """The texts of all ranks."""
    ours = np.frombuffer(text.encode(), np.uint8)
    lengths = gather([len(ours)], group)[:, 0].tolist()
    if not max(lengths):
        return [""] * len(lengths)
    texts = gather(np.pad(ours, (0, max(lengths) - len(ours))), group).numpy()
    return [line[:length].tobytes().decode() for line, length in zip(texts, lengths, strict=True)]


class _Roll:
    """Finds out which rank is gone, through the store in which the ranks of the group have met.

    gloo tells a rank that a connection of its broke, but not to which rank; NCCL tells nobody before the timeout. So a
    rank that is told notes that in the store. The others see it while they wait, note it too, and raise as well. A rank
    that notes nothing is gone.
    """

    def __init__(self, group: Any, device: torch.device) -> None:
        self._rank, self._ranks, self._store = group.rank(), group.size(), group.get_group_store()
        self._wakes = device.type == "cpu"  # whoever waits; on a GPU waiting would only queue what comes next
        timeout = group._get_backend(device).options._timeout.total_seconds()  # torch shows it nowhere else
        self._end = time.monotonic() + timeout
        self._timely = time.monotonic() + timeout * _TIMELY

    def wait(self, work: Any) -> None:
        """Wait for a collective. Raises `RuntimeError` if it fails, here or on another rank, or takes too long."""
        start = time.monotonic()
        while not work.is_completed():
            nap = _LONGEST_NAP if self._wakes else min(1e-5 + _LATE * (time.monotonic() - start), _LONGEST_NAP)
            if not self._wakes:
                time.sleep(nap)
            else:
                with contextlib.suppress(RuntimeError):  # time is over, or it failed, as the last line says again
                    work.wait(timedelta(seconds=nap))
            if nap < _LONGEST_NAP or work.is_completed():  # a look into the store costs a round trip
                continue
            if self._store.check([_KEY]):
                raise RuntimeError("another rank noticed that a rank is gone")
            if time.monotonic() > self._timely:
                raise RuntimeError("a rank did not come within the group's timeout")
        work.wait()

    def call(self) -> str:
        """Call the roll -> who is gone, in words."""
        try:
            silent = self._silent()
        except RuntimeError:  # in a TCPStore that torchrun does not keep, rank 0's process does
            return "rank 0 is gone, and the store of the process group with it"
        if not silent:
            return "every rank answers, but the connection between two of them broke"
        if len(silent) == 1:
            return f"rank {silent[0]} is gone: it does not answer"
        return f"ranks {', '.join(map(str, silent))} do not answer: each is gone, or was not waiting for the others"

    def _silent(self) -> list[int]:
        """The ranks that note nothing while this one waits."""
        self._store.set(f"{_KEY}/{self._rank}", "")
        noted, end = self._store.add(_KEY, 1), min(time.monotonic() + _PATIENCE, self._end)
        while noted < self._ranks - 1 and time.monotonic() < end:
            time.sleep(_LONGEST_NAP)
            noted = self._store.add(_KEY, 0)
        silent = [rank for rank in range(self._ranks) if not self._store.check([f"{_KEY}/{rank}"])]
        time.sleep(2 * _LONGEST_NAP)  # the others still read a store that may end with this process
        return silent
