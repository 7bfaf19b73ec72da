"""The scores as a table in memory, for PyArrow and pandas: what `export` writes to a file, without the file."""

from typing import Any, Protocol

from adaptive_sampler.memory.body import Body
from adaptive_sampler.plan import Plan
from adaptive_sampler.tables.blocks import blocks, columns_of
from adaptive_sampler.tables.names import KEY, ROW, about


class Framed(Protocol):
    """A store whose scores become a table."""

    @property
    def session(self) -> Any: ...
    @property
    def path(self) -> Any: ...
    @property
    def version(self) -> int: ...


def to_arrow(store: Framed, *, plan: Plan | None = None, state: bool = False) -> Any:
    """The scores as a `pyarrow.Table`: the columns row, key (if the store has keys), one for each score and each column of
    your own.

    A score is float32, and null where the row was never observed. `plan`: its rows alone, with the columns repeats and
    loss_weight; None for all rows. `state`: also what a store needs to go on from the table, as in `export`, such as
    `loss/count`; `ScoreStore.from_table` then gives the store back to the bit. Columns are named as in `export`.

    The table is a copy, which later updates do not change. `schema.metadata` says of which `adaptive_sampler.store` and
    `adaptive_sampler.version` it is, and how many `adaptive_sampler.updates` came since. Raises ImportError without PyArrow,
    the extra `tables`.
    """
    try:
        from adaptive_sampler.tables.arrow import files
    except ImportError as error:
        raise ImportError('store.to_arrow() needs PyArrow: pip install "adaptive-sampler[tables]"') from error
    body: Body = store.session.drained.body
    columns = [c for c in columns_of(body, state) if plan is not None or c.name not in ("repeats", "loss_weight")]
    said = {f"adaptive_sampler.{name}".encode(): str(value).encode() for name, value in _origin(store).items()}
    return files.in_memory(columns, blocks(body, plan, columns), about(body, None if plan is None else plan.id) | said)


def to_pandas(store: Framed, *, plan: Plan | None = None, state: bool = False) -> Any:
    """The scores as a `pandas.DataFrame`, indexed by key where the store has keys, which leaves row a column, else by row.

    A score is float32, and NaN where the row was never observed. `plan`, `state`: as for `to_arrow`. The frame is a copy, which
    later updates do not change; its `attrs` say of which `store` and `version` it is, and how many `updates` came since. Raises
    ImportError without pandas or PyArrow.
    """
    try:
        import pandas  # noqa: F401 - PyArrow imports it, and would not say what is missing
        import pyarrow  # noqa: F401
    except ImportError as error:
        remedy = 'pip install "adaptive-sampler[tables]" pandas'
        raise ImportError(f"store.to_pandas() needs pandas and PyArrow: {remedy}") from error
    frame = to_arrow(store, plan=plan, state=state).to_pandas()
    frame = frame.set_index(KEY if store.session.keys is not None else ROW)
    frame.attrs = _origin(store)
    return frame


def _origin(store: Framed) -> dict[str, Any]:
    """What a table says of where it is from."""
    return {"store": str(store.path), "version": store.version, "updates": store.session.updates}
