"""`plan_table` as users call it: PyArrow is imported by the call."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptive_sampler.tables.planning.table_plan import TablePlan


def plan_table(
    source: Any,
    policy: Any,
    *,
    key: str,
    seed: int = 0,
    epoch: int = 0,
    engine: Any = "arrow",
    check_keys: bool | None = None,
) -> "TablePlan":
    """Plan one epoch over a table that need not fit in memory: the same rows as `policy.plan` of a store with these scores.

    `source`: the path of a .parquet, .feather, .arrow or .csv file or of a folder of them, a table with the Arrow C interface, or a
    list of these; a partition is one file or table. `policy`: `KeepAll`, `RandomPrune`, `Prune`, `Window`, `Exclude`, `Threshold`,
    `Upsample`, `Draw`, or several of them composed by `&`; `by` and `per_group` name columns. Scores are compared as float32; a
    null or NaN was never observed. `key`: the column that names lines, of texts (the keys of a store that has keys) or of integers
    (the row numbers of one that has none). `seed`, `epoch`: as a policy takes them. `engine`: "arrow", the threads of this process,
    or "ray", the tasks of the Ray cluster that this process is connected to, or of the one that `ray.init()` finds or starts; then
    `source` may also be a `ray.data.Dataset`, whose blocks are the partitions. `check_keys`: whether a key that comes twice is
    looked for; None: in tables of up to 4 Mi lines.

    The rows are the same on any number of partitions in any order. Raises `InvalidValue`, naming file, row group and line, for
    what a plan cannot be made of, and for a file that is changed meanwhile; ImportError, naming the extra, if PyArrow or Ray is
    not installed; and `WorkerLost` if workers of a cluster die again and again.
    """
    from adaptive_sampler.tables.planning import table_plan  # needs PyArrow, which only the extra `tables` installs

    return table_plan.plan_table(source, policy, key=key, seed=seed, epoch=epoch, engine=engine, check_keys=check_keys)
