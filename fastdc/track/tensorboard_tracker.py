"""Track runs in TensorBoard: event files in one folder per run under `tensorboard/`.

Needs neither torch nor TensorFlow.
"""

import re
import shlex
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from fastdc.track.tracker import Tracker, Values

TAGS = {"top1": "accuracy/top1", "loss": "train/loss", "lr": "train/lr", "images_per_second": "speed/images_per_second"}


class TensorBoard(Tracker):
    """Tracker that writes an event file per run.

    It holds scalars of every epoch, the settings as text, and numbers of the result under `result/`.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "tensorboard")
        self.where = f"tensorboard --logdir {shlex.quote(str(self.folder))}"
        self._writers: dict[str, EventFileWriter] = {}
        self._epochs: dict[str, int] = {}

    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        writer = EventFileWriter(str(self.folder / folder_name(cell, key)), flush_secs=10)
        self._writers[cell] = writer
        rows = "".join(f"| {name} | {value} |\n" for name, value in {**labels, "key": key}.items())
        writer.add_event(_event(0, _text("run", f"| setting | value |\n|---|---|\n{rows}")))
        writer.flush()

    def log(self, cell: str, epoch: int, seconds: float, values: Values) -> None:
        if cell not in self._epochs:  # if the run was started before, TensorBoard drops its old curve from here on
            self._writers[cell].add_event(Event(step=epoch, session_log=SessionLog(status=SessionLog.START)))
        self._epochs[cell] = epoch
        scalars = [Summary.Value(tag=TAGS.get(name, name), simple_value=value) for name, value in values.items()]
        self._writers[cell].add_event(_event(epoch, *scalars, seconds=seconds))

    def finish(self, cell: str, state: str, values: Values) -> None:
        scalars = [Summary.Value(tag=f"result/{name}", simple_value=value) for name, value in values.items()]
        writer = self._writers.pop(cell)
        writer.add_event(_event(self._epochs.pop(cell, 0), *scalars, _text("state", state)))
        writer.close()


def folder_name(cell: str, key: str) -> str:
    """Return the name of a run's folder: its name in portable characters, and the first digits of its key."""
    return f"{re.sub(r'[^A-Za-z0-9=._-]+', '_', cell)[:100].strip('._')}-{key[:8]}"


def _event(step: int, *values: Summary.Value, seconds: float | None = None) -> Event:
    return Event(wall_time=time.time() if seconds is None else seconds, step=step, summary=Summary(value=values))


def _text(tag: str, text: str) -> Summary.Value:
    kind = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    return Summary.Value(tag=tag, metadata=kind, tensor=TensorProto(dtype=DT_STRING, string_val=[text.encode()]))
