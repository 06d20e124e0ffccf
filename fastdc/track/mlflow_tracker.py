"""Track runs in MLflow: one run per cell in experiment `fastdc/WORKDIR`.

The runs go to the server in MLFLOW_TRACKING_URI, or to `mlruns/` without one.
"""

import os
import shlex
import time
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from fastdc.track.tracker import Tracker, Values

LONGEST_PARAMETER = 500
STATES = {"done": "FINISHED", "interrupted": "KILLED"}


class MLflow(Tracker):
    """Tracker that logs metrics of each epoch, settings as parameters, and numbers of the result as `result.NAME`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        server = os.environ.get("MLFLOW_TRACKING_URI")
        if server is None:
            # MLflow's default, a database, needs packages that mlflow-skinny lacks.
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
            folder.mkdir(parents=True, exist_ok=True)
        store = (folder / "mlruns").absolute()
        self._client = MlflowClient(server or store.as_uri())
        name = f"fastdc/{folder.name}"
        self._experiment = self._find(name)
        look = f"MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {shlex.quote(str(store))}"
        self.where = f"experiment {name} at MLFLOW_TRACKING_URI" if server else look
        self._runs: dict[str, str] = {}

    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        run = self._client.create_run(self._experiment, run_name=cell, tags={"fastdc.key": key})
        self._runs[cell] = run.info.run_id
        settings = [Param(name, str(value)[:LONGEST_PARAMETER]) for name, value in labels.items()]
        self._client.log_batch(run.info.run_id, params=settings)

    def log(self, cell: str, epoch: int, seconds: float, values: Values) -> None:
        self._log(self._runs[cell], values, seconds, epoch)

    def finish(self, cell: str, state: str, values: Values) -> None:
        run = self._runs.pop(cell)
        self._log(run, {f"result.{name}": value for name, value in values.items()}, time.time(), 0)
        self._client.set_tag(run, "fastdc.state", state)
        self._client.set_terminated(run, STATES.get(state, "FAILED"))

    def _find(self, name: str) -> Any:
        """Return the id of the experiment, which is created if it does not exist."""
        if (found := self._client.get_experiment_by_name(name)) is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException:  # another sweep has just made it
                if (found := self._client.get_experiment_by_name(name)) is None:
                    raise
        return found.experiment_id

    def _log(self, run: str, values: Values, seconds: float, step: int) -> None:
        """Log all values in one request, because a server may be slow to reach. `seconds` counts since 1970."""
        self._client.log_batch(run, [Metric(name, value, int(seconds * 1000), step) for name, value in values.items()])
