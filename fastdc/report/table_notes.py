"""Notes below a table: missing runs, external sets, inferred settings, teachers, and the cost of the observer."""

from collections.abc import Iterable

from fastdc.common.text import plain
from fastdc.report.row_texts import duration, ipc_text, mixed
from fastdc.report.rows import Row, shared_observer
from fastdc.train.protocol_names import inferred_of

STORAGE_RULE = (
    "storage: {names}: own bytes, as imported; other rows: JPEG of quality 75, 4:2:0, unless their method differs"
)
SIZE_RULE = "size: JPEGs count as stored; raw pixels count as PNG"


def notes(rows: list[Row]) -> list[str]:
    """Return the notes below a table, one line each.

    They cover missing runs with their reasons, external sets, means over different machines, inferred and reduced
    settings of methods and protocols, the teacher and its labels, the rule for sizes, and the observer and its cost.
    """
    lines = [f"{plain(row.method)} ipc {ipc_text(row)}: {plain(row.reason)}" for row in rows if row.reason]
    lines += [
        plain(f"* {row.method} ipc {ipc_text(row)}: mean over runs on different machines: {', '.join(row.machines)}")
        for row in rows
        if mixed(row)
    ]
    lines += external_notes(rows)
    lines += _storage_note(rows)
    inferred = {row.method: row.inferred for row in rows if row.inferred}
    for method, names in inferred.items():
        verb = "is" if len(names) == 1 else "are"
        lines.append(plain(f"{method}: {', '.join(names)} {verb} inferred, not published"))
    reduced = {(row.method, row.reduced): None for row in rows if row.reduced}
    lines += [plain(f"{method}: reduced: {', '.join(texts)}") for method, texts in reduced]
    lines += _protocol_notes(rows)
    lines += _label_notes(rows)
    if any(row.n for row in rows):
        lines.append(SIZE_RULE)
    for text in dict.fromkeys(row.observer for row in rows if row.observer):
        lines.append(plain(f"observer: {text}"))
    ledger = shared_observer(rows)
    if ledger is not None:
        lines.append(
            f"one observer ({duration(ledger.seconds)}) serves {ledger.methods} methods; one for each would take "
            f"{duration(ledger.alone)}, {ledger.alone / ledger.seconds:.1f} times as long"
        )
    return lines


def external_notes(rows: Iterable[Row]) -> list[str]:
    """Return a note on each external set: its file, and its images per class if they differ."""
    lines = []
    for row in rows:
        if row.external is not None:
            images = "" if row.images is None else f", {row.images:,} in all"
            counts = "" if row.per_class is None else f"; {row.per_class} images per class{images}"
            lines.append(plain(f"{row.shown}: {row.external}{counts}"))
    return list(dict.fromkeys(lines))


def _storage_note(rows: list[Row]) -> list[str]:
    """Return a note if a table has imported betons beside images that fastdc encoded."""
    imported = [row for row in rows if row.n and (row.external or "").startswith("beton ")]
    names = ", ".join(dict.fromkeys(row.method for row in imported))
    return [plain(STORAGE_RULE.format(names=names))] if 0 < len(imported) < sum(row.n > 0 for row in rows) else []


def _protocol_notes(rows: list[Row]) -> list[str]:
    """Return notes on settings of the table's protocols that no source states."""
    inferred = {name: inferred_of(name) for name in dict.fromkeys(row.protocol for row in rows)}
    return [
        plain(f"protocol {name}: {', '.join(settings)} inferred, not published")
        for name, settings in inferred.items()
        if settings
    ]


def _label_notes(rows: list[Row]) -> list[str]:
    """Return notes on the teachers of a table, and on the meaning of its label bytes and times."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        if row.n and row.teacher is not None:
            trained = f"trained in {duration(row.teacher_seconds)}" if row.teacher_seconds else "pretrained"
            text = f"{row.teacher}, {trained}" + (f"; {row.teacher_note}" if row.teacher_note else "")
            methods.setdefault(text, []).append(row.method)
    several = len(methods) > 1
    lines = [
        plain(f"teacher{' of ' + ', '.join(dict.fromkeys(names)) if several else ''}: {text}")
        for text, names in methods.items()
    ]
    kinds = {row.labels for row in rows if row.n}
    if "online" in kinds:
        lines.append(
            "Labels are not stored; their size is that of fp16 logits for every image and epoch. "
            "Training time includes relabelling."
        )
    if "stored" in kinds:
        lines.append("labels stored: made once for each stored set, whatever trains on it; relabel comes before train")
    return lines
