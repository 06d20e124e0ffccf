"""Plan a grid of runs, run it and keep the results in a store. Importing this package does not import torch."""

from fastdc.sweep.cells import make_plan
from fastdc.sweep.plan import Cell, Plan
from fastdc.sweep.run_cells import Outcome, run_sweep
from fastdc.sweep.store.results import Record, Store
from fastdc.sweep.sweep_config import SweepConfig, load_config

__all__ = ["Cell", "Outcome", "Plan", "Record", "Store", "SweepConfig", "load_config", "make_plan", "run_sweep"]
