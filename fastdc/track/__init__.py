"""What happens while networks train, told to who listens: trackers (TensorBoard, Weights & Biases, MLflow) and logs.

`events` is where the news goes, `tracking` hands it to trackers. Neither changes a result, nor can either end a run.
"""

from fastdc.track.events import Event, emit, listening, one_run
from fastdc.track.trackers import TRACKERS, check_trackers, tracking
from fastdc.track.watching import watching

__all__ = ["TRACKERS", "Event", "check_trackers", "emit", "listening", "one_run", "tracking", "watching"]
