"""Write the study's README.md, with a section for every question."""

from collections import Counter
from collections.abc import Mapping, Sequence

from fastdc.common.text import plain
from fastdc.report.paired_tests import seeds_for_claims
from studies.blocks import Wanted
from studies.cells import NOTHING, Study, environments, heading, interval, markdown, mean_text, side_name, signed
from studies.entropies import entropy_table
from studies.results import Compared, Result, baseline_of, compare, contrast, tables_of
from studies.specs import Contrast, Question, Table, Value
from studies.verdicts import Judged, absent

PAPER = "ImageNet-1K, 224 px, resnet18, 300 epochs in batches of 128 (`hard`), fp32"


def page(study: Study) -> str:
    """Return the text of README.md."""
    parts = [_opening(study), _claims(study)]
    parts += [_question(study, question) for question in study.questions.questions]
    parts += [_not_run(study), _environment(study)]
    return "\n\n".join(parts) + "\n"


def _opening(study: Study) -> str:
    done = len(study.wanted) - len(study.missing)
    return (
        f"# The study: {study.name}\n\n"
        "`python benchmarks/study.py draw` writes this page, the figures and all CSV files from `rows.jsonl`. Change "
        "`study.yaml` (what runs), `questions.yaml` (tables) or `claims.yaml` (claims) instead.\n\n"
        f"{done} of the {len(study.wanted)} rows that `study.yaml` asks for have run. PCA (Prune, Combine, Augment) is "
        "the method of the paper, arXiv 2502.06434: the easiest real images, tiled 2 x 2, cropped inside a tile. PACT "
        "(Pack And Crop Tiles) is fastdc's own. The observer is the network whose training gives the scores; what the "
        "paper leaves open is marked as inferred.\n\n"
        "Accuracies are top-1 in percent on the validation set after the last epoch: mean ± half of the 95 % t "
        "interval over n seeds; one seed has no interval. Differences are paired by seed. The accuracy of the best "
        "epoch is biased upwards; it is listed for reference and enters no test. Bytes are those of the stored images "
        "+ those of their labels. Each seed has an observer of its own. Crops: `method` is what each method asks for, "
        "`protocol` crops every set from the whole stored image, `tile:2` every set inside tiles of 2 x 2. The paper's "
        f"setting is {PAPER}; what differs stands above each table."
    )


# -------------------------------------------------------------------------------------------------------- claims


def _claims(study: Study) -> str:
    spec = study.claims
    needed = seeds_for_claims(len(spec.claims), spec.level)
    counts = Counter(each.verdict for each in study.judged)
    lines = [
        "## Claims",
        "",
        f"`claims.yaml` lists {len(spec.claims)} claims: "
        + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        + f". A verdict needs {spec.pairs} paired seeds and p < {spec.level:g} after Holm's correction over all of "
        f"them{_seeds_read(spec.seeds)}. p is two-sided, from the exact sign-flip test on the paired differences. With "
        f"n pairs it cannot fall below 2 / 2^n; under Holm with {len(spec.claims)} claims that takes at least {needed} "
        "pairs. A claim that has not run counts as p = 1. "
        f"A claim's axes, where it names no others: {heading(spec.column)}." + (f" {spec.note}" if spec.note else ""),
        "",
    ]
    header = ("claim", "column", "A", "B", "n", "A - B", "95 % interval", "p", "p (Holm)", "verdict")
    return "\n".join([*lines, *markdown(header, [_claim_line(study, each) for each in study.judged])])


def _seeds_read(seeds: Sequence[int]) -> str:
    return f"; it reads {_seeds(seeds)} alone" if seeds else ""


