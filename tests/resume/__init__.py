"""That a training goes on exactly wherever it is stopped."""

import multiprocessing

# Each check has fresh processes: let them be forked from one that has loaded what they all need.
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["torch.distributed", "adaptive_sampler.torch", "adaptive_sampler.testing", "tests.torch.training"]
)
