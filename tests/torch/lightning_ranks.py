"""Lightning among ranks that a test has started."""

import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment


class Environment(LightningEnvironment):
    """The ranks are started by the test."""

    def __init__(self) -> None:
        super().__init__()
        self._global_rank, self._world_size = dist.get_rank(), dist.get_world_size()

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def global_rank(self) -> int:
        return dist.get_rank()

    def local_rank(self) -> int:
        return dist.get_rank()

    def world_size(self) -> int:
        return dist.get_world_size()
