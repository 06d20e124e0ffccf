"""Record in the work folder which sweeps ran there, with every choice that the machine made for them."""

import json
from pathlib import Path
from typing import Any

from fastdc.common.errors import StoreError
from fastdc.common.files import write_atomic
from fastdc.common.keys import content_key
from fastdc.common.precision import resolve_precision
from fastdc.subsets.external_names import without_home
from fastdc.sweep.plan import Plan
from fastdc.sweep.sweep_config import SweepConfig

FOLDER = "sweeps"
FIELDS = ("config", "device", "train", "val")


def record_sweep(config: SweepConfig, plan: Plan) -> None:
    """Write DIR/sweeps/KEY.json, unless an equal sweep wrote it before.

    It holds the configuration with `auto`, 0 and a chosen observer replaced by their values, and the content hashes of
    the data, so that the sweep gives the same keys in another folder and on another machine.

    Raises:
        OutputError: the disk is full.
    """
    fixed = {
        "threads": plan.threads,
        "precision": resolve_precision(plan.config.precision, plan.device),
        "observer": plan.observer.model_dump(mode="json"),
        "train": config.train.absolute(),
        "val": None if config.val is None or config.holdout else config.val.absolute(),
        "workdir": config.workdir.absolute(),
        "methods": tuple(map(without_home, config.methods)),
    }
    # Trackers are no part of a result. Records are older than `compile`, and must not change without it.
    left_out = {"track"} | (set() if config.compile else {"compile"})
    values = config.model_copy(update=fixed).model_dump(mode="json", exclude=left_out)
    train = plan.train.content_hash if plan.holdout is None else plan.holdout.content_hash
    val = plan.val.content_hash if plan.holdout is None else None
    record = {"config": values, "device": plan.device, "train": train, "val": val}
    path = config.workdir / FOLDER / f"{content_key(record, 12)}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, (json.dumps(record, sort_keys=True, indent=1) + "\n").encode())


def read_records(workdir: Path) -> list[dict[str, Any]]:
    """Return the sweeps that were recorded in a work folder, in an order that depends on their content alone.

    Raises:
        StoreError: a record is damaged.
    """
    records = []
    for path in sorted((workdir / FOLDER).glob("*.json")):
        try:
            record = json.loads(path.read_bytes())
            missing = [field for field in FIELDS if field not in record]
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{path}: damaged record of a sweep ({error}); remove it and run the sweep again"
            ) from error
        if missing:
            raise StoreError(f"{path}: lacks {', '.join(missing)}; remove it and run the sweep again")
        records.append(record)
    return records
