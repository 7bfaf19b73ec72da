"""The engines by the names that users give them."""

from typing import Any

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.tables.planning.engines import Engine, ThreadsEngine


def engine_of(name: Any) -> Engine:
    """The engine of this name. Raises `InvalidValue` for a name that is none, ImportError for one that is not installed."""
    if name == "arrow":
        return ThreadsEngine()
    if name == "ray":
        from adaptive_sampler.tables.planning.ray import RayEngine  # late: it imports Ray, and connects to a cluster

        return RayEngine()
    raise InvalidValue(f"engine={name!r}: one of 'arrow', 'ray'.")
