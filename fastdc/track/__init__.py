"""Publish what happens while networks train to trackers (TensorBoard, Weights & Biases, MLflow) and logs.

`events` collects the events and `trackers` passes them on to trackers. Neither changes a result or can end a run.
"""

from fastdc.track.events import Event, emit, listening, one_run
from fastdc.track.trackers import TRACKERS, check_trackers, tracking
from fastdc.track.watch import watching

__all__ = ["TRACKERS", "Event", "check_trackers", "emit", "listening", "one_run", "tracking", "watching"]
