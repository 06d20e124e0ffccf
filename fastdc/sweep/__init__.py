"""Plan a grid of runs, run it and keep the results in a store. Importing this package does not import torch."""

from fastdc.sweep.config import SweepConfig, load_config
from fastdc.sweep.plan import Cell, Plan, make_plan
from fastdc.sweep.run import Outcome, run_sweep
from fastdc.sweep.store import Record, Store

__all__ = ["Cell", "Outcome", "Plan", "Record", "Store", "SweepConfig", "load_config", "make_plan", "run_sweep"]
