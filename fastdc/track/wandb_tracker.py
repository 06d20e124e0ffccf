"""Track runs in Weights & Biases: one run per cell, grouped by workdir; offline in `wandb/` if no key is found.

wandb's own variables apply: WANDB_API_KEY (or its netrc line), WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, WANDB_BASE_URL.
"""

import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import wandb

from fastdc.track.tracker import Tracker, Values

INIT_SECONDS = 30.0
DEFAULT_HOST = "https://api.wandb.ai"


class WeightsAndBiases(Tracker):
    """Tracker that sends scalars and settings, but no code, git state, console output or machine statistics."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.mode: Any = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
        kept = f"kept in {folder / 'wandb'}, `wandb sync` sends it"
        self.where = kept if self.mode == "offline" else f"mode {self.mode}, group {folder.name}"
        self._runs: dict[str, wandb.Run] = {}
        self._settings = wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,  # a remote's address may hold a password
            disable_job_creation=True,
            init_timeout=INIT_SECONDS,
            x_disable_meta=True,
            x_disable_stats=True,
        )

    def start(self, cell: str, key: str, labels: dict[str, Any]) -> None:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "fastdc",
            name=cell,
            group=self.folder.name,
            dir=self.folder,
            config={**labels, "key": key},
            mode=self.mode,
            reinit="create_new",  # several runs may be open at once
            settings=self._settings,
        )
        run.define_metric("*", step_metric="epoch")
        self._runs[cell] = run

    def log(self, cell: str, epoch: int, seconds: float, values: Values) -> None:
        self._runs[cell].log({"epoch": epoch, **values})

    def finish(self, cell: str, state: str, values: Values) -> None:
        run = self._runs.pop(cell)
        run.summary.update({**values, "state": state})
        run.finish(exit_code=int(state != "done"))


def has_key() -> bool:
    """Return whether wandb would find an API key, in its variable or in a netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or DEFAULT_HOST).hostname or ""
    for name in filter(None, (os.environ.get("NETRC"), "~/.netrc", "~/_netrc")):
        try:
            if netrc.netrc(Path(name).expanduser()).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
