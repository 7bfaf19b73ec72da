"""Fresh processes of tests are forks of one server, which has loaded what they all need and has run none of it."""

import sys
from multiprocessing import forkserver

USERS = {"tests.resume", "tests.torch.processes"}
NEEDED = [
    *("numba", "torch.distributed", "torchdata.stateful_dataloader", "accelerate", "webdataset", "lightning"),
    *("transformers.trainer", "adaptive_sampler.torch", "adaptive_sampler.torch.lightning"),
    *("adaptive_sampler.torch.transformers", "adaptive_sampler.testing", "tests.torch.training"),
    *("tests.resume.loaders", "tests.resume.by_lightning", "tests.resume.by_trainer"),
]


def begin() -> None:
    """Begin the server, if a test that was collected forks from it. It loads what these tests have loaded here.

    multiprocessing has one server a process, which loads what is asked for when it begins: were it begun by the first test
    that needs one, Lightning and the Trainer would be loaded anew, for seconds, in each process of the others.
    """
    if USERS & sys.modules.keys():
        forkserver.set_forkserver_preload([*(module for module in NEEDED if module in sys.modules), "tests.frozen"])
        forkserver.ensure_running()
