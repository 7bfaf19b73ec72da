"""Tables in, tables out: scores as Parquet, Arrow, Feather and CSV, for tools that know nothing of a store; plans of tables."""

from adaptive_sampler.tables.planned.exporting import export_plan
from adaptive_sampler.tables.planned.folder import PlanFolder
from adaptive_sampler.tables.planned.keys import PlannedKeys
from adaptive_sampler.tables.planned.policy import Planned
from adaptive_sampler.tables.plans import plan_table

__all__ = ["PlanFolder", "Planned", "PlannedKeys", "export_plan", "plan_table"]