def _claim_line(study: Study, each: Judged) -> list[str]:
    claim, pairs = each.claim, each.found.pairs
    sides = [side_name(claim.a), side_name(claim.b)]
    verdict = f"**{each.verdict}**" + (f" ({each.why})" if each.why else "")
    values = [pairs.n, signed(pairs.mean), interval(pairs)] if pairs else [0, NOTHING, NOTHING]
    numbers = [NOTHING if value is None else f"{value:.3g}" for value in (each.p, each.adjusted)]
    return [claim.statement, heading(claim.column), *sides, *map(str, values), *numbers, verdict]


# ----------------------------------------------------------------------------------------------------- questions


def _question(study: Study, question: Question) -> str:
    parts = [f"## {question.id}. {question.title}"]
    parts += [question.note] if question.note else []
    parts += [f"![{alt}](figures/{name})" for name, alt in _figures(study, question)]
    tables = [_shown_table(study, spec, *found) for spec in question.tables for found in tables_of(study.results, spec)]
    parts += [text for text in tables if text]
    parts += _contrasts(study, question)
    parts += [entropy_table(study.entropies)] if question.entropy and study.entropies else []
    if len(parts) == 1 + bool(question.note):
        parts.append(f"**Not run.** {_how_to_run(question)}")
    return "\n\n".join(parts)


def _how_to_run(question: Question) -> str:
    if question.entropy:
        return "There is no `entropy.csv`; `python benchmarks/study.py entropy` writes it."
    return "No block of `study.yaml` asks for such rows."


def _figures(study: Study, question: Question) -> list[tuple[str, str]]:
    return [(name, alt) for name, (owner, alt) in sorted(study.figures.items()) if owner == question.id]


def _shown_table(study: Study, spec: Table, shared: Mapping[str, Value], lines: Sequence[Result]) -> str:
    """Return one table under its heading, or a single line if nothing ran."""
    if not any(line.runs for line in lines):
        names = ", ".join(dict.fromkeys(f"`{line.axes['method']}`" for line in lines))
        return f"**{heading(shared)}: not run** ({names})."
    compared = (f"difference to {side_name(spec.baseline)}", "95 % interval", "pairs")
    axes = ("crops" if axis == "augment" else axis for axis in spec.lines)
    header = (*axes, "n", "top-1 %", "best epoch", *compared, "bytes", "remarks")
    body = [_line(study, spec, line) for line in lines]
    return "\n".join([f"**{heading(shared)}**{_reduced(lines)}", "", *markdown(header, body)])


def _line(study: Study, spec: Table, line: Result) -> list[str]:
    values = {axis: NOTHING if line.axes[axis] is None else line.axes[axis] for axis in spec.lines}
    names = [f"`{value}`" if axis == "method" else str(value) for axis, value in values.items()]
    mean, best = line.mean(), line.mean("top1_best")
    if mean is None or best is None or line.shown is None:
        return [*names, f"0 of {len(line.seeds)}", "not run", *[NOTHING] * 5, ""]
    pairs = compare(line, baseline_of(study.results, line, spec.baseline)).pairs
    compared = [signed(pairs.mean), interval(pairs), str(pairs.n)] if pairs else [NOTHING] * 3
    count = f"{mean.n} of {len(line.seeds)}" if line.missing else str(mean.n)
    size = f"{line.shown.image_bytes or 0:,}" + (f" + {line.shown.label_bytes:,}" if line.shown.label_bytes else "")
    return [*names, count, mean_text(mean), f"{best.mean:.2f}", *compared, size, _remarks(line)]


def _remarks(line: Result) -> str:
    """Return remarks on a line: how it is smaller than its paper's, its observer and teacher, inferred settings."""
    shown = line.shown
    assert shown is not None
    parts = list(shown.reduced)
    parts += [f"observer: {shown.observer}"] if shown.observer else []
    parts += [f"labels: {shown.labels} of {shown.teacher}"] if shown.teacher else []
    # Runs of older versions of fastdc name fewer settings.
    inferred = max((row["label"].get("inferred", []) for row in line.runs.values()), key=len)
    parts += [f"inferred: {', '.join(inferred)}"] if inferred else []
    return plain("; ".join(parts))


