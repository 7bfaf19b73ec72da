"""That a training goes on exactly wherever it is stopped."""

import multiprocessing

# Each check has fresh processes: let them be forked from one that has loaded what they all need.
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["numba", "torchdata.stateful_dataloader", "accelerate", "webdataset", "adaptive_sampler.testing"]
    + [f"tests.resume.{module}" for module in ("loaders", "by_lightning", "by_trainer")]
)
