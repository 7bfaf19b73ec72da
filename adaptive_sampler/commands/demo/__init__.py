"""`adaptive-sampler demo`: small networks trained on all, on random and on selected samples, and what each was worth."""

try:
    import matplotlib as _matplotlib  # noqa: F401 - only to see whether it is installed
    import sklearn as _sklearn  # noqa: F401 - as above
except ImportError as error:
    raise ImportError('The demo needs more: pip install "adaptive-sampler[torch,report]"') from error

from adaptive_sampler.commands.demo.command import DemoSettings, page, run

__all__ = ["DemoSettings", "page", "run"]