def _reduced(lines: Sequence[Result]) -> str:
    """Return how a table's trainings differ from the paper's, according to the rows' labels."""
    shown = [line.shown for line in lines if line.shown is not None]
    first = shown[0]
    batches = sorted({int(row["label"]["batch"]) for line in lines for row in line.runs.values()})
    parts = [first.dataset, f"{first.image_size} px", first.arch, f"{first.epochs} epochs"]
    parts += [f"batches of {' and '.join(map(str, batches))}", first.precision]
    return f" (here {', '.join(parts)}; the paper: {PAPER})"


def _contrasts(study: Study, question: Question) -> list[str]:
    if not question.contrasts:
        return []
    lines = [_contrast_line(each, contrast(study.results, study.questions.column, each)) for each in question.contrasts]
    header = ("effect", "A", "B", "n", "A - B", "95 % interval")
    column = heading(study.questions.column)
    title = f"**Effects, paired by seed** (the axes of an effect that names no others: {column})"
    return ["\n".join([title, "", *markdown(header, lines)])]


def _contrast_line(spec: Contrast, found: Compared) -> list[str]:
    pairs = found.pairs
    name = spec.name + (f" ({heading(spec.column)})" if spec.column else "")
    values = (
        [str(pairs.n), signed(pairs.mean), interval(pairs)] if pairs else ["0", f"not run ({absent(found)})", NOTHING]
    )
    return [name, side_name(spec.a), side_name(spec.b), *values]


# ------------------------------------------------------------------------------------------- not run, environment


def _not_run(study: Study) -> str:
    """Return the section on requested rows that have not run, block by block."""
    parts = ["## Not run"]
    if not study.missing:
        return "\n\n".join([*parts, "Every row that `study.yaml` asks for has run."])
    blocks: dict[tuple[int, str], dict[str, list[int]]] = {}
    for each in study.missing:
        augment = "" if each.axes.augment == "method" else f", crops: {each.axes.augment}"
        setting = f"`{each.axes.method}`{augment}, {_short(each)}"
        blocks.setdefault((each.block, each.name), {}).setdefault(setting, []).append(each.seed)
    for (number, name), settings in sorted(blocks.items()):
        lines = [f"* {setting}: {_seeds(seeds)}" for setting, seeds in settings.items()]
        parts.append("\n".join([f"Block {number}, {name}:", "", *lines]))
    return "\n\n".join(parts)


def _short(each: Wanted) -> str:
    axes = each.axes
    return heading({axis: getattr(axes, axis) for axis in ("ipc", "protocol", "arch", "image_size", "precision")})


def _seeds(seeds: Sequence[int]) -> str:
    ordered = sorted(seeds)
    run = ordered == list(range(ordered[0], ordered[-1] + 1)) and len(ordered) > 2
    text = f"{ordered[0]} to {ordered[-1]}" if run else ", ".join(map(str, ordered))
    return f"seed{'s' if len(ordered) > 1 else ''} {text}"


def _environment(study: Study) -> str:
    lines = [
        "## How it was run",
        "",
        "`python benchmarks/study.py run` in a clone with `data/imagenette` written by `writers/imagenette.py`; "
        "`environment.json` has the libraries. `python benchmarks/study.py verify 3` trains three rows again. A "
        "modified checkout differs from its commit: `run` itself rewrites the committed rows and this page.",
        "",
    ]
    body = [
        [*(str(each[name]) for name in ("rows", "device_name", "threads", "fastdc")), _commit(str(each["git"]))]
        for each in environments(study.rows)
    ]
    return "\n".join([*lines, *markdown(("rows", "machine", "threads", "fastdc", "commit"), body)])


def _commit(described: str) -> str:
    """Return a commit in short, as `git describe --dirty` names it."""
    return described[:12] + (" (modified)" if described.endswith("-dirty") else "")
